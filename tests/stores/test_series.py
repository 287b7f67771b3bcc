"""The quick walk over a key's chunks finds what the plain one does, whatever their shapes."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np
import pytest

from meterpulse.model.window import HOUR_MS, WINDOW_MS
from meterpulse.stores import Chunk, CorruptChunk, Rows, Store
from meterpulse.stores.lmdb import LmdbStore


def chunks(seed: int) -> list[Chunk]:
    """A few hours of one block: hours and single windows, full and nearly empty, small and large numbers."""
    random = np.random.default_rng(seed)
    made = []
    for hour in range(12):
        for steps in (12,) if random.random() < 0.6 else (1,) * int(random.integers(1, 4)):
            at = hour * HOUR_MS + (len(made) % 12) * WINDOW_MS * (steps == 1)
            largest = 2**62 if random.random() < 0.3 else 2**30
            rows = random.integers(-largest, largest, (int(random.integers(5, 9)), steps, 5))
            rows[:, :, 0] = random.integers(0, 3, rows.shape[:2]) if random.random() < 0.6 else 2
            if random.random() < 0.4:
                rows[random.random(rows.shape[:2]) < 0.9] = 0
            made.append(Chunk("usage_5m", 0, at, rows, int(random.integers(0, 2**steps))))
    return made


def joined(parts: list[Rows]) -> list[tuple]:
    return [(int(s), *r.tolist(), bool(b)) for p in parts for s, r, b in zip(p.start, p.rows, p.batch, strict=True)]


@pytest.mark.parametrize("seed", range(25))
def test_series_are_the_present_steps_of_the_spans(tmp_path: Path, seed: int) -> None:
    store = LmdbStore(tmp_path)
    store.write([*chunks(seed), Chunk("usage_5m", 1, 0, np.ones((9, 12, 5), np.int64))])
    for key in range(9):
        for span in ((0, 12 * HOUR_MS), (3 * HOUR_MS, 5 * HOUR_MS), (HOUR_MS, HOUR_MS), (-HOUR_MS, HOUR_MS)):
            quick = store.series("usage_5m", key, *span, WINDOW_MS)
            assert joined(quick) == joined(Store.series(store, "usage_5m", key, *span, WINDOW_MS))
    store.close()


def test_a_flipped_bit_in_a_row_is_seen_by_its_key_and_by_no_other(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store.write([Chunk("usage_5m", 0, hour * HOUR_MS, np.full((4, 12, 5), 7, np.int64)) for hour in range(3)])
    with store._env.begin(write=True) as txn, txn.cursor(store._chunks) as cursor:
        assert isinstance(cursor, lmdb.Cursor) and cursor.first() and cursor.next()
        value = bytearray(cursor.value())
        value[-100] ^= 4
        txn.put(cursor.key(), bytes(value), db=store._chunks)
    assert len(joined(store.series("usage_5m", 0, 0, 3 * HOUR_MS, WINDOW_MS))) == 36
    with pytest.raises(CorruptChunk) as error:
        store.series("usage_5m", 3, 0, 3 * HOUR_MS, WINDOW_MS)
    assert error.value.start_ms == HOUR_MS
    store.close()
