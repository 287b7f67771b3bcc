"""Where a block's chunks lie: walked once, then served to every key of the block until something is written.

A page asks for 25 chunks of each channel of a home. Walking to them by key cost 0.2 ms a channel, most of it in the
interpreter; their places are the same for all 4,096 channels of a block, so they are kept, with the read transaction that
keeps them valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

Head = TypeVar("Head")
_BLOCKS = 4_096  # that are remembered


@dataclass(frozen=True, slots=True)
class Run(Generic[Head]):
    """Chunks that follow each other and have one form. `starts` int64[k] ms, `batches` uint64[k], a bit per step."""

    head: Head
    values: list[memoryview]
    starts: np.ndarray
    batches: np.ndarray


class Directory(Generic[Head]):
    """What was found of each (view, block, start, end), in one read transaction, which lives as long as this."""

    def __init__(self, transaction: object):
        self.transaction = transaction
        self._known: dict[tuple[str, int, int, int], list[Run[Head]]] = {}

    def runs(self, where: tuple[str, int, int, int], find: Callable[[], list[Run[Head]]]) -> list[Run[Head]]:
        """Of a view, a block, and chunks that start in [start_ms, end_ms), in order of time."""
        known = self._known.get(where)
        if known is None:
            if len(self._known) >= _BLOCKS:
                self._known.clear()
            known = self._known[where] = find()
        return known
