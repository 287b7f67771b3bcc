"""Load profiles out of the store: what was measured of a block's channels, on the record's grid.

The record's interval is the channel's own where that is at least five minutes and divides a day, else five minutes. A profile
holds the UTC day that is judged and its neighbours, since rules judge local days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

from meterpulse.model.channel import ChannelTable, Kind, Profiles
from meterpulse.model.quality import RAW
from meterpulse.model.window import DAY_MS, WINDOW_MS, WINDOWS_A_DAY, day_splits, local_day_bounds
from meterpulse.stores import BLOCK, Sparse, Store
from meterpulse.vee import UNKNOWN, History

PAST_DAYS, YEAR_DAYS, SEASON_DAYS = 60, 365, 7


def step_ms(profiles: Profiles, number: int) -> int:
    """How long an interval of the record is, of channels with that profile."""
    own = int(profiles.interval_seconds[number]) * 1000
    return own if own >= WINDOW_MS and DAY_MS % own == 0 else WINDOW_MS


def is_judged(profiles: Profiles, number: int) -> bool:
    """Whether rules judge these channels: intervals that the record's grid has places for. Registers are judged by what was
    used between their reads, gauges do not add up, and an interval of seven minutes or a month fits no day.
    """
    own = int(profiles.interval_seconds[number]) * 1000
    fits = DAY_MS % own == 0 if own >= WINDOW_MS else WINDOW_MS % own == 0
    return int(profiles.kind[number]) == Kind.interval and fits


def judged_keys(table: ChannelTable, block: int) -> np.ndarray:
    """bool[keys]: `is_judged` of each channel of a block."""
    of_profile = np.array([is_judged(table.profiles, n) for n in range(len(table.profiles.kind))], bool)
    return of_profile[np.asarray(table.profile[block * BLOCK : min((block + 1) * BLOCK, table.count)])]


def step_keys(table: ChannelTable, block: int) -> np.ndarray:
    """int64[keys]: `step_ms` of each channel of a block."""
    of_profile = np.array([step_ms(table.profiles, n) for n in range(len(table.profiles.kind))], np.int64)
    return of_profile[np.asarray(table.profile[block * BLOCK : min((block + 1) * BLOCK, table.count)])]


def readings_expected(profiles: Profiles, number: int) -> int:
    """Of how many readings an interval of the record is made."""
    return max(1, step_ms(profiles, number) // (int(profiles.interval_seconds[number]) * 1000))


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """5-minute windows of n channels: count int32[n, m] (0: nothing was measured), total int64[n, m] in thousandths, and
    quality int32[n, m], packed, of the readings."""

    count: np.ndarray
    total: np.ndarray
    quality: np.ndarray

    def folded(self, rows: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(quantity int64, quality int32, readings int32) of some channels by intervals of `step` ms; MISSING where
        there is none. Windows of different quality make one that is mixed."""
        a_step = step // WINDOW_MS
        n, m = len(rows), self.count.shape[1] // a_step
        out = np.empty((n, m), np.int64), np.empty((n, m), np.int32), np.empty((n, m), np.int32)
        _fold(self.count, self.total, self.quality, rows, a_step, *out)
        return out


def windows_of(store: Store, block: int, keys: int, start_ms: int, end_ms: int) -> Windows:
    """Of a whole block, whole hours [start, end); raises CorruptChunk."""
    m = (end_ms - start_ms) // WINDOW_MS
    count, total = np.zeros((keys, m), np.int32), np.zeros((keys, m), np.int64)
    quality = np.full((keys, m), RAW, np.int32)
    for start in store.starts("usage_5m", block, start_ms, end_ms):
        chunk = store.chunk("usage_5m", block, start)
        if chunk is not None:
            at, part = (start - start_ms) // WINDOW_MS, chunk.rows[:keys]
            own = slice(at, at + part.shape[1])
            count[: len(part), own], total[: len(part), own] = part[:, :, 0], part[:, :, 1]
    row_of = np.full(BLOCK, -1, np.int64)
    row_of[:keys] = np.arange(keys)
    _put_grades(store, block, start_ms, end_ms, row_of, quality)
    return Windows(count, total, quality)


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """UTC days of a block, in the parts of local days that the store keeps: day int64[h], ascending; total and count
    int64[keys, h, 3]."""

    day: np.ndarray
    total: np.ndarray
    count: np.ndarray

    def in_days_of(self, zone: str, rows: np.ndarray, own_interval_ms: int) -> History:
        """The local days of a zone, of some channels, known where they have every reading of the calendar."""
        index: dict[int, int] = {}
        parts = [(h, k, index.setdefault(local, len(index))) for h, day in enumerate(self.day.tolist())
                 for k, (local, _, _) in enumerate(day_splits(zone, day))]  # fmt: skip
        total, count = (np.zeros((len(rows), len(index)), np.int64) for _ in range(2))
        for h, k, at in parts:
            total[:, at] += self.total[rows, h, k]
            count[:, at] += self.count[rows, h, k]
        lengths = [high - low for low, high in (local_day_bounds(zone, local) for local in index)]
        whole = np.equal(count, np.array(lengths, np.int64).reshape(1, -1) // own_interval_ms)
        order = np.argsort(np.array(list(index), np.int64))
        days = np.array(list(index), np.int32)[order]
        return History(days, np.ascontiguousarray(np.where(whole, total, UNKNOWN)[:, order]))

    def newest(self) -> np.ndarray:
        """int64[keys]: the end (ms) of the newest of these UTC days with a reading, UNKNOWN where none has."""
        seen = np.asarray(self.count.any(axis=2))
        if not len(self.day):
            return np.full(len(self.count), UNKNOWN, np.int64)
        last = self.day[len(self.day) - 1 - seen[:, ::-1].argmax(axis=1)]
        return np.where(seen.any(axis=1), (last + 1) * DAY_MS, UNKNOWN)


def days_before(store: Store, block: int, day: int) -> Iterator[int]:
    """The UTC days that `past_of` looks at and that the store has, ascending."""
    year = day - YEAR_DAYS
    for first, after in ((year - SEASON_DAYS - 1, year + SEASON_DAYS + 2), (day - PAST_DAYS - 1, day)):
        for start in store.starts("usage_1d", block, first * DAY_MS, after * DAY_MS):
            yield start // DAY_MS


def past_of(store: Store, block: int, keys: int, day: int) -> Past:
    """The two months before a UTC day and the days around the same date a year ago; raises CorruptChunk."""
    there = list(days_before(store, block, day))
    total, count = (np.zeros((keys, len(there), 3), np.int64) for _ in range(2))
    for h, past in enumerate(there):
        chunk = store.chunk("usage_1d", block, past * DAY_MS)
        if chunk is not None:
            part = chunk.rows[:keys]
            total[: len(part), h, : part.shape[1]], count[: len(part), h, : part.shape[1]] = (
                part[:, :, 1],
                part[:, :, 0],
            )
    return Past(np.array(there, np.int64), total, count)


def channel_windows(store: Store, block: int, keys: np.ndarray, start_ms: int, end_ms: int) -> Windows:
    """The same as `windows_of` of a few channels (within their block) over a long time."""
    n, m = len(keys), (end_ms - start_ms) // WINDOW_MS
    count, total = np.zeros((n, m), np.int32), np.zeros((n, m), np.int64)
    quality = np.full((n, m), RAW, np.int32)
    for i, key in enumerate(keys.tolist()):
        for found in store.series("usage_5m", block * BLOCK + key, start_ms, end_ms, WINDOW_MS):
            at = (found.start - start_ms) // WINDOW_MS
            here = (at >= 0) & (at < m)
            count[i, at[here]], total[i, at[here]] = found.rows[here, 0], found.rows[here, 1]
    row_of = np.full(BLOCK, -1, np.int64)
    row_of[keys] = np.arange(n)
    _put_grades(store, block, start_ms, end_ms, row_of, quality)
    return Windows(count, total, quality)


def _put_grades(store: Store, block: int, start_ms: int, end_ms: int, row_of: np.ndarray, quality: np.ndarray) -> None:
    for day_ms in store.starts("grades", block, start_ms - start_ms % DAY_MS, end_ms):
        graded = store.sparse("grades", block, day_ms)
        if graded is None:
            continue
        row = row_of[graded.places.astype(np.int64) // WINDOWS_A_DAY]
        at = graded.places.astype(np.int64) % WINDOWS_A_DAY + (day_ms - start_ms) // WINDOW_MS
        here = (row >= 0) & (at >= 0) & (at < quality.shape[1])
        quality[row[here], at[here]] = graded.rows[here, 0] - 1


def grades(block: int, day: int, quality: np.ndarray, count: np.ndarray) -> Sparse:
    """What the readings' senders said of them, where it is not that they are raw: quality int32[keys, 288], packed."""
    told = (quality != RAW) & (count != 0)
    places = np.flatnonzero(told.reshape(-1)).astype(np.uint32)
    rows = quality.reshape(-1)[places].astype(np.int64)[:, None] + 1
    return Sparse("grades", block, day * DAY_MS, len(quality), places, rows)


@njit(nogil=True, cache=True)
def _fold(count, total, quality, rows, a_step, out_quantity, out_quality, out_readings):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        r = rows[i]
        for c in range(out_quantity.shape[1]):
            value, readings, grade = np.int64(0), 0, -1
            for k in range(c * a_step, (c + 1) * a_step):
                if count[r, k] == 0:
                    continue
                value += total[r, k]
                readings += count[r, k]
                if grade == -1:
                    grade = quality[r, k]
                elif grade != quality[r, k]:
                    grade = 13
            out_quantity[i, c], out_quality[i, c], out_readings[i, c] = value, grade, readings
