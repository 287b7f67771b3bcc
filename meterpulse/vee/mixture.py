"""What weighted reference days say together of a gap: how much by their mean, when by one quantile."""

from __future__ import annotations

import numpy as np

from meterpulse.vee.runs import compiled
from meterpulse.vee.slots import NO_COLUMN

LEVELS = 1 << 12  # steps of the quantile
SIDE = 5, 8  # what the intervals before and after weigh against the one at the same time: an eighth of five


@compiled
def blend(  # type: ignore[no-untyped-def]
    quantity, sound, day_of, slot_of, column, row, first, after, offset, shift, weight, value, told
):
    """Fills value (int64[t]) and told (bool[t]) of gaps laid end to end, from reference days `shift` days away."""
    for g in range(len(row)):
        days = 0
        while days < weight.shape[1] and weight[g, days] > 0:
            days += 1
        if days == 0:
            continue
        r, a, b = row[g], first[g], after[g]
        length = b - a
        # One column more on each side, where it is known how far the days are off.
        values = np.zeros((length + 2, 3 * days), np.int64)
        weights = np.zeros((length + 2, 3 * days), np.int64)
        total, complete = 0, True
        for i in range(length + 2):
            c = a - 1 + i
            if 0 <= c < quantity.shape[1]:
                _gather(
                    quantity[r], sound[r], day_of[c], slot_of[c], column, shift[g], weight[g], days, values[i],
                    weights[i],
                )  # fmt: skip
            if 0 < i <= length:
                whole = weights[i].sum()
                complete = complete and whole > 0
                total += (values[i] * weights[i]).sum() // max(whole, 1)
        if not complete:
            continue
        level = _level(values, weights, length, total)
        at = offset[g]
        for i in range(length):
            value[at + i] = quantile(values[i + 1], weights[i + 1], level)
            told[at + i] = True
        for i, c in ((0, a - 1), (length + 1, b)):
            if 0 <= c < quantity.shape[1] and sound[r, c] and weights[i].sum() > 0:
                _draw(value[at : at + length], quantity[r, c] - quantile(values[i], weights[i], level), i == 0)


@compiled
def _gather(values, sound, day, slot, column, shift, weight, days, out, weights):  # type: ignore[no-untyped-def]
    """The values of the reference days at this time and one interval to each side, sorted by size, with their weights."""
    n = 0
    for k in range(days):
        other = day + shift[k]
        e = column[other, slot] if 0 <= other < len(column) else NO_COLUMN
        for side in (-1, 0, 1):
            c = e + side
            if e != NO_COLUMN and 0 <= c < len(values) and sound[c]:
                out[n] = values[c]
                weights[n] = weight[k] if side == 0 else weight[k] * SIDE[0] // SIDE[1]
            n += 1
    order = np.argsort(out, kind="mergesort")
    out[:], weights[:] = out[order], weights[order]


@compiled
def _level(values, weights, length, total):  # type: ignore[no-untyped-def]
    """The greatest quantile, in LEVELS, at which the gap's sum is not above `total`."""
    low, high = 0, LEVELS
    while high - low > 1:
        middle = (low + high) // 2
        found = 0
        for i in range(1, length + 1):
            found += quantile(values[i], weights[i], middle)
        if found <= total:
            low = middle
        else:
            high = middle
    return low


@compiled
def quantile(values, weights, level):  # type: ignore[no-untyped-def]
    """The weighted quantile of sorted values, on straight lines between the middles of their weights."""
    wanted = 2 * weights.sum() * level // LEVELS
    passed, before, at = 0, 0, -1
    for i in range(len(values)):
        if weights[i] == 0:
            continue
        middle = 2 * passed + weights[i]
        passed += weights[i]
        if middle >= wanted:
            if at < 0:
                return values[i]
            share = ((wanted - at) << 10) // (middle - at)
            return before + ((values[i] - before) * share >> 10)
        before, at = values[i], middle
    return before


@compiled
def _draw(value, off, forwards):  # type: ignore[no-untyped-def]
    """Adds a quarter of how far the days are off at an end, and half as much with every step away from it."""
    share = 4
    for step in range(len(value)):
        if abs(off) < share:
            break
        i = step if forwards else len(value) - 1 - step
        drawn = value[i] + off // share
        value[i] = max(drawn, 0) if value[i] >= 0 else drawn
        share *= 2
