"""Means of reference days, which several estimators share: they differ in which days they take."""

from __future__ import annotations

import numpy as np

from meterpulse.vee.estimation import Filling
from meterpulse.vee.gaps import NO_DAY, Gaps, Known
from meterpulse.vee.runs import compiled
from meterpulse.vee.slots import NO_COLUMN

NEVER = 2**62  # rank of a day that is not taken


def means(known: Known, gaps: Gaps, rank: np.ndarray, days: int, quality: int, reach: int) -> Filling:
    """The mean, at the same time of day, of the `days` days of least rank; a half is rounded up.

    rank int64[d, d]: of reference day (column) for estimated day (row), NEVER where it is not taken; the earlier day
    wins among equals. A day with fewer than `days` of them within `reach` days is not told.
    """
    slots = known.slots
    value = np.zeros(gaps.offset[-1], np.int64)
    told = np.zeros(gaps.offset[-1], bool)
    spanned = slots.day_of[gaps.after - 1] - slots.day_of[gaps.first] + 1
    used = np.full((len(gaps), int(spanned.max()) * days), NO_DAY, np.int32)
    _means(
        known.profile.quantity, known.reference, rank, slots.day, slots.day_of, slots.slot_of, slots.column,
        gaps.row, gaps.first, gaps.after, gaps.offset, days, reach, value, told, used,
    )  # fmt: skip
    return Filling(value, told, quality, used)


@compiled
def _means(  # type: ignore[no-untyped-def]
    quantity, reference, rank, day, day_of, slot_of, column, row, first, after, offset, days, reach, value, told, used
):
    best = np.empty(days, np.int64)
    for g in range(len(row)):
        noted = 0
        low = first[g]
        while low < after[g]:
            d = day_of[low]
            high = low
            while high < after[g] and day_of[high] == d:
                high += 1
            found = _nearest(quantity, reference[row[g]], rank[d], slot_of[low:high], column, d, reach, best)
            if found == days:
                for c in range(low, high):
                    total = 0
                    for e in best:
                        total += quantity[row[g], column[e, slot_of[c]]]
                    value[offset[g] + c - first[g]] = (2 * total + days) // (2 * days)
                    told[offset[g] + c - first[g]] = True
                for e in best:
                    used[g, noted] = day[e]
                    noted += 1
            low = high


@compiled
def _nearest(quantity, reference, rank, slot, column, d, reach, best):  # type: ignore[no-untyped-def]
    """Fills `best` with the days of least rank that have all the slots; how many there are."""
    found = 0
    for e in range(max(d - reach, 0), min(d + reach + 1, len(rank))):
        if e == d or not reference[e] or rank[e] == NEVER:
            continue
        whole = True
        for s in slot:
            whole = whole and column[e, s] != NO_COLUMN
        if not whole:
            continue
        at = found if found < len(best) else found - 1
        if found == len(best) and rank[e] >= rank[best[at]]:
            continue
        while at > 0 and rank[best[at - 1]] > rank[e]:
            best[at] = best[at - 1]
            at -= 1
        best[at] = e
        found = min(found + 1, len(best))
    return found


def same_type(known: Known) -> np.ndarray:
    """bool[d, d]: days of the same type."""
    return known.day_type[:, None] == known.day_type[None, :]


def apart(known: Known) -> np.ndarray:
    """int64[d, d], how many days lie between."""
    day = known.slots.day.astype(np.int64)
    return np.abs(day[:, None] - day[None, :])
