"""V17: a usage point's channels come together, and agree: power factor, apparent power, demand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
from pydantic import Field

from meterpulse.model.channel import Kind
from meterpulse.model.window import HOUR_MS
from meterpulse.vee import Context, Findings, Outcome, Profile, Rule, Settings, Sibling
from meterpulse.vee.amounts import Amount, Factor, floor_times, thousandths
from meterpulse.vee.runs import collect, compiled, put


class SiblingsSettings(Settings):
    """The least power factor; how many times its demand an interval may have used; and a floor, an hour's worth, below
    which the power factor of an idle home says nothing.
    """

    power_factor: Factor = Field(Decimal("0.5"), gt=0, le=1)
    margin: Factor = Decimal("1.02")
    floor: Amount = "0.5 kWh"


class Siblings(Rule):
    """Evidence, missing: intervals in which a sibling has no value, and how many there may be (0). Reactive: its quantity,
    and the most that the power factor allows. Apparent, demand: the energy, and the most that they allow.
    """

    number = 17
    settings = SiblingsSettings

    def check(self, profile: Profile, context: Context, settings: SiblingsSettings) -> Outcome:
        """Runs of intervals in which a configured sibling is missing; single intervals that do not agree."""
        if not context.siblings or profile.traits.kind is not Kind.interval:
            return Outcome.not_applicable(profile)
        found, applies = [], np.zeros(len(profile), bool)
        for sibling in context.siblings:
            applies |= sibling.configured
            found.append(collect(_absent, profile.quality, sibling.quality, sibling.configured, *_judged(profile)))
            found.append(self._disagreeing(profile, sibling, settings))
        return Outcome(applies, Findings.of_table(17, np.concatenate(found), settings.status))

    def _disagreeing(self, profile: Profile, sibling: Sibling, settings: SiblingsSettings) -> np.ndarray:
        """int64[k, 5]"""
        margin, hours = Fraction(settings.margin), Fraction(profile.step_ms, HOUR_MS)
        energy, other, least = profile.quantity, sibling.quantity, 0
        if sibling.role == "reactive":
            factor, measured, allowed = _tangent(settings.power_factor), other, energy
            least = int(thousandths(settings.floor) * hours)
        elif sibling.role == "apparent":
            factor, measured, allowed = margin, energy, other
        elif sibling.role == "demand":  # mW, and a mW for an hour is a mWh
            factor, measured, allowed = margin * hours, energy, other
        else:
            return np.empty((0, 5), np.int64)
        suspect = np.zeros(len(profile), bool)
        _suspect(measured, allowed, float(factor), *_judged(profile), suspect)
        rows = np.flatnonzero(suspect & sibling.configured)
        own = rows, slice(*_judged(profile))
        both = (profile.quality[own] != -1) & (sibling.quality[own] != -1)
        if sibling.role == "reactive":
            both &= energy[own] >= least
        size = np.abs(measured[own]) if sibling.role == "reactive" else measured[own]
        limit = floor_times(np.maximum(allowed[own], 0), factor)
        row, column = np.nonzero(both & (size > limit))
        first = column + profile.first
        return np.stack([rows[row], first, first + 1, size[row, column], limit[row, column]], axis=1).astype(np.int64)


def _judged(profile: Profile) -> tuple[int, int]:
    return profile.first, profile.after


def _tangent(power_factor: Decimal) -> Fraction:
    """Reactive by active energy at a power factor, to a millionth: tan(acos(factor))."""
    sine = (1 - power_factor * power_factor).sqrt()
    return Fraction((sine / power_factor).quantize(Decimal("0.000001")))


@compiled
def _absent(quality, other, configured, first, after, table):  # type: ignore[no-untyped-def]
    k = 0
    for r in range(len(quality)):
        if not configured[r]:
            continue
        begin = -1
        for c in range(first, after + 1):
            if c < after and quality[r, c] != -1 and other[r, c] == -1:
                begin = c if begin < 0 else begin
            elif begin >= 0:
                k = put(table, k, r, begin, c, c - begin, 0)
                begin = -1
    return k


@compiled
def _suspect(measured, allowed, factor, first, after, out):  # type: ignore[no-untyped-def]
    """Rows in which anything may be too much: in floating point and with a margin, so that few need exact arithmetic."""
    factor *= 1 - 1e-9
    for r in range(len(measured)):
        hits = 0
        for c in range(first, after):
            hits += abs(measured[r, c]) >= max(allowed[r, c], 0) * factor - 1
        out[r] = hits > 0
