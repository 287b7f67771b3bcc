"""All rows of a day for a span of channels, dealt into buckets as they are read, by as many threads as there are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from meterpulse.batch import Part, loops
from meterpulse.model.quality import RAW
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS

BUCKET_ROWS = (
    1 << 20
)  # dealt together: what a channel's rows are then picked from should fit the processor's shared cache
_NOTHING32, _NOTHING64 = np.empty(0, np.int32), np.empty(0, np.int64)


class DaySource(Protocol):
    """Everything that the lake has of a UTC day."""

    rows: int

    def spans(self, channels: int) -> Sequence[tuple[int, int]]:
        """Channels [0, channels) in ranges that begin at a block each, and whose rows fit into memory together."""

    def parts(self, span: tuple[int, int]) -> Sequence[Part]:
        """All rows of the channels [low, high), in log order; there may be others among them."""


@dataclass(frozen=True, slots=True)
class _Dealt:
    """One part's rows: bucket b has those in [offsets[b], offsets[b + 1])."""

    key: np.ndarray  # uint32
    quantity: np.ndarray  # int32 or int64
    quality: np.ndarray  # int32, empty where all are raw
    offsets: np.ndarray
    aside: Readings


@dataclass(frozen=True, slots=True)
class Few:
    """The rows that were put aside, sorted by channel, in log order: begin int64[channels + 1]."""

    begin: np.ndarray
    at: np.ndarray  # uint16 slots, or int64 ms of the day
    quantity: np.ndarray
    revision: np.ndarray
    quality: np.ndarray

    def of(self, low: int, high: int) -> tuple[np.ndarray, ...]:
        """As the loops take them: those of channels [low, high) of the span."""
        first, after = int(self.begin[low]), int(self.begin[high])
        own = (c[first:after] for c in (self.at, self.quantity, self.revision, self.quality))
        return self.begin[low : high + 1] - first, *own


class Gathered:
    """The rows of a day's channels [first, after), each read once."""

    def __init__(self, day: int, parts: Sequence[Part], span: tuple[int, int], width: int, pool: ThreadPoolExecutor):
        """width: channels in a bucket, a power of two."""
        self.first, self.after, self.width = *span, width
        self._base, self._shift = day * DAY_MS, width.bit_length() - 1
        self._dealt = list(pool.map(self._deal, parts))
        self.rows = sum(len(d.key) + len(d.aside) for d in self._dealt)
        aside = Readings.concat([d.aside for d in self._dealt])
        self.has_quality = any(len(d.quality) for d in self._dealt) or bool((aside.quality != RAW).any())
        at = aside.full("start") - self._base
        on_grid = at % 5_000 == 0
        self.revised = self._few(aside.take(on_grid), (at[on_grid] // 5_000).astype(np.uint16))
        self.loose = self._few(aside.take(~on_grid), at[~on_grid])

    def _few(self, rows: Readings, at: np.ndarray) -> Few:
        begin, order = loops.order_by(rows.channel, self.first, self.after - self.first)
        revision, quality = rows.full("revision"), rows.full("quality")
        return Few(begin, at[order], rows.quantity[order], revision[order], quality[order])

    def _deal(self, part: Part) -> _Dealt:
        rows = part()
        n, raw = len(rows), len(rows.quality) == 1 and rows.quality[0] == RAW
        narrow = n == 0 or (rows.quantity.min() >= -(2**31) and rows.quantity.max() < 2**31)
        key, quantity = np.empty(n, np.uint32), np.empty(n, np.int32 if narrow else np.int64)
        quality = _NOTHING32 if raw else np.empty(n, np.int32)
        offsets, aside = loops.deal(
            rows.channel, rows.start, rows.revision, rows.quantity, _NOTHING32 if raw else rows.quality,
            self.first, self.after, self._shift, self._base, key, quantity, quality,
        )  # fmt: skip
        kept = int(offsets[-1])
        if kept < n // 2:  # most of it belongs to other spans
            key, quantity, quality = key[:kept].copy(), quantity[:kept].copy(), quality[:kept].copy()
        return _Dealt(key[:kept], quantity[:kept], quality[:kept], offsets, rows.take(aside))

    def bucket(self, number: int) -> tuple[np.ndarray, ...]:
        """(begin, slot, quantity, quality) of a bucket's rows, sorted by channel in log order."""
        begin = np.zeros(self.width + 1, np.int64)
        spans = [(d, slice(int(d.offsets[number]), int(d.offsets[number + 1]))) for d in self._dealt]
        spans = [(d, s) for d, s in spans if s.start < s.stop]
        for d, s in spans:
            loops.count_keys(d.key[s], begin)
        np.cumsum(begin, out=begin)
        n, to = int(begin[-1]), begin[:-1].copy()
        slot, quantity = np.empty(n, np.uint16), np.empty(n, np.int64)
        quality = np.empty(n if self.has_quality else 0, np.int32)
        for d, s in spans:
            loops.place_keys(d.key[s], d.quantity[s], d.quality[s], to, slot, quantity, quality)
        return begin, slot, quantity, quality
