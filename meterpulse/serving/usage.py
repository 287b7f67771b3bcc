"""What a channel or an area used: windows from the store up to the boundary, from the speed layer's memory after it.

Every grain is folded from the finest rows that cover it: a complete day has its hours and local days in the store, today has
windows. Rows are int64[n, measures] (count, sum, min, max and, for channels, last) with their start; a window without readings
has no row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from meterpulse.model import cells as c
from meterpulse.model.groups import group_index
from meterpulse.model.window import (
    DAY_MS,
    GRAINS,
    HOUR_MS,
    MINUTE_MS,
    WINDOW_MS,
    day_splits,
    local_day,
    local_day_bounds,
    local_midnight,
)
from meterpulse.speed.embedded import Engine, Window
from meterpulse.stores import Rows, Store


class UsageReader:
    """Reads one key of a view over a span of time."""

    def __init__(
        self, engine: Engine, store: Store, rolled: Callable[[], set[int]], descendants: Callable[[int], np.ndarray]
    ):
        self._engine, self._store, self._rolled, self._descendants = engine, store, rolled, descendants

    def channel(self, index: int, zone: str, grain: str, start_ms: int, end_ms: int) -> Rows:
        """Windows of a channel whose start lies in [start_ms, end_ms); grain is 5m, 1h or 1d."""

        def live(low: int, high: int) -> list[tuple[int, np.ndarray]]:
            found = []
            for window in self._engine.open_windows():
                if low <= window.start_ms < high:
                    row = _row(window, index)
                    if row is not None:
                        found.append((window.start_ms, row))
            return found

        return self._read(
            "usage_5m", "usage_1h", "usage_1d", WINDOW_MS, c.ROW, index, zone, grain, start_ms, end_ms, live
        )

    def area(self, area: int, utility: int, direction: int, zone: str, grain: str, start_ms: int, end_ms: int) -> Rows:
        """Windows of all channels of a utility and direction in an area and below it; grain is 1m, 5m, 1h or 1d."""
        groups = np.array([group_index(int(a), utility, direction) for a in self._descendants(area)])

        def live(low: int, high: int) -> list[tuple[int, np.ndarray]]:
            found = []
            for window in self._engine.open_windows():
                if low <= window.start_ms < high:
                    own = groups[groups < window.area.shape[1]]
                    found.append(
                        (window.start_ms, _steady(lambda w=window, g=own: _total(w.minutes(self._engine.groups())[g])))
                    )
            return found

        group = group_index(area, utility, direction)
        return self._read(
            "area_1m", "area_1h", "area_1d", MINUTE_MS, c.AREA_ROW, group, zone, grain, start_ms, end_ms, live
        )

    def _read(
        self, base: str, hourly: str, daily: str, step_ms: int, measures: int, key: int, zone: str, grain: str, start_ms: int, end_ms: int,
        live: Callable[[int, int], list[tuple[int, np.ndarray]]],
    ) -> Rows:  # fmt: skip
        """One of the base, hours or local days, each from the coarsest rows there are."""
        size = GRAINS[grain]
        if end_ms <= start_ms:
            return _empty(measures)
        low, high = aligned(zone, grain, start_ms, end_ms)
        parts: list[Rows] = []
        rolled = self._rolled() if size >= HOUR_MS else set()
        span_low: int | None = None
        for day in range(low // DAY_MS, -(-high // DAY_MS)):
            if day in rolled:
                if span_low is not None:
                    parts.append(self._base(base, key, step_ms, measures, span_low, min(day * DAY_MS, high), live))
                    span_low = None
                parts.append(self._rolled_day(hourly, daily, key, zone, grain, day, measures))
            elif span_low is None:
                span_low = max(low, day * DAY_MS)
        if span_low is not None:
            parts.append(self._base(base, key, step_ms, measures, span_low, high, live))
        every = _within(_concat(parts, measures), low, high)
        if size == step_ms:
            return every
        if grain != "1d":
            target = every.start // size * size
        else:
            first, last = local_day(zone, low), local_day(zone, high - 1)
            days = np.array([local_midnight(zone, d) for d in range(first, last + 2)], np.int64)
            target = days[np.searchsorted(days, every.start, "right") - 1] if len(every.start) else every.start
        return _fold(every, target)

    def _rolled_day(self, hourly: str, daily: str, key: int, zone: str, grain: str, day: int, measures: int) -> Rows:
        spans = self._store.spans(daily if grain == "1d" else hourly, key, day * DAY_MS, (day + 1) * DAY_MS)
        if not spans:
            return _empty(measures)
        span = spans[0]
        if grain == "1d":
            # A part is placed where it begins in this UTC day; its local day is the one that holds this instant.
            starts = np.array([start for _, start, _ in day_splits(zone, day)], np.int64)
        else:
            starts = day * DAY_MS + np.arange(24) * HOUR_MS
        rows = span.rows[: len(starts)]
        present = rows[:, 0] != 0
        bits = np.array([span.batch >> i & 1 for i in range(len(starts))], bool)
        return Rows(starts[present], rows[present], bits[present])

    def _base(
        self,
        base: str,
        key: int,
        step_ms: int,
        measures: int,
        low: int,
        high: int,
        live: Callable[[int, int], list[tuple[int, np.ndarray]]],
    ) -> Rows:
        now = live(low - low % WINDOW_MS, high)  # memory first: a window that moves to the store meanwhile is seen here
        parts = self._store.series(base, key, low - low % HOUR_MS, high, step_ms)
        if now and parts:
            in_memory = np.array([start for start, _ in now], np.int64)
            parts = [_without(part, in_memory) for part in parts]
        for start, found in now:
            present = np.flatnonzero(found[:, 0])
            parts.append(Rows(start + present * step_ms, found[present], np.zeros(len(present), bool)))
        every = _concat(parts, measures)
        if not (every.start[1:] >= every.start[:-1]).all():
            order = np.argsort(every.start, kind="stable")
            every = Rows(every.start[order], every.rows[order], every.batch[order])
        return _within(every, low, high)


def aligned(zone: str, grain: str, start_ms: int, end_ms: int) -> tuple[int, int]:
    """[low, high) of the whole windows that start in [start_ms, end_ms), which is not empty."""
    size = GRAINS[grain]
    if grain != "1d":
        return -(-start_ms // size) * size, -(-end_ms // size) * size
    first = local_day(zone, start_ms)
    first += local_midnight(zone, first) < start_ms
    last = local_day(zone, end_ms - 1)
    return local_midnight(zone, first), local_day_bounds(zone, last)[1]


def _without(rows: Rows, in_memory: np.ndarray) -> Rows:
    """Without the windows that memory knows better; they are newer than most."""
    if not len(rows.start) or rows.start[-1] < in_memory[0]:
        return rows
    first = int(np.searchsorted(rows.start, in_memory[0]))
    if first == len(rows.start):
        return rows
    kept = np.ones(len(rows.start), bool)
    kept[first:] = ~np.isin(rows.start[first:] // WINDOW_MS * WINDOW_MS, in_memory)
    return Rows(rows.start[kept], rows.rows[kept], rows.batch[kept])


def _within(rows: Rows, low: int, high: int) -> Rows:
    """The rows, which are in order of time, that start in [low, high)."""
    start = rows.start
    if not len(start) or (start[0] >= low and start[-1] < high):
        return rows
    first, after = np.searchsorted(start, (low, high))
    return Rows(start[first:after], rows.rows[first:after], rows.batch[first:after])


def _row(window: Window, channel: int) -> np.ndarray | None:
    """int64[1, 5] of one channel in an open window, as it was at one moment; None where it has no reading."""
    if window.loose:
        return _steady(lambda: window.rows(channel, channel + 1)[0])
    before = window.row(channel)
    for _ in range(5):
        after = window.row(channel)
        if before == after:
            break
        before = after
    return None if before is None else np.array([before], np.int64)


def _steady(read: Callable[[], np.ndarray]) -> np.ndarray:
    """A row that the engine did not change while it was read."""
    before = read()
    for _ in range(5):
        after = read()
        if np.array_equal(before, after):
            return after
        before = after
    return before


def _total(rows: np.ndarray) -> np.ndarray:
    """int64[groups, steps, 4] -> [steps, 4] of all groups together."""
    present = rows[:, :, 0] != 0
    out = np.zeros(rows.shape[1:], np.int64)
    if rows.shape[0]:
        out[:, :2] = rows[:, :, :2].sum(axis=0)
        out[:, 2] = np.where(present, rows[:, :, 2], np.iinfo(np.int64).max).min(axis=0)
        out[:, 3] = np.where(present, rows[:, :, 3], np.iinfo(np.int64).min).max(axis=0)
        out[out[:, 0] == 0] = 0
    return out


def _fold(every: Rows, target: np.ndarray) -> Rows:
    """Merges neighbouring rows of the same target window."""
    if not len(target):
        return every
    first = np.flatnonzero(np.r_[True, target[1:] != target[:-1]])
    r = every.rows
    columns = [
        np.add.reduceat(r[:, 0], first),
        np.add.reduceat(r[:, 1], first),
        np.minimum.reduceat(r[:, 2], first),
        np.maximum.reduceat(r[:, 3], first),
    ]
    if r.shape[1] == c.ROW:
        columns.append(r[np.r_[first[1:], len(r)] - 1, 4])
    return Rows(target[first], np.stack(columns, axis=1), np.logical_or.reduceat(every.batch, first))


def _concat(parts: list[Rows], measures: int) -> Rows:
    if len(parts) < 2:
        return parts[0] if parts else _empty(measures)
    return Rows(
        np.concatenate([p.start for p in parts]),
        np.concatenate([p.rows for p in parts]),
        np.concatenate([p.batch for p in parts]),
    )


def _empty(measures: int) -> Rows:
    return Rows(np.empty(0, np.int64), np.empty((0, measures), np.int64), np.empty(0, bool))
