"""Readings in columns: packing loses nothing, whatever the columns look like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterpulse.model.reading import Readings, pack, unpack

I64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, -(2**63), 2**63 - 1, 2**31, 2**32 - 1, 255, 256, 65_536])
)
ROW = st.tuples(st.integers(0, 2**32 - 1), I64, st.integers(0, 2**31 - 1), I64, I64)


def of(rows: list[tuple]) -> Readings:
    return Readings.of(*([list(c) for c in zip(*rows, strict=True)] or [[]] * 5))


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, max_size=40))
def test_any_batch_survives_packing(rows):
    r = of(rows)
    assert unpack(pack(r)) == r


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 100),
    st.integers(1, 50),
    I64,
    st.integers(-500, 500),
    st.sampled_from(["run", "constant", "spread", "descending"]),
)
def test_runs_constants_and_narrow_spreads_survive_packing(first, n, base, step, shape):
    channel = {
        "run": np.arange(first, first + n),
        "constant": np.full(n, first),
        "descending": np.arange(first + n, first, -1),
    }.get(shape)
    channel = np.random.default_rng(n).integers(first, first + 50, n) if channel is None else channel
    base = min(max(base, -(2**63) + 30_000), 2**63 - 30_000)
    r = Readings.of(channel, base, 5, base + step * (np.arange(n) % 7), [0])
    again = unpack(pack(r))
    assert again == r and len(again.start) in (1, n)
    assert unpack(pack(again)) == r


def test_a_sweep_over_all_channels_packs_into_its_quantities():
    n = 100_000
    r = Readings.of(np.arange(n), 1_772_841_600_000, 5, np.arange(n) % 40_000)
    assert len(pack(r)) < 2 * n + 300


@pytest.mark.parametrize("cut", [0, 3, 15, 16, 30, 100, -1])
def test_what_is_not_a_packed_batch_is_refused(cut):
    whole = pack(of([(1, 2, 3, 4, 5), (9, 8, 7, 6, 5)]))
    with pytest.raises((ValueError, Exception)):
        unpack(whole[:cut] if cut else b"")
    with pytest.raises(ValueError, match="not a packed batch"):
        unpack(b"XXXX" + whole[4:])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ROW, max_size=6), max_size=5), st.data())
def test_joining_and_taking_keep_rows_and_order(parts, data):
    rows = [row for part in parts for row in part]
    joined = Readings.concat([of(p) for p in parts])
    assert joined == of(rows)
    mask = np.array([data.draw(st.booleans()) for _ in rows], bool)
    assert joined.take(mask) == of([row for row, keep in zip(rows, mask, strict=True) if keep])


def test_a_constant_column_stays_one_number_when_taken_and_joined():
    r = Readings.of([1, 2, 3], 5, 5, [7, 8, 9])
    assert len(r.take(np.array([True, False, True])).start) == 1
    assert len(Readings.concat([r, r]).start) == 1
    assert len(Readings.concat([r, Readings.of([4], 6, 5, [1])]).start) == 4
