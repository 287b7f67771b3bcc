"""V16: a register that shows less than before has rolled over, dipped, or begun anew; only the last needs an event."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np

from meterpulse.model.channel import Kind
from meterpulse.model.window import HOUR_MS
from meterpulse.vee import UNKNOWN, Context, Decision, Findings, Outcome, Profile, Rule, Settings, Status
from meterpulse.vee.amounts import Factor, floor_times
from meterpulse.vee.drop import NO_ROLLOVER, decision_of, modulus_of
from meterpulse.vee.runs import any_known, compiled


class DropSettings(Settings):
    """A rollover comes from above `rollover_from` and goes below `rollover_to` of the register's range; a dip stays at or
    above `dip` of what was shown. A step is plausible up to the service's rating x time x `margin`, where it is known.
    """

    rollover_from: Factor = Decimal("0.9")
    rollover_to: Factor = Decimal("0.1")
    dip: Factor = Decimal("0.9")
    margin: Factor = Decimal("1.1")


class Drop(Rule):
    """Evidence: of a rollover, the consumption and the register's range; else the new index and the one before, all in
    thousandths as shown. The decision says which. A rollover and an exchange are in order, a dip and a reset are not.
    """

    number = 16
    settings = DropSettings

    def check(self, profile: Profile, context: Context, settings: DropSettings) -> Outcome:
        """Single reads, each compared with the last one before it that was not a dip."""
        if profile.traits.kind is not Kind.register:
            return Outcome.not_applicable(profile)
        modulus = modulus_of(profile.traits.unit, profile.traits.digits)
        rollover = 0 if modulus == NO_ROLLOVER else modulus
        bands = int(rollover * Fraction(settings.rollover_from)), -int(-rollover * Fraction(settings.rollover_to) // 1)
        if not rollover:
            bands = NO_ROLLOVER, 0
        share, per_step = Fraction(settings.dip), self._per_step(profile, context, settings)
        exchanged = np.zeros(profile.quantity.shape, bool)
        if context.exchanges is not None:
            for row, low, high in zip(
                context.exchanges.row, context.exchanges.first, context.exchanges.after, strict=True
            ):
                exchanged[row, max(low, 0) : max(high, 0)] = True
        arguments = (
            profile.quantity, profile.quality, profile.first, profile.after, modulus, per_step, exchanged, *bands,
            share.numerator, share.denominator,
        )  # fmt: skip
        table = np.empty((64, 6), np.int64)
        found = _drops(*arguments, table)
        if found > len(table):
            table = np.empty((found, 6), np.int64)
            _drops(*arguments, table)
        table = table[:found]
        fine = np.isin(table[:, 5], (Decision.ROLLOVER, Decision.EXCHANGE))
        status = np.where(fine, Status.PASS, settings.status)
        row, first, after, measured, limit, decision = table.T
        findings = Findings.of(16, row, first, after, status, measured, limit, decision)
        return Outcome(any_known(profile.quality, profile.first, profile.after, np.empty(len(profile), bool)), findings)

    def _per_step(self, profile: Profile, context: Context, settings: DropSettings) -> np.ndarray:
        """int64[n]: the largest plausible consumption in one column, as shown; NO_ROLLOVER where it is not known."""
        most = np.full(len(profile), NO_ROLLOVER, np.int64)
        if context.rating is not None:
            known = context.rating != UNKNOWN
            share = Fraction(settings.margin) * Fraction(profile.step_ms, HOUR_MS) / profile.traits.multiplier
            most[known] = floor_times(context.rating[known], share) + 1
        return most


@compiled
def _drops(  # type: ignore[no-untyped-def]
    quantity, quality, first, after, modulus, per_step, exchanged, upper, lower, dip_num, dip_den, table
):
    k = 0
    for r in range(len(quantity)):
        before, since, event = -1, 0, False
        for c in range(after):
            event |= exchanged[r, c]
            if quality[r, c] == -1:
                continue
            now = quantity[r, c]
            if before >= 0:
                steps = c - since
                most = per_step[r] * steps if per_step[r] < modulus // max(steps, 1) else modulus
                dip = before // dip_den * dip_num + -(-(before % dip_den) * dip_num // dip_den)
                decision = decision_of(before, now, modulus, most, event, upper, lower, dip)
                if decision and c >= first:
                    if k < len(table):
                        row = table[k]
                        row[0], row[1], row[2], row[3], row[4], row[5] = r, c, c + 1, now, before, decision
                        if decision == 2:
                            row[3], row[4] = now + modulus - before, modulus
                    k += 1
                if decision == 1:
                    continue  # held: the next read is compared with the index before the dip
            before, since, event = now, c, False
    return k
