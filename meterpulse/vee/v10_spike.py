"""V10: the highest value of a day is not far above the third highest (CPUC's spike check)."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Literal

import numpy as np

from meterpulse.model.channel import Kind
from meterpulse.model.window import HOUR_MS
from meterpulse.vee import Context, Findings, Outcome, Profile, Rule
from meterpulse.vee.amounts import Amount, Factor, PerUtility, floor_times
from meterpulse.vee.calendar import days_of
from meterpulse.vee.runs import compiled


class SpikeSettings(PerUtility):
    """A spike has (highest - third) / third above `k`. Highest values below the floor (an hour's worth, in proportion to
    the interval) are not looked at. `over` a local day, or everything that is judged.
    """

    k: Factor = Decimal("1.8")
    floor_electricity: Amount = "0.5 kWh"
    floor_gas: Amount = "2 m3"
    floor_water: Amount = "1 m3"
    over: Literal["day", "all"] = "day"
    values_min: int = 12


class Spike(Rule):
    """Evidence: the highest value, and third highest x (1 + k), in thousandths of the base unit."""

    number = 10
    settings = SpikeSettings

    def check(self, profile: Profile, context: Context, settings: SpikeSettings) -> Outcome:
        """The highest value of each day or of the whole, the first one where several are as high."""
        traits = profile.traits
        floor = settings.amount("floor", traits.utility, traits.unit)
        if traits.kind is not Kind.interval or floor is None:
            return Outcome.not_applicable(profile)
        low, high = self._sets(profile, settings)
        n, d = len(profile), len(low)
        top, third, at, known = (np.zeros((n, d), np.int64) for _ in range(4))
        _peaks(profile.quantity, profile.quality, low, high, top, third, at, known)
        limit = floor_times(np.maximum(third, 0), 1 + Fraction(settings.k))
        least = int(floor * Fraction(profile.step_ms, HOUR_MS))
        enough = known >= max(settings.values_min, 3)
        inside = (at >= profile.first) & (at < profile.after)
        row, day = np.nonzero(enough & inside & (top > limit) & (top >= least))
        first = at[row, day]
        found = Findings.of(10, row, first, first + 1, settings.status, top[row, day], limit[row, day])
        return Outcome.where(enough, found)

    def _sets(self, profile: Profile, settings: SpikeSettings) -> tuple[np.ndarray, np.ndarray]:
        if settings.over == "all":
            return np.array([profile.first], np.int32), np.array([profile.after], np.int32)
        days = days_of(profile).wholes()
        return days.first, days.after


@compiled
def _peaks(quantity, quality, low, high, top, third, at, known):  # type: ignore[no-untyped-def]
    for r in range(len(quantity)):
        for d in range(len(low)):
            a = b = c = -(2**62)
            where, count = -1, 0
            for i in range(low[d], high[d]):
                v = quantity[r, i]
                if quality[r, i] == -1:
                    continue
                count += 1
                if v > c:
                    if v > a:
                        a, b, c = v, a, b
                        where = i
                    elif v > b:
                        b, c = v, b
                    else:
                        c = v
            top[r, d], third[r, d], at[r, d], known[r, d] = a, c, where, count
