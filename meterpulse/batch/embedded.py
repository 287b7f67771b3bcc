"""The embedded batch engine: a day is rebuilt a block of channels at a time, with memory bounded by the block."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from meterpulse.batch import Batch, DayBlock, DayReport, loops
from meterpulse.batch.beforerebuild import BeforeRebuild
from meterpulse.batch.differences import BlockDifferences, Compared, note_of
from meterpulse.batch.gather import BUCKET_ROWS, DaySource, Gathered
from meterpulse.batch.loadprofiles import grades
from meterpulse.model import cells as c
from meterpulse.model.crashpoint import crash_point
from meterpulse.model.groups import fold_up
from meterpulse.model.quality import RAW
from meterpulse.model.window import DAY_MS, HOUR_MS, WINDOW_MS, WINDOWS_A_DAY
from meterpulse.stores import BLOCK, Chunk, CorruptChunk, Sparse, Store
from meterpulse.stores.rollup import day_rows, hour_chunks, longer

_CHANNELS_MIN = 16  # in a bucket


class DayBuilder(Batch):
    """Computes one UTC day from the lake with a few threads. `area_rows` is complete when `build` has returned."""

    def __init__(self, group_of: np.ndarray, group_count: int, parents: np.ndarray, *, threads: int = 2):
        """group_of uint32[channels] as of the registry now: it also says how many channels there are."""
        self._count, self._group_of, self._parents = len(group_of), group_of, parents
        self._group_count, self._threads = group_count, threads
        self.rows = self.effective = 0
        self._lock = threading.Lock()
        self._areas: list[np.ndarray] = []

    def build(self, day: int, source: DaySource, take: Callable[[DayBlock], None]) -> None:
        self.rows = self.effective = 0
        # Each thread its own; pages that no reading touches cost nothing.
        self._areas = [
            np.zeros((self._group_count, WINDOWS_A_DAY * 5, c.AREA_ROW), np.int64) for _ in range(self._threads)
        ]
        self._free = list(self._areas)
        with ThreadPoolExecutor(self._threads, "rebuild", initializer=behind_the_others) as pool:
            for span in source.spans(self._count):
                self._span(day, source, span, take, pool)

    def area_rows(self) -> np.ndarray:
        """int64[groups, 1440, 4], areas above included."""
        total = self._areas[0]
        for other in self._areas[1:]:
            touched = np.flatnonzero(other[:, :, 0].any(axis=1))
            loops.merge_groups(total, other, touched)
        self._areas = [total]
        return fold_up(total, self._parents)

    def _span(
        self, day: int, source: DaySource, span: tuple[int, int], take: Callable[[DayBlock], None], pool: Executor
    ) -> None:
        a_channel = max(1, source.rows // max(1, self._count))
        width = min(
            BLOCK,
            max(_CHANNELS_MIN, 1 << (BUCKET_ROWS // a_channel).bit_length() - 1 if a_channel < BUCKET_ROWS else 1),
        )
        gathered = Gathered(day, source.parts(span), span, width, pool)
        self.rows += gathered.rows
        if not gathered.rows:
            return
        blocks = range(span[0] // BLOCK, -(-span[1] // BLOCK))
        for done in [pool.submit(self._block, gathered, block, take) for block in blocks]:
            done.result()

    def _block(self, gathered: Gathered, block: int, take: Callable[[DayBlock], None]) -> None:
        with self._lock:
            area = self._free.pop()
        try:
            found, standing = self._made(gathered, block, area)
        finally:
            with self._lock:
                self._free.append(area)
        if found is not None:
            with self._lock:
                self.effective += standing
            take(found)

    def _made(self, gathered: Gathered, block: int, area: np.ndarray) -> tuple[DayBlock | None, int]:
        low, high = block * BLOCK, min((block + 1) * BLOCK, self._count, gathered.after)
        shape = high - low, WINDOWS_A_DAY
        rows = np.zeros((*shape, c.ROW), np.int64)
        revised, dropped = np.zeros(shape, np.uint8), np.zeros(shape, np.int32)
        marks = np.full(shape, RAW, np.int32) if gathered.has_quality else np.empty((0, WINDOWS_A_DAY), np.int32)
        standing = 0
        for first in range(low, high, gathered.width):
            after = min(first + gathered.width, high)
            own, there = slice(first - low, after - low), (first - gathered.first, after - gathered.first)
            begin, slot, quantity, quality = gathered.bucket(there[0] // gathered.width)
            standing += loops.days_of_channels(
                begin, slot, quantity, quality, *gathered.revised.of(*there), *gathered.loose.of(*there),
                self._group_of[first:after], area, rows[own], revised[own], dropped[own],
                marks[own] if len(marks) else marks,
            )  # fmt: skip
        if not standing:
            return None, 0
        return DayBlock(block, rows, revised, dropped, marks if len(marks) else None), standing


def behind_the_others() -> None:
    """Of a thread: taking and answering go first."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)


def rebuild(
    day: int,
    boundary_ms: int,
    builder: Batch,
    source: DaySource,
    store: Store,
    install: Callable[[Callable[[], None]], None],
    zones: list[str],
    channel_zone: np.ndarray,
    group_zone: np.ndarray,
    *,
    lossy: bool = False,
    compared: Compared | None = None,
    as_recorded: Callable[[int], BeforeRebuild] | None = None,
) -> DayReport:
    """Rebuilds the day's windows before `boundary_ms` in the store. `install` runs a write while nobody else writes windows.
    What differs from what stood there is kept with its cause, where it is `compared` with what speed answered. Of a day that has
    a record, `as_recorded` gives of a block what keeps the record's word for windows that change, until it is made again.

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

    def take(found: DayBlock) -> None:
        block, rows = found.block, found.rows
        kind = channel_zone[block * BLOCK : block * BLOCK + len(rows)]
        told = None
        if compared is not None:
            kept = store.note(note_of(day, block))
            told = BlockDifferences(day, block, found.revised, found.dropped, compared, kept)
        quality = np.full(rows.shape[:2], RAW, np.int32) if found.quality is None else found.quality
        said = grades(block, day, quality, rows[:, :, 0])
        before = None if as_recorded is None else as_recorded(block)
        install(
            lambda: _write(
                store, "usage_5m", block, day, rows, boundary_ms, whole, kind, zones, lossy, told, said, before
            )
        )
        written.add(block)
        crash_point("batch.block")

    builder.build(day, source, take)
    for block in blocks_before - written:  # nothing is left of it: the readings were dropped from the lake
        keys = min(BLOCK, len(channel_zone) - block * BLOCK)
        shape = keys, WINDOWS_A_DAY
        take(
            DayBlock(
                block, np.zeros((*shape, c.ROW), np.int64), np.zeros(shape, np.uint8), np.zeros(shape, np.int32), None
            )
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
    told: BlockDifferences | None = None,
    said: Sparse | None = None,
    before: BeforeRebuild | None = None,
) -> None:
    """A block's day into the store. Single windows of hours that are now whole go, or they would stand beside their hour."""
    if lossy:
        rows = _fuller(store, view, block, day, rows)
    chunks = _chunks(store, view, block, day, rows, boundary_ms, whole, kind, zones)
    until = boundary_ms - boundary_ms % HOUR_MS
    singles = [s for s in store.starts(view, block, day * DAY_MS, min((day + 1) * DAY_MS, until)) if s % HOUR_MS]
    remove = [(view, block, s) for s in singles]
    if said is None:
        store.write(chunks, remove=remove)
        return
    touched = said.differs_from(store)

    def changed(old: Chunk | None, new: Chunk) -> None:
        nonlocal touched
        touched = True
        if told is not None:
            told.changed(old, new)
        if before is not None:
            before.changed(old, new)

    def notes() -> dict[str, bytes]:
        """With the rows themselves, or a crash between them would leave the record as it was."""
        return {**(told.notes() if told else {}), **({f"changed/{day}": b"1"} if touched else {})}

    def every() -> Iterator[Chunk | Sparse]:
        yield from chunks
        yield said
        if before is not None:
            yield from before.chunks()

    if before is not None:
        before.begin(store)
    store.write(every(), remove=remove, notes=notes, changed=changed)


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
