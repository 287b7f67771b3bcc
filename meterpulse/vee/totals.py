"""Daily totals of the past and of the judged days as one series, for rules that compare days."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meterpulse.vee import UNKNOWN, Context, Profile
from meterpulse.vee.calendar import Days, days_of
from meterpulse.vee.runs import compiled, day_totals


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Totals by local day, ascending; `judged` are the positions of the whole days that the profile judges."""

    day: np.ndarray  # int32[s]
    total: np.ndarray  # int64[n, s], UNKNOWN
    days: Days  # d of them
    judged: np.ndarray  # int64[d], positions in `day`


def series_of(profile: Profile, context: Context) -> Series:
    """What the history knows of other days, and the profile's own whole days."""
    days = days_of(profile).wholes()
    own = np.empty((len(profile), len(days.day)), np.int64)
    day_totals(profile.quantity, profile.quality, days.first, days.after, UNKNOWN, own)
    history = context.history
    if history is None:
        return Series(days.day, own, days, np.arange(len(days.day)))
    other = ~np.isin(history.day, days.day)
    day = np.concatenate([history.day[other], days.day])
    order = np.argsort(day, kind="stable")
    # Nearly always the history is all older: then nothing needs to be picked.
    before = history.total if other.all() else history.total[:, other]
    total = np.concatenate([before, own], axis=1)
    if not np.array_equal(order, np.arange(len(day))):
        day, total = day[order], np.ascontiguousarray(total[:, order])
    return Series(day, total, days, np.searchsorted(day, days.day))


def sums_over(total: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64[n, q] sums, int64[n, q] how many are known) over positions [low[q], high[q])."""
    sums, known = (np.zeros((len(total), len(low)), np.int64) for _ in range(2))
    _sums(total, low, high, UNKNOWN, sums, known)
    return sums, known


@compiled
def _sums(total, low, high, unknown, sums, known):  # type: ignore[no-untyped-def]
    for r in range(len(total)):
        for q in range(len(low)):
            s, k = 0, 0
            for i in range(low[q], high[q]):
                is_known = total[r, i] != unknown
                s += total[r, i] * is_known
                k += is_known
            sums[r, q], known[r, q] = s, k
