"""V11: intervals add up to what the register says, and the registers of the tariff times to the total."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from meterpulse.model.channel import Kind
from meterpulse.vee import UNKNOWN, Context, Findings, Outcome, Profile, RegisterSpans, Rule, Settings
from meterpulse.vee.amounts import Factor, floor_times
from meterpulse.vee.runs import compiled


class SumSettings(Settings):
    """The two may differ by `register_units` steps of the register's last digit."""

    register_units: Factor = Decimal(2)


class Sum(Rule):
    """Evidence: the sum of the intervals (or of the tariff registers), and the register's difference, in thousandths.

    Where intervals are missing, those that are there may not be more than the register's difference; whether they are
    too few cannot be said.
    """

    number = 11
    settings = SumSettings

    def check(self, profile: Profile, context: Context, settings: SumSettings) -> Outcome:
        """Spans between two register reads that touch the judged intervals and lie in the known ones."""
        spans = context.registers
        if spans is None or profile.traits.kind is not Kind.interval:
            return Outcome.not_applicable(profile)
        low, high = spans.first.astype(np.int64), spans.after.astype(np.int64)
        there = (low >= 0) & (high <= profile.quantity.shape[1]) & (high > profile.first) & (low < profile.after)
        tolerance = floor_times(spans.resolution, settings.register_units)
        total, missing = np.zeros(len(low), np.int64), np.zeros(len(low), np.int64)
        at = np.flatnonzero(there)
        _sums(profile.quantity, profile.quality, spans.row, low, high, at, total, missing)
        too_many = total > spans.quantity + tolerance
        too_few = (total < spans.quantity - tolerance) & (missing == 0)
        fails = there & (too_many | too_few)
        judged = there & ((missing == 0) | too_many)
        found = [self._found(spans, fails, total, settings)]
        if spans.tariffs is not None:
            known = there & (spans.tariffs != UNKNOWN)
            differs = known & (np.abs(np.where(known, spans.tariffs, 0) - spans.quantity) > tolerance)
            found.append(self._found(spans, differs, spans.tariffs, settings))
            judged |= known
        applies = np.zeros(len(profile), bool)
        applies[spans.row[judged]] = True
        return Outcome(applies, Findings.concat(found))

    def _found(self, spans: RegisterSpans, which: np.ndarray, measured: np.ndarray, settings: SumSettings) -> Findings:
        columns = spans.row[which], spans.first[which], spans.after[which]
        return Findings.of(11, *columns, settings.status, measured[which], spans.quantity[which])


@compiled
def _sums(quantity, quality, row, low, high, at, total, missing):  # type: ignore[no-untyped-def]
    for s in at:
        for c in range(low[s], high[s]):
            if quality[row[s], c] == -1:
                missing[s] += 1
            else:
                total[s] += quantity[row[s], c]
