"""Splitting readings into days: one open file per UTC day, rows waiting until they fill a row group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from meterpulse.lake.parts import ROW_GROUP_ROWS, Part, PartWriter, fsync_directory, table_of
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS, day_of_text

_DAYS_MIN, _DAYS_MAX = day_of_text("0001-01-01"), day_of_text("9999-12-31")


class DayFiles:
    """Splits rows by UTC day into one open file per day; rows wait until they fill a row group."""

    OPEN_FILES = 64
    WAITING_ROWS = 4 * ROW_GROUP_ROWS

    def __init__(self, root: Path, file_rows: int):
        self._root, self._file_rows = root, file_rows
        self._waiting: dict[int, list[Readings]] = {}
        self._rows: dict[int, int] = {}
        self._writers: dict[int, PartWriter] = {}
        self._all: list[PartWriter] = []
        self._finished: list[PartWriter] = []

    def add(self, batch: Readings) -> None:
        for day, rows in by_day(batch):
            self._waiting.setdefault(day, []).append(rows)
            self._rows[day] = self._rows.get(day, 0) + len(rows)
            if self._rows[day] >= ROW_GROUP_ROWS:
                self._flush(day)
        while sum(self._rows.values()) > self.WAITING_ROWS:
            self._flush(max(self._rows, key=self._rows.__getitem__))

    def finish(self) -> None:
        """All files closed, their bytes on disk."""
        for day in sorted(self._rows):
            self._flush(day)
        for day in list(self._writers):
            self._close(day)

    def publish(self, kind: str, first: int, after: int, version: int) -> list[Part]:
        """All files under their names, and these on disk."""
        counts: Counter[int] = Counter()
        parts = []
        for writer in self._finished:
            parts.append(writer.publish(kind, first, after, counts[writer.day], version))
            counts[writer.day] += 1
        for directory in sorted({(self._root / part.name.path).parent for part in parts}):
            fsync_directory(directory)
        fsync_directory(self._root)
        return parts

    def abandon(self) -> None:
        """Remove all files, finished or not."""
        for writer in self._all:
            writer.abandon()

    def _flush(self, day: int) -> None:
        pieces = self._waiting.pop(day)
        del self._rows[day]
        table = table_of(pieces)
        at = 0
        while at < table.num_rows:
            writer = self._writer(day)
            left = table.num_rows - at
            rows = left if left <= ROW_GROUP_ROWS * 3 // 2 else ROW_GROUP_ROWS
            rows = min(rows, self._file_rows - writer.rows)
            writer.write(table.slice(at, rows))
            at += rows
            if writer.rows >= self._file_rows:
                self._close(day)

    def _writer(self, day: int) -> PartWriter:
        writer = self._writers.pop(day, None)
        if writer is None:
            if len(self._writers) >= self.OPEN_FILES:
                self._close(next(iter(self._writers)))
            writer = PartWriter(self._root, day)
            self._all.append(writer)
        self._writers[day] = writer  # the last in the dictionary was used last
        return writer

    def _close(self, day: int) -> None:
        writer = self._writers.pop(day)
        writer.finish()
        self._finished.append(writer)


def by_day(batch: Readings) -> Iterator[tuple[int, Readings]]:
    """(UTC day, its rows in order); free of per-row cost where all starts are equal."""
    if not len(batch):
        return
    start = batch.start
    low, high = int(start.min()) // DAY_MS, int(start.max()) // DAY_MS
    if low < _DAYS_MIN or high > _DAYS_MAX:
        raise ValueError("a start is outside of the years 1 to 9999; quarantine such readings on arrival")
    if low == high:
        yield low, batch
        return
    day = start // DAY_MS
    if bool((day[1:] >= day[:-1]).all()):
        cuts = [0, *(np.flatnonzero(day[1:] != day[:-1]) + 1).tolist(), len(day)]
        for a, b in zip(cuts, cuts[1:], strict=False):
            yield int(day[a]), batch.take(slice(a, b))
        return
    order = np.argsort(day, kind="stable")
    yield from by_day(batch.take(order))
