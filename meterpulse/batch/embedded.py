"""The embedded batch engine: a day is rebuilt a block of channels at a time, with memory bounded by the block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from meterpulse.batch import Batch, DayReport, ReadDay
from meterpulse.model import cells as c
from meterpulse.model.crashpoint import crash_point
from meterpulse.model.groups import fold_up
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS, HOUR_MS, WINDOW_MS, WINDOWS_A_DAY
from meterpulse.stores import BLOCK, Chunk, CorruptChunk, Store
from meterpulse.stores.rollup import day_rows, hour_chunks, longer

BUCKET = 512  # channels at a time: 35 MB for the readings that stand, 7 MB of cells
SLOTS_A_DAY = DAY_MS // c.SLOT_MS


class DayBuilder(Batch):
    """Computes one UTC day from the lake. `build` yields a block's rows at a time; `area` is complete after the last one."""

    def __init__(self, group_of: np.ndarray, group_count: int, parents: np.ndarray):
        """group_of uint32[channels] as of the registry now: it also says how many channels there are."""
        self._count, self._group_of, self._parents = len(group_of), group_of, parents
        self._group_count = group_count
        self._winner = np.zeros((BUCKET, SLOTS_A_DAY), np.int32)

    def build(self, day: int, read: ReadDay) -> Iterator[tuple[int, np.ndarray]]:
        """(block, int64[keys, 288, 5]) for every block that has readings that day."""
        self._by_group = np.zeros((self._group_count, WINDOWS_A_DAY * 5, c.AREA_ROW), np.int64)
        self.area = self._by_group.transpose(1, 0, 2)  # as scatter takes it, without a copy of 70 MB for a city
        self.rows = self.effective = 0
        for block in range(-(-self._count // BLOCK)):
            low, high = block * BLOCK, min((block + 1) * BLOCK, self._count)
            block_rows = None
            for first in range(low, high, BUCKET):
                after = min(first + BUCKET, high)
                rows = self._bucket(day, first, after, read)
                if rows is not None:
                    if block_rows is None:
                        block_rows = np.zeros((high - low, WINDOWS_A_DAY, c.ROW), np.int64)
                    block_rows[first - low : after - low] = rows
            if block_rows is not None:
                yield block, block_rows

    def area_rows(self) -> np.ndarray:
        """int64[groups, 1440, 4], areas above included."""
        return fold_up(self._by_group, self._parents)

    def _bucket(self, day: int, first: int, after: int, read: ReadDay) -> np.ndarray | None:
        parts = [r for r in read(day, (first, after)) if len(r)]
        if not parts:
            return None
        every = Readings.concat(parts)
        self.rows += len(every)
        base, width = day * DAY_MS, after - first
        start, revision = every.full("start"), every.full("revision")
        outcome = np.empty(len(every), np.uint8)
        c.choose(every.channel, first, every.start, every.revision, base, self._winner, outcome)
        stands = np.flatnonzero(outcome == c.APPLIED)
        cells = np.zeros((WINDOWS_A_DAY, width, c.CELL), np.int64)
        nothing = np.zeros(1, np.int64)
        ignored = np.empty(len(stands), np.uint8)
        applied, _, _ = c.scatter(
            cells,
            self.area,
            self._group_of,
            every.channel[stands],
            first,
            start[stands],
            every.quantity[stands],
            nothing,
            base,
            ignored,
        )
        if applied != len(stands):
            raise AssertionError(f"{len(stands) - applied} effective readings found no cell")
        rows = np.zeros((width, WINDOWS_A_DAY, c.ROW), np.int64)
        c.rows_of(cells, rows)
        self.effective += applied
        loose = outcome == c.LOOSE
        if loose.any():
            channel, at, quantity = c.effective(
                every.channel[loose], start[loose], every.quantity[loose], revision[loose]
            )
            newest = _newest(cells, base)
            c.add_loose(rows, newest, self.area, self._group_of, channel, first, at, quantity, base)
            self.effective += len(channel)
        return rows


def _newest(cells: np.ndarray, base: int) -> np.ndarray:
    """int64[channels, windows]: the start of each cell's last reading, far in the past where there is none."""
    windows, channels, _ = cells.shape
    newest = np.full((channels, windows), -(1 << 61), np.int64)
    for w, ch in zip(*np.nonzero(cells[:, :, 0] | cells[:, :, 1]), strict=True):
        newest[ch, w] = base + w * WINDOW_MS + c.last_slot(int(cells[w, ch, 0]), int(cells[w, ch, 1])) * c.SLOT_MS
    return newest


def rebuild(
    day: int,
    boundary_ms: int,
    builder: DayBuilder,
    read: ReadDay,
    store: Store,
    install: Callable[[Callable[[], None]], None],
    zones: list[str],
    channel_zone: np.ndarray,
    group_zone: np.ndarray,
    *,
    lossy: bool = False,
) -> DayReport:
    """Rebuilds the day's windows before `boundary_ms` in the store. `install` runs a write while nobody else writes windows.

    channel_zone and group_zone are indices into `zones` by channel and by group. A day whose end is not retired gets its hours
    and local days later, from the windows. `lossy`: the lake has lost readings of this day; what the store has of them stays.
    """
    began = time.perf_counter()
    written: set[int] = set()
    whole = (day + 1) * DAY_MS <= boundary_ms
    blocks_before = {
        b
        for b in range(-(-len(channel_zone) // BLOCK))
        if store.starts("usage_5m", b, day * DAY_MS, (day + 1) * DAY_MS)
    }
    for block, rows in builder.build(day, read):
        kind = channel_zone[block * BLOCK : block * BLOCK + len(rows)]
        install(
            lambda b=block, r=rows, k=kind: _write(store, "usage_5m", b, day, r, boundary_ms, whole, k, zones, lossy)
        )
        written.add(block)
        crash_point("batch.block")
    for block in blocks_before - written:  # nothing is left of it: the readings were dropped from the lake
        keys = min(BLOCK, len(channel_zone) - block * BLOCK)
        rows = np.zeros((keys, WINDOWS_A_DAY, c.ROW), np.int64)
        kind = channel_zone[block * BLOCK : block * BLOCK + keys]
        install(
            lambda b=block, r=rows, k=kind: _write(store, "usage_5m", b, day, r, boundary_ms, whole, k, zones, lossy)
        )
    area = builder.area_rows()
    for block in range(-(-len(area) // BLOCK)):
        part = area[block * BLOCK : (block + 1) * BLOCK]
        kind = group_zone[block * BLOCK : block * BLOCK + len(part)]
        install(
            lambda b=block, r=part, k=kind: _write(store, "area_1m", b, day, r, boundary_ms, whole, k, zones, lossy)
        )
    crash_point("batch.day")
    return DayReport(day, builder.rows, builder.effective, boundary_ms, time.perf_counter() - began)


def _write(
    store: Store,
    view: str,
    block: int,
    day: int,
    rows: np.ndarray,
    boundary_ms: int,
    whole: bool,
    kind: np.ndarray,
    zones: list[str],
    lossy: bool,
) -> None:
    """A block's day into the store. Single windows of hours that are now whole go, or they would stand beside their hour."""
    if lossy:
        rows = _fuller(store, view, block, day, rows)
    chunks = _chunks(store, view, block, day, rows, boundary_ms, whole, kind, zones)
    until = boundary_ms - boundary_ms % HOUR_MS
    singles = [s for s in store.starts(view, block, day * DAY_MS, min((day + 1) * DAY_MS, until)) if s % HOUR_MS]
    store.write(chunks, remove=[(view, block, s) for s in singles])


def _fuller(store: Store, view: str, block: int, day: int, rows: np.ndarray) -> np.ndarray:
    """Where the lake has lost readings: the stored rows stand that were made of more readings than the lake still has."""
    try:
        stored, _ = day_rows(store, view, block, day, len(rows), rows.shape[2])
    except CorruptChunk:
        return rows
    return rows if stored is None else np.where(stored[:, :, :1] > rows[:, :, :1], stored, rows)


def _chunks(
    store: Store,
    view: str,
    block: int,
    day: int,
    rows: np.ndarray,
    boundary_ms: int,
    whole: bool,
    kind: np.ndarray,
    zones: list[str],
) -> list[Chunk]:
    every_hour = (1 << 24) - 1
    chunks = list(hour_chunks(view, block, day, rows, every_hour, boundary_ms))
    if whole:
        return chunks + longer(view, block, day, rows, every_hour, kind, zones)
    hour_ms = boundary_ms - boundary_ms % HOUR_MS
    if not day * DAY_MS <= hour_ms < (day + 1) * DAY_MS or hour_ms == boundary_ms:
        return chunks
    # The hour that the boundary cuts: what is before it is ours, in whichever form the hour is stored by now.
    a_hour = rows.shape[1] // 24
    step_ms = HOUR_MS // a_hour
    own = (boundary_ms - hour_ms) // step_ms
    at = (hour_ms - day * DAY_MS) // step_ms
    try:
        stored = store.chunk(view, block, hour_ms)
    except CorruptChunk:
        stored = None
    if stored is not None and stored.rows.shape[1] == a_hour:
        merged = np.zeros((max(len(rows), len(stored.rows)), a_hour, rows.shape[2]), np.int64)
        merged[: len(stored.rows)] = stored.rows
        merged[: len(rows), :own] = rows[:, at : at + own]
        return [*chunks, Chunk(view, block, hour_ms, merged, stored.batch | ((1 << own) - 1))]
    width = WINDOW_MS // step_ms
    for part in range(0, own, width):
        chunks.append(
            Chunk(view, block, hour_ms + part * step_ms, rows[:, at + part : at + part + width], (1 << width) - 1)
        )
    return chunks
