"""Batch computes a day from everything that was kept of it; what it writes replaces what was there, window by window."""

from __future__ import annotations

import random

import numpy as np
import pytest

from meterpulse.batch.embedded import DayBuilder, rebuild
from meterpulse.model.channel import NO_AREA
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS, HOUR_MS, WINDOW_MS
from meterpulse.stores import BLOCK, Chunk
from meterpulse.stores.lmdb import LmdbStore
from meterpulse.stores.rollup import day_rows

DAY = 20_520
BASE = DAY * DAY_MS
CHANNELS = BLOCK + 40  # two blocks
USED = [0, 1, 2, 1023, 1024, 1030, 4095, 4096, 4100, 4135]  # in four buckets
AREAS = 2  # the second lies in the first
GROUP_OF = np.zeros(CHANNELS, np.uint32)
for _channel in USED:
    GROUP_OF[_channel] = 1 + (_channel % 2) * 6
PARENTS = np.array([NO_AREA, 0], np.uint32)


@pytest.fixture
def store(tmp_path):
    store = LmdbStore(tmp_path / "store", 256 << 20)
    yield store
    store.close()


def readings(seed: int, n: int = 400) -> list[tuple]:
    """(channel, start, quantity, revision) in the order of the log: on the grid and off it, again and again revised."""
    rng, found = random.Random(seed), []
    for _ in range(n):
        start = BASE + rng.randrange(DAY_MS // 5000) * 5000 + rng.choice((0, 0, 0, 1, 4999))
        found.append((rng.choice(USED), start, rng.randrange(-(10**9), 10**14), rng.choice((0, 0, 2))))
        if rng.random() < 0.3:
            channel, start, quantity, _ = rng.choice(found)
            found.append((channel, start, quantity + 1, rng.choice((0, 1, 2, 3))))
    return found


class InMemory:
    """What the lake would give, in log order in a few parts, for one span or for one a block."""

    def __init__(self, rows: list[tuple], parts: int = 3, span: int = CHANNELS):
        self.rows, self._rows, self._parts, self._span = len(rows), rows, parts, span

    def spans(self, channels: int):
        return [(low, min(low + self._span, channels)) for low in range(0, channels, self._span)]

    def parts(self, span: tuple[int, int]):
        n, k = len(self._rows), self._parts
        cuts = [self._rows[n * i // k : n * (i + 1) // k] for i in range(k)]
        return [
            lambda p=part: Readings.of(*zip(*((c, s, 5, q, r) for c, s, q, r in p), strict=True))
            for part in cuts
            if part
        ]


def expected(rows: list[tuple], until_ms: int = 1 << 60) -> tuple[dict, dict]:
    """(channel, window) and (group, minute) -> measures, by a plain loop."""
    best = {}
    for channel, start, quantity, revision in rows:
        if (channel, start) not in best or revision > best[channel, start][1]:
            best[channel, start] = (quantity, revision)
    windows, minutes = {}, {}
    for (channel, start), (quantity, _) in sorted(best.items(), key=lambda item: item[0][1]):
        if start // WINDOW_MS * WINDOW_MS >= until_ms:
            continue
        windows.setdefault((channel, (start - BASE) // WINDOW_MS), []).append(quantity)
        for group in {int(GROUP_OF[channel]), 1}:  # its own area, and the one around it
            minutes.setdefault((group, (start - BASE) // 60_000), []).append(quantity)
    measures = [{k: [len(v), sum(v), min(v), max(v), v[-1]] for k, v in found.items()} for found in (windows, minutes)]
    return measures[0], {k: v[:4] for k, v in measures[1].items()}


def builder() -> DayBuilder:
    return DayBuilder(GROUP_OF, 1 + 6 * AREAS, PARENTS)


def run(store: LmdbStore, rows: list[tuple], boundary_ms: int, **options):
    zone = np.zeros(CHANNELS, np.int64), np.zeros(1 + 6 * AREAS, np.int64)
    return rebuild(DAY, boundary_ms, builder(), InMemory(rows), store, lambda write: write(), ["UTC"], *zone, **options)


def stored(store: LmdbStore) -> tuple[dict, dict]:
    found = {}
    for block, keys in ((0, BLOCK), (1, CHANNELS - BLOCK)):
        rows, _ = day_rows(store, "usage_5m", block, DAY, keys, 5)
        if rows is not None:
            found |= {(block * BLOCK + k, w): rows[k, w].tolist() for k, w in np.argwhere(rows[:, :, 0]).tolist()}
    rows, _ = day_rows(store, "area_1m", 0, DAY, 1 + 6 * AREAS, 4)
    groups = {} if rows is None else {(g, m): rows[g, m].tolist() for g, m in np.argwhere(rows[:, :, 0]).tolist()}
    return found, groups


@pytest.mark.parametrize("seed", range(3))
def test_a_day_is_built_as_a_plain_loop_over_its_readings_would(seed):
    rows, b, found = readings(seed), builder(), {}

    def take(made):
        first = made.block * BLOCK
        found.update({(first + k, w): made.rows[k, w].tolist() for k, w in np.argwhere(made.rows[:, :, 0]).tolist()})

    b.build(DAY, InMemory(rows, span=(CHANNELS, BLOCK)[seed % 2]), take)
    windows, minutes = expected(rows)
    assert found == windows
    area = b.area_rows()
    assert {(g, m): area[g, m].tolist() for g, m in np.argwhere(area[:, :, 0]).tolist()} == minutes
    assert (b.rows, b.effective) == (len(rows), len({r[:2] for r in rows}))


@pytest.mark.parametrize("hours", [0, 5, 5.5, 23.75, 24, 30])
def test_only_windows_before_the_boundary_are_written_and_each_once(store, hours):
    rows, boundary = readings(7), BASE + int(hours * HOUR_MS) // WINDOW_MS * WINDOW_MS
    run(store, rows, boundary)
    windows, minutes = expected(rows, boundary)
    assert stored(store) == (windows, minutes)
    run(store, rows, boundary)
    assert stored(store) == (windows, minutes), "rebuilding changes nothing"


def test_a_later_boundary_leaves_no_single_window_beside_its_hour(store):
    rows = readings(8)
    for minutes in (25, 45, 60, 95, 24 * 60):
        boundary = BASE + minutes * 60_000
        run(store, rows, boundary)
        for view in ("usage_5m", "area_1m"):
            starts = store.starts(view, 0, BASE, BASE + DAY_MS)
            assert all(s % HOUR_MS == 0 or s >= boundary - boundary % HOUR_MS for s in starts)
        assert stored(store) == expected(rows, boundary)


def test_windows_of_speed_in_the_hour_that_the_boundary_cuts_stay(store):
    rows = readings(9)
    boundary = BASE + 5 * HOUR_MS + 2 * WINDOW_MS
    speeds = np.zeros((BLOCK, 1, 5), np.int64)
    speeds[0, 0] = [1, 2, 3, 4, 5]
    store.write([Chunk("usage_5m", 0, boundary + WINDOW_MS, speeds)])
    run(store, rows, boundary)
    windows, _ = expected(rows, boundary)
    assert stored(store)[0] == windows | {(0, 5 * 12 + 3): [1, 2, 3, 4, 5]}


def test_a_day_that_was_dropped_from_the_lake_is_emptied(store):
    run(store, readings(1), BASE + DAY_MS)
    run(store, [], BASE + DAY_MS)
    assert stored(store) == ({}, {})
    for view in ("usage_1h", "usage_1d", "area_1h", "area_1d"):
        assert store.chunk(view, 0, BASE) is None


def test_where_the_lake_has_lost_readings_fuller_rows_stay(store):
    rows = readings(2)
    lost, left = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    run(store, lost, BASE + DAY_MS)
    before, _ = stored(store)
    run(store, left, BASE + DAY_MS, lossy=True)
    after, _ = stored(store)
    new, _ = expected(left)
    for key in {*before, *new}:
        had, has = before.get(key, [0])[0], new.get(key, [0])[0]
        assert after[key] == (before[key] if had > has else new[key])


def test_hours_and_days_appear_with_the_end_of_the_day(store):
    rows = readings(3)
    run(store, rows, BASE + DAY_MS - WINDOW_MS)
    assert store.chunk("usage_1h", 0, BASE) is None and store.chunk("usage_1d", 0, BASE) is None
    run(store, rows, BASE + DAY_MS)
    hours, days = store.chunk("usage_1h", 0, BASE), store.chunk("usage_1d", 0, BASE)
    windows, _ = expected(rows)
    assert (
        hours.rows[:, :, 0].sum()
        == days.rows[:, 0, 0].sum()
        == sum(v[0] for (ch, _), v in windows.items() if ch < BLOCK)
    )
    assert hours.rows[:, :, 1].sum() == sum(v[1] for (ch, _), v in windows.items() if ch < BLOCK)
