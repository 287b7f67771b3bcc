"""Gauges (volts, watts) by interval: the least, the mean and the greatest of what was read; they are never added up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meterpulse.vee.runs import compiled


@dataclass(frozen=True, slots=True, eq=False)
class Gauges:
    """n channels by m intervals; whatever where count is 0."""

    least: np.ndarray  # int64[n, m], thousandths
    mean: np.ndarray  # int64[n, m], of the reads, a half rounded to even
    most: np.ndarray  # int64[n, m]
    count: np.ndarray  # int32[n, m]


def gauges_of(row: np.ndarray, at: np.ndarray, value: np.ndarray, n: int, m: int, step_ms: int) -> Gauges:
    """row int64[k], at int64[k] in ms since the first interval's start, value int64[k]; reads outside are left out."""
    least, total, most = (np.zeros((n, m), np.int64) for _ in range(3))
    count = np.zeros((n, m), np.int32)
    _fold(row, at, value, step_ms, least, total, most, count)
    reads = np.maximum(count, 1)
    mean, rest = total // reads, total % reads
    up = (2 * rest > reads) | ((2 * rest == reads) & (mean % 2 == 1))
    return Gauges(least, mean + up, most, count)


@compiled
def _fold(row, at, value, step, least, total, most, count):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        c = at[i] // step
        if c < 0 or c >= least.shape[1]:
            continue
        r, v = row[i], value[i]
        least[r, c] = v if count[r, c] == 0 else min(least[r, c], v)
        most[r, c] = v if count[r, c] == 0 else max(most[r, c], v)
        total[r, c] += v
        count[r, c] += 1
