"""Which channels have a given value, without looking at all: the lowest and highest value per block of channels.

Customers and usage points are mostly registered together with their channels, so few blocks can hold a given one.
"""

from __future__ import annotations

import threading

import numpy as np
from numba import njit

from meterpulse.model.channel import NOT_FOUND

_BLOCK = 4096
_NONE = np.uint32(NOT_FOUND)


class Ranges:
    """Lowest and highest values per block of one column, made as far as they are needed. Values may be appended to the
    column freely; when some changed in place, `widen` is told."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._low = self._high = np.empty(0, np.uint32)

    def indices_of(self, value: int, column: np.ndarray) -> np.ndarray:
        """uint32[]: where `column` (all values that there are) holds `value`, ascending."""
        with self._mutex:
            self._extend(column)
            blocks = np.flatnonzero((self._low <= value) & (value <= self._high))
        starts = [*(blocks * _BLOCK).tolist(), len(self._low) * _BLOCK]
        found = [np.flatnonzero(column[start : start + _BLOCK] == value) + start for start in starts]
        return np.concatenate(found).astype(np.uint32)

    def widen(self, indices: np.ndarray, values: np.ndarray) -> None:
        """The column now holds `values` at `indices`."""
        with self._mutex:
            blocks = indices // _BLOCK
            known = blocks < len(self._low)
            np.minimum.at(self._low, blocks[known], values[known])
            np.maximum.at(self._high, blocks[known], np.where(values[known] == _NONE, 0, values[known]))

    def _extend(self, column: np.ndarray) -> None:
        done = len(self._low)
        whole = len(column) // _BLOCK
        if whole > done:
            low, high = np.empty(whole - done, np.uint32), np.empty(whole - done, np.uint32)
            _bounds(column[done * _BLOCK : whole * _BLOCK], low, high)
            self._low, self._high = np.append(self._low, low), np.append(self._high, high)


@njit(nogil=True, cache=True)
def _bounds(column, low, high):
    for block in range(low.size):
        least, most = _NONE, np.uint32(0)
        for i in range(block * _BLOCK, (block + 1) * _BLOCK):
            value = column[i]
            if value != _NONE:
                least, most = min(least, value), max(most, value)
        low[block] = least
        high[block] = most
