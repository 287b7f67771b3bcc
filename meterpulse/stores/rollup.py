"""Longer windows from shorter ones: twelve windows become an hour's chunk, a day of windows becomes its hours and its local days.

Used by speed when a day is complete and by batch when it has rebuilt one, so both give the same rows. A UTC day is the unit:
it holds whole hours, and of each local day a part; parts of neighbouring UTC days add up when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from meterpulse.model.cells import fold
from meterpulse.model.window import DAY_MS, HOUR_MS, MINUTE_MS, WINDOW_MS, day_splits
from meterpulse.stores import Chunk, Store

STEP_MS = {"usage_5m": WINDOW_MS, "area_1m": MINUTE_MS}
HOURLY = {"usage_5m": "usage_1h", "area_1m": "area_1h"}
DAILY = {"usage_5m": "usage_1d", "area_1m": "area_1d"}


@lru_cache(maxsize=256)
def _hour_targets(steps: int) -> np.ndarray:
    return (np.arange(steps) * 24 // steps)[None, :]


def local_day_targets(zones: Sequence[str], day: int, steps: int) -> np.ndarray:
    """int64[zones, steps]: which of the day's local days each step of a UTC day belongs to (0, 1 or 2)."""
    targets = np.zeros((max(len(zones), 1), steps), np.int64)
    step_ms = DAY_MS // steps
    for z, name in enumerate(zones):
        for part, (_, start, _) in enumerate(day_splits(name, day)):
            targets[z, (start - day * DAY_MS) // step_ms :] = part
    return targets


def day_rows(store: Store, view: str, block: int, day: int, keys: int, measures: int) -> tuple[np.ndarray | None, int]:
    """int64[keys, steps of the day, measures] of a base view and the batch bits per hour; None where there is nothing."""
    step, rows, batch = STEP_MS[view], None, 0
    for start in store.starts(view, block, day * DAY_MS, (day + 1) * DAY_MS):
        chunk = store.chunk(view, block, start)
        if chunk is None:
            continue
        if rows is None:
            rows = np.zeros((keys, DAY_MS // step, measures), np.int64)
        at = (start - day * DAY_MS) // step
        part = chunk.rows[:keys]
        rows[: len(part), at : at + part.shape[1]] = part
        if chunk.batch:
            batch |= 1 << ((start - day * DAY_MS) // HOUR_MS)
    return rows, batch


def longer(
    view: str, block: int, day: int, rows: np.ndarray, batch: int, kind: np.ndarray, zones: Sequence[str]
) -> list[Chunk]:
    """The hours and local days of one block's day. kind int64[keys] is each key's zone, an index into `zones`."""
    keys, steps, measures = rows.shape
    hours = np.zeros((keys, 24, measures), np.int64)
    fold(rows, _hour_targets(steps), np.zeros(keys, np.int64), hours)
    days = np.zeros((keys, 3, measures), np.int64)
    fold(rows, local_day_targets(zones, day, steps), kind, days)
    return [
        Chunk(HOURLY[view], block, day * DAY_MS, hours, batch),
        Chunk(DAILY[view], block, day * DAY_MS, days, 0b111 if batch else 0),
    ]


def hour_chunks(view: str, block: int, day: int, rows: np.ndarray, batch: int, until_ms: int) -> Iterator[Chunk]:
    """A day's rows as chunks of whole hours that end by `until_ms`."""
    step = STEP_MS[view]
    a_hour = HOUR_MS // step
    for hour in range(24):
        start = day * DAY_MS + hour * HOUR_MS
        if start + HOUR_MS <= until_ms:
            bits = (1 << a_hour) - 1 if batch >> hour & 1 else 0
            yield Chunk(view, block, start, rows[:, hour * a_hour : (hour + 1) * a_hour], bits)


def compose(store: Store, view: str, block: int, hour_ms: int) -> tuple[Chunk | None, list[tuple[str, int, int]]]:
    """The hour's single windows as one chunk, and the chunks that it replaces; None where it is one already."""
    step = STEP_MS[view]
    starts = store.starts(view, block, hour_ms, hour_ms + HOUR_MS)
    chunks = [c for s in starts if (c := store.chunk(view, block, s)) is not None]
    whole = HOUR_MS // step
    if not chunks or (len(chunks) == 1 and chunks[0].rows.shape[1] == whole):
        return None, []
    keys = max(len(c.rows) for c in chunks)
    rows = np.zeros((keys, whole, chunks[0].rows.shape[2]), np.int64)
    bits = 0
    for chunk in sorted(chunks, key=lambda c: -c.rows.shape[1]):  # a single window stands over an earlier whole hour
        at = (chunk.start_ms - hour_ms) // step
        width = chunk.rows.shape[1]
        rows[: len(chunk.rows), at : at + width] = chunk.rows
        bits = bits & ~(((1 << width) - 1) << at) | chunk.batch << at
    return Chunk(view, block, hour_ms, rows, bits), [(view, block, s) for s in starts if s != hour_ms]
