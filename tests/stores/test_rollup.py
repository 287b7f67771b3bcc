"""Hours and local days made of windows are what they would be made of readings, in whatever pieces the windows were stored."""

from __future__ import annotations

import random

import numpy as np
import pytest

from meterpulse.model.window import DAY_MS, HOUR_MS, MINUTE_MS, WINDOW_MS, day_of_text, local_day
from meterpulse.stores import Chunk
from meterpulse.stores.lmdb import LmdbStore
from meterpulse.stores.rollup import compose, day_rows, hour_chunks, longer

ZONES = ["America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC", "Pacific/Apia", "America/Havana"]
DAYS = ["2026-03-08", "2026-11-01", "2026-04-04", "2026-10-03", "2011-12-29", "2026-03-07"]


@pytest.fixture
def store(tmp_path):
    store = LmdbStore(tmp_path / "store", 64 << 20)
    yield store
    store.close()


def windows(seed: int, keys: int, steps: int, measures: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.zeros((keys, steps, measures), np.int64)
    rows[:, :, 0] = rng.integers(1, 61, (keys, steps)) * (rng.random((keys, steps)) < 0.7)
    rows[:, :, 1] = rng.integers(-(10**14), 10**14, (keys, steps))
    rows[:, :, 2] = rng.integers(-(10**9), 0, (keys, steps))
    rows[:, :, 3] = rng.integers(0, 10**9, (keys, steps))
    if measures == 5:
        rows[:, :, 4] = rng.integers(-(10**9), 10**9, (keys, steps))
    rows[rows[:, :, 0] == 0] = 0
    return rows


def merged(rows: list[np.ndarray]) -> list[int]:
    own = [r.tolist() for r in rows if r[0]]
    if not own:
        return []
    out = [sum(r[0] for r in own), sum(r[1] for r in own), min(r[2] for r in own), max(r[3] for r in own)]
    return out + own[-1][4:]


@pytest.mark.parametrize("text", DAYS)
@pytest.mark.parametrize("view", ["usage_5m", "area_1m"])
def test_hours_and_local_days_are_the_sums_of_their_windows(view, text):
    day, measures = day_of_text(text), 5 if view == "usage_5m" else 4
    step = WINDOW_MS if view == "usage_5m" else MINUTE_MS
    rows = windows(day, 7, DAY_MS // step, measures)
    kind = np.arange(7) % len(ZONES)
    hours, days = longer(view, 0, day, rows, 0b11, kind, ZONES)
    assert (hours.view, days.view) == (("usage_1h", "usage_1d") if measures == 5 else ("area_1h", "area_1d"))
    for key in range(7):
        for hour in range(24):
            part = rows[key, hour * HOUR_MS // step : (hour + 1) * HOUR_MS // step]
            assert hours.rows[key, hour].tolist() == (merged(list(part)) or [0] * measures)
        by_date: dict[int, list] = {}
        for k in range(rows.shape[1]):
            by_date.setdefault(local_day(ZONES[kind[key]], day * DAY_MS + k * step), []).append(rows[key, k])
        want = [merged(part) or [0] * measures for _, part in sorted(by_date.items())]
        assert days.rows[key, : len(want)].tolist() == want and not days.rows[key, len(want) :].any()


@pytest.mark.parametrize("seed", range(4))
def test_a_day_stored_in_windows_and_hours_is_read_as_one(store, seed):
    rng, day, keys = random.Random(seed), 20_520, 9
    rows = windows(seed, keys, 288, 5)
    batch = rng.getrandbits(24)
    for hour in range(24):
        part = rows[:, hour * 12 : hour * 12 + 12]
        start = day * DAY_MS + hour * HOUR_MS
        bits = (1 << 12) - 1 if batch >> hour & 1 else 0
        if rng.random() < 0.5:
            store.write([Chunk("usage_5m", 0, start, part, bits)])
        else:
            store.write([Chunk("usage_5m", 0, start + w * WINDOW_MS, part[:, w : w + 1], bits & 1) for w in range(12)])
    got, bits = day_rows(store, "usage_5m", 0, day, keys, 5)
    assert np.array_equal(got, rows) and bits == batch
    for hour in range(24):
        chunk, replaced = compose(store, "usage_5m", 0, day * DAY_MS + hour * HOUR_MS)
        if chunk is not None:
            store.write([chunk], remove=replaced)
    assert store.starts("usage_5m", 0, day * DAY_MS, (day + 1) * DAY_MS) == [
        day * DAY_MS + h * HOUR_MS for h in range(24)
    ]
    got, bits = day_rows(store, "usage_5m", 0, day, keys, 5)
    assert np.array_equal(got, rows) and bits == batch
    assert compose(store, "usage_5m", 0, day * DAY_MS) == (None, []), "composing twice changes nothing"


def test_a_single_window_stands_over_an_earlier_whole_hour(store):
    hour = 20_520 * DAY_MS
    old, new = windows(1, 4, 12, 5), windows(2, 4, 1, 5)
    new[:, :, 0] = 7
    store.write([Chunk("usage_5m", 0, hour, old, 0xFFF), Chunk("usage_5m", 0, hour + 3 * WINDOW_MS, new)])
    chunk, replaced = compose(store, "usage_5m", 0, hour)
    old[:, 3] = new[:, 0]
    assert np.array_equal(chunk.rows, old) and chunk.batch == 0xFFF & ~(1 << 3)
    assert replaced == [("usage_5m", 0, hour + 3 * WINDOW_MS)]


def test_only_whole_hours_before_the_boundary_are_made_of_a_day():
    day, rows = 20_520, windows(1, 3, 288, 5)
    boundary = day * DAY_MS + 5 * HOUR_MS + 10 * MINUTE_MS
    chunks = list(hour_chunks("usage_5m", 0, day, rows, (1 << 24) - 1, boundary))
    assert [c.start_ms for c in chunks] == [day * DAY_MS + h * HOUR_MS for h in range(5)]
    assert all(np.array_equal(c.rows, rows[:, h * 12 : h * 12 + 12]) and c.batch == 0xFFF for h, c in enumerate(chunks))


def test_windows_that_were_closed_before_a_channel_was_registered_are_absent_for_it(store):
    hour = 20_520 * DAY_MS
    small, large = windows(1, 2, 1, 5), windows(2, 5, 1, 5)
    store.write([Chunk("usage_5m", 0, hour, small), Chunk("usage_5m", 0, hour + WINDOW_MS, large)])
    chunk, _ = compose(store, "usage_5m", 0, hour)
    assert (
        np.array_equal(chunk.rows[:2, 0], small[:, 0])
        and not chunk.rows[2:, 0].any()
        and np.array_equal(chunk.rows[:, 1], large[:, 0])
    )
    rows, _ = day_rows(store, "usage_5m", 0, 20_520, 8, 5)
    assert rows.shape == (8, 288, 5) and not rows[5:].any()
