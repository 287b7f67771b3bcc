"""V21: a read has the form of its meter: no more digits than dials, no finer than its last digit, from that meter."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from pydantic import Field

from meterpulse.model.channel import Kind
from meterpulse.vee import Context, Findings, Outcome, Profile, Rule, Settings
from meterpulse.vee.drop import modulus_of
from meterpulse.vee.runs import any_known, collect, outside


class FormatSettings(Settings):
    """`decimals` that a read has at most, in the channel's unit; none: any number of them."""

    decimals: int | None = Field(None, ge=0, le=9)


class Format(Rule):
    """Evidence: the value, and the largest that the dials show; or the value, and it cut to its decimals; in thousandths
    of the base unit. Of another meter: 0 and 1.
    """

    number = 21
    settings = FormatSettings
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: FormatSettings) -> Outcome:
        """Single reads; where the meter is another one, all judged intervals."""
        traits, n = profile.traits, len(profile)
        judged = profile.first, profile.after
        known = any_known(profile.quality, *judged, np.empty(n, bool))
        found, applies = [Findings.none()], np.zeros(n, bool)
        if traits.kind is Kind.register and traits.digits is not None:
            largest = modulus_of(traits.unit, traits.digits) - 1
            bounds = np.full(n, -(2**63), np.int64), np.full(n, largest, np.int64)
            table = collect(outside, profile.quantity, profile.quality, *judged, *bounds)
            found.append(Findings.of_table(21, table, settings.status))
            applies |= known
        if settings.decimals is not None:
            found.append(self._too_fine(profile, settings, settings.decimals))
            applies |= known
        if context.meter_matches is not None:
            row = np.flatnonzero(~context.meter_matches)
            found.append(Findings.of(21, row, *judged, settings.status, np.zeros(len(row)), 1))
            applies[:] = True
        return Outcome(applies, Findings.concat(found))

    def _too_fine(self, profile: Profile, settings: FormatSettings, decimals: int) -> Findings:
        """Values between two steps of the last digit. Units that are no power of ten were rounded on arrival and are
        compared with the nearest thousandth.
        """
        step = profile.traits.unit.scale / 10**decimals
        if step <= 1:
            return Findings.none()
        judged = slice(profile.first, profile.after)
        quantity = profile.quantity[:, judged]
        steps = quantity // int(step) if step.denominator == 1 else _nearest(quantity, step)
        cut = steps * int(step) if step.denominator == 1 else _times(steps, step)
        row, column = np.nonzero((quantity != cut) & (profile.quality[:, judged] != -1))
        first = column + profile.first
        return Findings.of(21, row, first, first + 1, settings.status, quantity[row, column], cut[row, column])


def _nearest(quantity: np.ndarray, step: Fraction) -> np.ndarray:
    return np.array([round(int(q) / step) for q in quantity.ravel()], np.int64).reshape(quantity.shape)


def _times(steps: np.ndarray, step: Fraction) -> np.ndarray:
    return np.array([round(int(s) * step) for s in steps.ravel()], np.int64).reshape(steps.shape)
