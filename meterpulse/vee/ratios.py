"""A shape from elsewhere, brought to the channel's own level: the arithmetic that two estimators share."""

from __future__ import annotations

import numpy as np

from meterpulse.vee.estimation import Filling
from meterpulse.vee.gaps import Gaps, Known
from meterpulse.vee.runs import compiled

SHIFT = 20  # a ratio is kept in 2^-20
RATIO_MAX = 1 << 36  # so that no product leaves 64 bits; a customer who uses 65,536 times the shape has another


def at_own_level(
    known: Known, gaps: Gaps, shape: np.ndarray, has: np.ndarray, quality: int, reach: int, enough: int
) -> Filling:
    """shape * (own use / shape's use), of the columns within `reach` columns of the gap on either side where both are
    known, rounded down.

    shape int64 and has bool, [n, m] or [1, m] for all rows. A gap with fewer than `enough` such columns is not told.
    """
    value = np.zeros(gaps.offset[-1], np.int64)
    told = np.zeros(gaps.offset[-1], bool)
    _scaled(
        known.profile.quantity, known.sound, shape, has, gaps.row, gaps.first, gaps.after, gaps.offset, reach, enough,
        value, told,
    )  # fmt: skip
    return Filling(value, told, quality)


@compiled
def _scaled(  # type: ignore[no-untyped-def]
    quantity, sound, shape, has, row, first, after, offset, reach, enough, value, told
):
    for g in range(len(row)):
        r = row[g]
        s = r if len(shape) > 1 else 0
        own, other, count = 0, 0, 0
        for c in range(max(first[g] - reach, 0), min(after[g] + reach, quantity.shape[1])):
            if sound[r, c] and has[s, c]:
                own += quantity[r, c]
                other += shape[s, c]
                count += 1
        if count < enough or other <= 0 or own < 0:
            continue
        while own >= 1 << 42:
            own, other = own >> 1, other >> 1
        ratio = (own << SHIFT) // max(other, 1)
        if ratio > RATIO_MAX:
            continue
        for c in range(first[g], after[g]):
            if has[s, c]:
                at = offset[g] + c - first[g]
                # high and low part by themselves: the product of both would leave 64 bits
                value[at] = (shape[s, c] >> SHIFT) * ratio + ((shape[s, c] & ((1 << SHIFT) - 1)) * ratio >> SHIFT)
                told[at] = True
