"""How alike days are around a gap: the points of reference days, and the weights that follow."""

from __future__ import annotations

import numpy as np

from meterpulse.vee.runs import compiled
from meterpulse.vee.slots import NO_COLUMN

POINTS = 64  # points that halve a weight
HEAVIEST = 1 << 10  # the weight of the best day; so sums of weighted quantities stay within 64 bits
UNKNOWN_SHARE = 4  # where nothing is known around the gap, every day counts as differing by a quarter


@compiled
def weigh(  # type: ignore[no-untyped-def]
    quantity, sound, reference, day_type, weekday, day_of, slot_of, column, row, first, after, within, prices, shift,
    weight,
):  # fmt: skip
    """Fills shift and weight (int64[k, e]) of each gap: the e best reference days, by how many days they are away."""
    half_life, other_type, other_weekday, unlikeness, around = prices
    for g in range(len(row)):
        r, a, b = row[g], first[g], after[g]
        d, last = day_of[a], day_of[b - 1]
        low, high = max(-within, -d), min(within, len(day_type) - 1 - last)
        values = roots(quantity[r], day_of, d - within, last + within)
        level = _level(values, sound[r], day_of, d - within, last + within, a, b)
        if level == 0:
            continue
        points = np.empty(max(high - low + 1, 0), np.int64)
        away = np.empty_like(points)
        n = 0
        for k in range(low, high + 1):
            if (d + k <= last and last + k >= d) or not _all(reference[r], d + k, last + k):
                continue
            p = abs(k) * POINTS // half_life
            p += other_type * (int(day_type[d] != day_type[d + k]) + int(day_type[last] != day_type[last + k])) // 2
            p += other_weekday * int(weekday[d] != weekday[d + k])
            p += _unlike(values, sound[r], day_of, slot_of, column, a, b, k, around, unlikeness, level)
            points[n], away[n] = p, k
            n += 1
        best = np.argsort(points[:n], kind="mergesort")[: shift.shape[1]]
        for place in range(len(best)):
            shift[g, place] = away[best[place]]
            weight[g, place] = _weight(points[best[place]] - points[best[0]])


@compiled
def roots(values, day_of, low, high):  # type: ignore[no-untyped-def]
    """256 times the square roots of the days [low, high]: in roots a kettle counts, and does not outweigh a whole night."""
    out = np.zeros(len(values), np.int64)
    for c in range(len(values)):
        if low <= day_of[c] <= high:
            size = int(np.sqrt(abs(values[c]) * 65536.0))
            out[c] = size if values[c] >= 0 else -size
    return out


@compiled
def _level(values, sound, day_of, low, high, a, b):  # type: ignore[no-untyped-def]
    """The mean size of the roots of the days [low, high], at least 1; 0 where none is known."""
    total, n = 0, 0
    for c in range(len(values)):
        if low <= day_of[c] <= high and sound[c] and not a <= c < b:
            total += abs(values[c])
            n += 1
    return 0 if n == 0 else max(total // n, 1)


@compiled
def _all(reference, low, high):  # type: ignore[no-untyped-def]
    for d in range(low, high + 1):
        if not reference[d]:
            return False
    return True


@compiled
def _unlike(values, sound, day_of, slot_of, column, a, b, k, around, unlikeness, level):  # type: ignore[no-untyped-def]
    """Points for the hours around the gap [a, b) against the same hours k days away; the nearer the gap, the more."""
    differs, weights = 0, 0
    for j in range(around):
        for c in (a - 1 - j, b + j):
            if c < 0 or c >= len(values) or not sound[c]:
                continue
            day = day_of[c] + k
            if day < 0 or day >= len(column):
                continue
            e = column[day, slot_of[c]]
            if e == NO_COLUMN or not sound[e]:
                continue
            differs += (around - j) * abs(values[c] - values[e])
            weights += around - j
    if weights == 0:
        return unlikeness // UNKNOWN_SHARE
    return unlikeness * (differs // weights) // level


@compiled
def _weight(points):  # type: ignore[no-untyped-def]
    """HEAVIEST halved once for every 64 points, on a straight line between."""
    halvings, rest = points // POINTS, points % POINTS
    if halvings > 10:
        return 0
    return (HEAVIEST * (2 * POINTS - rest) // (2 * POINTS)) >> halvings
