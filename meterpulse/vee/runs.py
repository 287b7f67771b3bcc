"""Compiled passes over load profiles that several rules share.

A pass writes what it finds as rows of an int64[k, 5] table (row, first, after, measured, limit) and returns how many
there are, even beyond the table's end: `collect` gives it a larger one then. Most profiles have nothing to find, so each
pass first asks of a whole row, in a loop that the compiler turns into vector instructions, whether to look closer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True, boundscheck=False)
_ROOM = 256


def collect(find: Callable[..., int], *arguments: Any) -> np.ndarray:
    """int64[k, 5]: all that a pass finds. Its last argument is the table."""
    table = np.empty((_ROOM, 5), np.int64)
    found = find(*arguments, table)
    if found > len(table):
        table = np.empty((found, 5), np.int64)
        find(*arguments, table)
    return table[:found]


@compiled
def put(table, k, row, first, after, measured, limit):  # type: ignore[no-untyped-def]
    """Write finding k where there is room; the next k."""
    if k < len(table):
        table[k, 0], table[k, 1], table[k, 2], table[k, 3], table[k, 4] = row, first, after, measured, limit
    return k + 1


@compiled
def outside(quantity, quality, first, after, low, high, table):  # type: ignore[no-untyped-def]
    """Every known value of columns [first, after) below low[row] or above high[row]; `limit` is the one it breaks."""
    k = 0
    for r in range(len(quantity)):
        least, most = low[r], high[r]
        hits = 0
        for c in range(first, after):
            hits += (quantity[r, c] < least) | (quantity[r, c] > most)
        if hits:
            for c in range(first, after):
                v = quantity[r, c]
                if quality[r, c] != -1 and (v < least or v > most):
                    k = put(table, k, r, c, c + 1, v, least if v < least else most)
    return k


@compiled
def any_known(quality, first, after, out):  # type: ignore[no-untyped-def]
    """out bool[n]: whether a row has any value in columns [first, after)."""
    for r in range(len(quality)):
        known = 0
        for c in range(first, after):
            known += quality[r, c] != -1
        out[r] = known > 0
    return out


@compiled
def day_totals(quantity, quality, first, after, unknown, out):  # type: ignore[no-untyped-def]
    """out int64[n, d]: the sum over columns [first[d], after[d]), `unknown` where any value is missing."""
    for r in range(len(quantity)):
        for d in range(len(first)):
            total, missing = 0, 0
            for c in range(first[d], after[d]):
                total += quantity[r, c]
                missing += quality[r, c] == -1
            out[r, d] = unknown if missing else total
    return out
