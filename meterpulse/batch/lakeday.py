"""A day of the lake as the batch layer takes it: which spans of channels fit into memory, and their rows part by part."""

from __future__ import annotations

from collections.abc import Sequence

from meterpulse.batch import Part
from meterpulse.lake import LakeFile
from meterpulse.lake.reader import deferred, groups_of
from meterpulse.stores import BLOCK

_SORTED_ROWS = 32 << 20  # of a span where that costs no second reading: memory stays small, and caches warm


class LakeDay:
    """The files of a day; about `rows_at_once` rows (12 bytes each) are held at a time."""

    def __init__(self, files: Sequence[LakeFile], rows_at_once: int):
        self._files, self._rows_at_once = files, rows_at_once
        self.rows = sum(f.rows for f in files)

    def spans(self, channels: int) -> Sequence[tuple[int, int]]:
        """See DaySource."""
        spans = self._cut(channels, min(self.rows, _SORTED_ROWS))
        if len(spans) > 1 and self._times_read(spans) > 1.5:
            spans = self._cut(channels, min(self.rows, self._rows_at_once))
        return spans

    def parts(self, span: tuple[int, int]) -> Sequence[Part]:
        """See DaySource."""
        return deferred(self._files, span)

    def _cut(self, channels: int, rows: int) -> list[tuple[int, int]]:
        blocks = -(-channels // BLOCK)
        wanted = min(max(1, -(-self.rows // max(1, rows))), max(1, blocks))
        width = -(-blocks // wanted) * BLOCK
        return [(low, min(low + width, channels)) for low in range(0, channels, width)]

    def _times_read(self, spans: Sequence[tuple[int, int]]) -> float:
        groups = [g for f in self._files for g in groups_of(f)]
        read = sum(g.rows for low, high in spans for g in groups if g.low < high and g.high >= low)
        return read / max(1, self.rows)
