"""Where a block's chunks lie: walked once, then served to every key of the block until something is written.

A page asks for 25 chunks of each channel of a home. Walking to them by key cost 0.2 ms a channel, most of it in the
interpreter; their places are the same for all 4,096 channels of a block, so they are kept, with the read transaction that
keeps them valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")
_BLOCKS = 4_096  # that are remembered


class Directory(Generic[Found]):
    """What was found of each (view, block, start, end), in one read transaction, which lives as long as this."""

    def __init__(self, transaction: object):
        self.transaction = transaction
        self._known: dict[tuple[str, int, int, int], Found] = {}

    def of(self, where: tuple[str, int, int, int], find: Callable[[], Found]) -> Found:
        """Of the chunks of a view and a block that start in [start_ms, end_ms)."""
        known = self._known.get(where)
        if known is None:
            if len(self._known) >= _BLOCKS:
                self._known.clear()
            known = self._known[where] = find()
        return known
