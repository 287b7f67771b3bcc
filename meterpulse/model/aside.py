"""What the speed layer saw and did not apply, by day: the proof of what a difference between speed and batch comes from.

A late reading, a revision of a value that stands and an import are told by their window: how many of them there were, and
their sum. Batch may call a window late only where readings were laid aside for it, and only for as much as they add; whatever
is more than that is unexplained, which is a defect of one of the two layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS, WINDOW_MS, WINDOWS_A_DAY

LATE, IMPORTED, REVISED = range(3)
ENTRIES_MAX = (
    1 << 20
)  # windows of channels that are told one by one, 28 bytes each; a day that would be more is told as one
_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("key", np.int64),
    ("kind", np.int8),
    ("rows", np.int32),
    ("sum", np.int64),
    ("offset", np.int64),
)


@dataclass(frozen=True)
class Known:
    """What was laid aside of a day. `is_whole_day`: it is not known for which windows. `is_doubted`: the day is rebuilt because
    something was lost or damaged, so that what stood before it proves nothing."""

    key: np.ndarray  # int64[n], channel * 288 + window of the day, ascending
    kind: np.ndarray
    rows: np.ndarray
    sum: np.ndarray
    is_whole_day: bool = False
    is_doubted: bool = False

    @classmethod
    def nothing(cls) -> Known:
        """No reading was laid aside."""
        key, kind, rows, total = (np.empty(0, t) for _, t in _COLUMNS[:4])
        return cls(key, kind, rows, total)

    def of(self, kind: int, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows, sum) int64[n] of a kind, of the keys in [low, high) each."""
        own = self.kind == kind
        key = self.key[own]
        first, after = np.searchsorted(key, low), np.searchsorted(key, high)
        until = [np.concatenate([[0], np.cumsum(c[own], dtype=np.int64)]) for c in (self.rows, self.sum)]
        return until[0][after] - until[0][first], until[1][after] - until[1][first]


@dataclass
class Aside:
    """One day's. It is kept until batch has rebuilt the day from all of it."""

    parts: list[tuple[np.ndarray, ...]] = field(default_factory=list)  # columns key, kind, rows, sum, offset
    entries: int = 0
    is_whole_day: bool = False
    is_doubted: bool = False

    def add(self, readings: Readings, kind: int, offset: int, room: int) -> int:
        """Readings of this day from the log entry at `offset`; `room` is for how many more entries there is. How many
        there are more now."""
        if self.is_whole_day:
            return 0
        if len(readings) > room:
            gone = self.entries
            self.is_whole_day, self.parts, self.entries = True, [], 0
            return -gone
        window = readings.full("start") % DAY_MS // WINDOW_MS
        keys, inverse, rows = np.unique(
            readings.channel.astype(np.int64) * WINDOWS_A_DAY + window, return_inverse=True, return_counts=True
        )
        total = np.zeros(len(keys), np.int64)
        np.add.at(total, inverse, readings.quantity)
        n = len(keys)
        self.parts.append((keys, np.full(n, kind, np.int8), rows.astype(np.int32), total, np.full(n, offset, np.int64)))
        self.entries += n
        return n

    def known(self) -> Known:
        """As batch takes it."""
        key, kind, rows, total, _ = self.columns()
        order = np.argsort(key, kind="stable")
        return Known(key[order], kind[order], rows[order], total[order], self.is_whole_day, self.is_doubted)

    def columns(self) -> list[np.ndarray]:
        """key, kind, rows, sum, offset."""
        return [np.concatenate([np.empty(0, t), *(p[i] for p in self.parts)]) for i, (_, t) in enumerate(_COLUMNS)]

    def forget(self, below_offset: int, windows: int) -> None:
        """What came below an offset for the first `windows` windows of the day is in what batch has written."""
        columns = self.columns()
        kept = (columns[4] >= below_offset) | (columns[0] % WINDOWS_A_DAY >= windows)
        self.parts = [tuple(c[kept] for c in columns)] if kept.any() else []
        self.entries = int(kept.sum())

    @property
    def flags(self) -> list[bool]:
        """What a checkpoint keeps besides the columns."""
        return [self.is_whole_day, self.is_doubted]


def packed(asides: dict[int, Aside]) -> bytes:
    """All days' entries, for a checkpoint: rows of day and columns, int64."""
    parts = [np.empty((0, 1 + len(_COLUMNS)), np.int64)]
    for day, aside in asides.items():
        columns = aside.columns()
        parts.append(np.column_stack([np.full(len(columns[0]), day), *columns]).astype(np.int64))
    return np.concatenate(parts).tobytes()


def unpacked(data: bytes, flags: dict[int, list[bool]]) -> dict[int, Aside]:
    """The inverse of `packed`; `flags` by day."""
    rows = np.frombuffer(data, np.int64).reshape(-1, 1 + len(_COLUMNS))
    asides = {}
    for day, (is_whole_day, is_doubted) in flags.items():
        own = rows[rows[:, 0] == day]
        columns = tuple(own[:, 1 + i].astype(t) for i, (_, t) in enumerate(_COLUMNS))
        asides[day] = Aside([columns], len(own), is_whole_day, is_doubted)
    return asides
