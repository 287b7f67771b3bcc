"""A day of the lake as the batch layer takes it: which spans of channels fit into memory, and their rows part by part."""

from __future__ import annotations

from collections.abc import Sequence

from meterpulse.batch import Part
from meterpulse.lake import LakeFile
from meterpulse.lake.reader import deferred, groups_of
from meterpulse.stores import BLOCK

_FEW_ROWS = 4 << 20  # of a span where that costs little reading: memory stays small, and caches warm
_READ_AGAIN_ROWS = 128 << 20  # a small city's day may be read a few times, in a second or two


class LakeDay:
    """The files of a day; about `rows_at_once` rows (12 bytes each) are held at a time."""

    def __init__(self, files: Sequence[LakeFile], rows_at_once: int):
        self._files, self._rows_at_once = files, rows_at_once
        self.rows = sum(f.rows for f in files)

    def spans(self, channels: int) -> Sequence[tuple[int, int]]:
        """See DaySource."""
        spans = self._cut(channels, min(self._rows_at_once, _FEW_ROWS))
        read = self._rows_read(spans) if len(spans) > 1 else 0
        if read > max(self.rows * 3 // 2, _READ_AGAIN_ROWS):
            spans = self._cut(channels, self._rows_at_once)
        return spans

    def parts(self, span: tuple[int, int]) -> Sequence[Part]:
        """See DaySource."""
        return deferred(self._files, span)

    def _cut(self, channels: int, rows: int) -> list[tuple[int, int]]:
        blocks = -(-channels // BLOCK)
        wanted = min(max(1, -(-self.rows // max(1, rows))), max(1, blocks))
        width = -(-blocks // wanted) * BLOCK
        return [(low, min(low + width, channels)) for low in range(0, channels, width)]

    def _rows_read(self, spans: Sequence[tuple[int, int]]) -> int:
        groups = [g for f in self._files for g in groups_of(f)]
        return sum(g.rows for low, high in spans for g in groups if g.low < high and g.high >= low)
