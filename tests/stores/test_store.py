"""The store gives back the rows that were put in, block by block, and never a row that was not: a flipped bit is found."""

from __future__ import annotations

import os
import random

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from meterpulse.model.window import DAY_MS, HOUR_MS
from meterpulse.stores import BLOCK, Chunk, CorruptChunk, StoreFull
from meterpulse.stores.lmdb import LmdbStore, _decode, _encode, _row

WHEN = 20_520 * DAY_MS


@pytest.fixture
def store(tmp_path):
    store = LmdbStore(tmp_path / "store", 64 << 20)
    yield store
    store.close()


def rows(
    seed: int, keys: int, steps: int, measures: int = 5, *, density: float = 0.7, low: int = 0, high: int = 10**6
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = rng.integers(low, high, (keys, steps, measures))
    out[:, :, 0] = rng.integers(1, 61, (keys, steps))
    out[rng.random((keys, steps)) >= density] = 0
    return out


KINDS = {
    "dense": {},
    "sparse": {"density": 0.02},
    "negative": {"low": -(10**6)},
    "64 bits": {"high": 2**62, "low": -(2**62)},
    "sparse in 64 bits": {"density": 0.01, "high": 2**62},
    "at the edge of 32 bits": {"low": 2**31 - 2, "high": 2**31},
    "areas": {"measures": 4, "density": 0.4},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_put_in_comes_out_whole_and_key_by_key(store, kind):
    given = rows(1, 300, 12, **KINDS[kind])
    store.write([Chunk("usage_5m", 0, WHEN, given, 0b101)])
    chunk = store.chunk("usage_5m", 0, WHEN)
    assert np.array_equal(chunk.rows, given) and chunk.batch == 0b101
    for key in range(300):
        spans = store.spans("usage_5m", key, WHEN, WHEN + 1)
        got = spans[0].rows if spans else np.zeros_like(given[key])
        assert np.array_equal(got, given[key])
        assert not spans or (spans[0].start_ms, spans[0].batch) == (WHEN, 0b101)
    assert store.spans("usage_5m", 300, WHEN, WHEN + 1) == [] and store.verify() == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    hnp.arrays(
        np.int64,
        st.tuples(st.integers(1, 9), st.integers(1, 7), st.sampled_from([4, 5])),
        elements=st.integers(-(2**63), 2**63 - 1),
    ),
    st.integers(0, 2**60 - 1),
)
def test_any_rows_survive_encoding(given, batch):
    given[:, :, 0] = np.abs(given[:, :, 0] // 2)
    given[given[:, :, 0] == 0] = 0
    value = _encode(Chunk("usage_5m", 0, 0, given, batch))
    if not given[:, :, 0].any():
        assert value == b""
        return
    chunk = _decode("usage_5m", 0, 0, memoryview(value))
    assert np.array_equal(chunk.rows, given) and chunk.batch == batch


@pytest.mark.parametrize("kind", ["dense", "sparse", "64 bits", "sparse in 64 bits", "areas"])
def test_any_flipped_bit_is_found_by_who_reads_what_it_changes(kind):
    given = rows(2, 40, 12, **KINDS[kind])
    value = _encode(Chunk("usage_5m", 0, WHEN, given, (1 << 47) | 1))
    rng = random.Random(kind)
    places = {*range(40), *(rng.randrange(len(value)) for _ in range(400)), len(value) - 1}
    for place in places:  # every byte of the head, then places, numbers and checksums of rows
        bad = bytearray(value)
        bad[place] ^= 1 << rng.randrange(8)
        with pytest.raises(CorruptChunk):
            _decode("usage_5m", 0, WHEN, memoryview(bad))
        found = 0
        for key in range(40):
            try:
                span = _row("usage_5m", 0, WHEN, memoryview(bad), key)
                got = np.zeros_like(given[key]) if span is None else span.rows
                assert np.array_equal(got, given[key]), f"byte {place} changed key {key} unseen"
                assert span is None or span.batch == (1 << 47) | 1
            except CorruptChunk:
                found += 1
        assert found, f"byte {place} is in nobody's row"


@pytest.mark.parametrize("cut", [0, 1, 30, 44, 100, -1, -4])
def test_a_chunk_cut_short_is_found(cut):
    value = _encode(Chunk("usage_5m", 0, WHEN, rows(2, 40, 12), 1))
    for part in (value[:cut], value + b"\0\0\0\0"):
        with pytest.raises(CorruptChunk):
            _decode("usage_5m", 0, WHEN, memoryview(part))
        with pytest.raises(CorruptChunk):
            _row("usage_5m", 0, WHEN, memoryview(part), 0)


def test_spans_of_a_key_come_in_order_of_time_and_from_its_own_block_only(store):
    given = {}
    for block in (0, 1, 2):
        for hour in (5, 0, 3, 1):
            given[block, hour] = rows(block * 10 + hour, 50, 12 if hour else 1, density=1)
            store.write([Chunk("usage_5m", block, WHEN + hour * HOUR_MS, given[block, hour])])
    store.write([Chunk("usage_1h", 1, WHEN, rows(99, 50, 24))])
    spans = store.spans("usage_5m", BLOCK + 7, WHEN, WHEN + 5 * HOUR_MS)
    assert [s.start_ms for s in spans] == [WHEN, WHEN + HOUR_MS, WHEN + 3 * HOUR_MS]
    assert all(np.array_equal(s.rows, given[1, h][7]) for s, h in zip(spans, (0, 1, 3), strict=True))
    assert store.starts("usage_5m", 2, WHEN + 1, WHEN + DAY_MS) == [WHEN + h * HOUR_MS for h in (1, 3, 5)]
    assert store.newest("usage_5m", BLOCK + 7, 300_000) == WHEN + 6 * HOUR_MS
    assert store.newest("usage_5m", 3 * BLOCK, 300_000) is None


def test_a_chunk_without_rows_is_no_chunk_and_takes_an_older_one_away(store):
    store.write([Chunk("usage_5m", 0, WHEN, rows(1, 4, 12, density=1))])
    store.write([Chunk("usage_5m", 0, WHEN, np.zeros((4, 12, 5), np.int64))])
    assert store.chunk("usage_5m", 0, WHEN) is None and store.starts("usage_5m", 0, 0, 1 << 60) == []


def test_a_write_is_whole_or_not_there_and_carries_its_notes(store):
    def chunks():
        yield Chunk("usage_5m", 0, WHEN, rows(1, 4, 12, density=1))
        raise OSError("the source failed")

    with pytest.raises(OSError, match="the source failed"):
        store.write(chunks(), notes={"a": b"1"})
    assert store.chunk("usage_5m", 0, WHEN) is None and store.note("a") is None
    store.write([Chunk("usage_5m", 0, WHEN, rows(1, 4, 12, density=1))], notes={"a": b"1", "ab": b"2", "b": b"3"})
    store.write([], remove=[("usage_5m", 0, WHEN)], notes={"b": b""})
    assert (
        store.chunk("usage_5m", 0, WHEN) is None
        and store.notes("a") == {"a": b"1", "ab": b"2"}
        and store.note("b") is None
    )


def test_a_store_at_its_limit_refuses_and_keeps_what_it_has(tmp_path):
    store, n = LmdbStore(tmp_path, 16 << 20), 0
    with pytest.raises(StoreFull, match="stores.max_bytes"):
        while True:
            store.write([Chunk("usage_5m", 0, WHEN + n * HOUR_MS, rows(n, 4096, 12))])
            n += 1
    assert n > 5 and len(store.starts("usage_5m", 0, 0, 1 << 60)) == n
    assert np.array_equal(store.chunk("usage_5m", 0, WHEN).rows, rows(0, 4096, 12))
    while store.expire("usage_5m", WHEN + (n // 2) * HOUR_MS):
        pass
    store.write([Chunk("usage_5m", 0, WHEN + n * HOUR_MS, rows(n, 4096, 12))])
    store.close()


def test_expiring_takes_old_chunks_of_one_view_from_all_blocks_a_few_at_a_time(store):
    for view in ("usage_5m", "usage_1h", "area_1m"):
        for block in (0, 1, 5):
            for hour in range(6):
                store.write([Chunk(view, block, WHEN + hour * HOUR_MS, rows(1, 2, 12, density=1))])
    gone = []
    while count := store.expire("usage_5m", WHEN + 4 * HOUR_MS, limit=5):
        gone.append(count)
    assert sum(gone) == 12 and max(gone) <= 5
    for block in (0, 1, 5):
        assert store.starts("usage_5m", block, 0, 1 << 60) == [WHEN + 4 * HOUR_MS, WHEN + 5 * HOUR_MS]
        assert len(store.starts("usage_1h", block, 0, 1 << 60)) == len(store.starts("area_1m", block, 0, 1 << 60)) == 6


def test_times_before_1970_sort_before_those_after(store):
    for start in (-HOUR_MS, 0, -DAY_MS, HOUR_MS):
        store.write([Chunk("usage_5m", 0, start, rows(1, 2, 12, density=1))])
    assert [s.start_ms for s in store.spans("usage_5m", 0, -DAY_MS, DAY_MS)] == [-DAY_MS, -HOUR_MS, 0, HOUR_MS]


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, 0.99])
def test_a_store_cut_short_begins_anew_or_knows_which_chunks_are_damaged(tmp_path, part):
    store = LmdbStore(tmp_path, 64 << 20)
    for hour in range(20):
        store.write([Chunk("usage_5m", 0, WHEN + hour * HOUR_MS, rows(hour, 500, 12))])
    store.close()
    os.truncate(tmp_path / "data.mdb", int((tmp_path / "data.mdb").stat().st_size * part))
    store = LmdbStore(tmp_path, 64 << 20)
    if store.salvaged:
        assert "begins anew" in store.salvaged and store.starts("usage_5m", 0, 0, 1 << 60) == []
    else:
        damaged = {error.start_ms for error in store.verify()}
        assert damaged and part > 0.8
        for hour in range(20):
            if WHEN + hour * HOUR_MS not in damaged:
                assert np.array_equal(store.chunk("usage_5m", 0, WHEN + hour * HOUR_MS).rows, rows(hour, 500, 12))
    store.write([Chunk("usage_5m", 0, WHEN, rows(1, 4, 12))])
    store.close()
    store = LmdbStore(tmp_path, 64 << 20)
    assert store.salvaged is None and store.chunk("usage_5m", 0, WHEN) is not None
    store.close()


def test_pages_that_lead_nowhere_are_an_error_once_and_a_new_store_at_the_next_start(tmp_path, store):
    from meterpulse.stores import StoreDamaged

    store.write([Chunk("usage_5m", 0, WHEN, rows(1, 4, 12))])
    with pytest.raises(StoreDamaged, match="start again"), store._reading():
        raise lmdb.CorruptedError("a page")
    store.close()
    again = LmdbStore(tmp_path / "store", 64 << 20)
    assert "a page" in again.salvaged
    again.close()
