"""Runs of consecutive columns, found in one compiled pass."""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(nogil=True, cache=True, boundscheck=False)


def runs_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row int64[k], first int64[k], after int64[k]) of every run of true in bool[n, m], by row and column."""
    if not mask.any():
        return (np.zeros(0, np.int64),) * 3
    flat = np.zeros((len(mask), mask.shape[1] + 2), np.int8)
    flat[:, 1:-1] = mask
    steps = np.diff(flat, axis=1)
    row, first = np.nonzero(steps == 1)
    after = np.nonzero(steps == -1)[1]
    return row, first, after
