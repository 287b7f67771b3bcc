"""The compiled loops against a plain loop over dictionaries: every measure of every cell, whatever order readings come in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.model import cells as c
from meterpulse.model.window import HOUR_MS, WINDOW_MS

BASE = 20_520 * 86_400_000
CHANNELS, GROUPS = 6, 3
GROUP_OF = np.array([1, 2, 0, 1, 2, 1], np.uint32)
BIG = st.integers(-(10**14), 10**14)
READING = st.tuples(
    st.integers(0, CHANNELS - 1),
    st.one_of(st.integers(0, 119).map(lambda s: s * 5000), st.integers(-20_000, 2 * WINDOW_MS + 20_000)),
    BIG,
    st.sampled_from([0, 0, 0, 1, 5]),
)


def columns(readings):
    channel, start, quantity, revision = (
        (np.array(v) for v in zip(*readings, strict=True)) if readings else ([], [], [], [])
    )
    return (
        np.asarray(channel, np.uint32),
        np.asarray(start, np.int64) + BASE,
        np.asarray(quantity, np.int64),
        np.asarray(revision, np.int64),
    )


def scattered(readings, dtype=np.int64, windows=2, at_once=None):
    cells = np.zeros((windows, CHANNELS, c.CELL), dtype)
    area = np.zeros((windows * 5, GROUPS, c.AREA_ROW), np.int64)
    outcomes, counts = [], np.zeros(3, int)
    step = at_once or max(len(readings), 1)
    for low in range(0, len(readings), step):
        channel, start, quantity, revision = columns(readings[low : low + step])
        outcome = np.empty(len(channel), np.uint8)
        counts += c.scatter(cells, area, GROUP_OF, channel, 0, start, quantity, revision, BASE, outcome)
        outcomes += outcome.tolist()
    return cells, area, outcomes, counts.tolist()


def expected(readings, windows=2):
    """A plain loop: what stands, what becomes of each reading, rows by (channel, window), totals by (group, minute)."""
    stands, outcomes = {}, []
    for channel, at, quantity, revision in readings:
        if not 0 <= at < windows * WINDOW_MS:
            outcomes.append(c.ELSEWHERE)
        elif at % 5000:
            outcomes.append(c.LOOSE)
        elif (channel, at) in stands:
            outcomes.append(c.REVISION if revision > 0 else c.DUPLICATE)
        else:
            stands[channel, at] = quantity
            outcomes.append(c.APPLIED)
    rows, minutes = {}, {}
    for (channel, at), quantity in sorted(stands.items(), key=lambda item: item[0][1]):
        rows.setdefault((channel, at // WINDOW_MS), []).append(quantity)
        if GROUP_OF[channel]:
            minutes.setdefault((int(GROUP_OF[channel]), at // 60_000), []).append(quantity)
    rows = {k: [len(v), sum(v), min(v), max(v), v[-1]] for k, v in rows.items()}
    return outcomes, rows, {k: [len(v), sum(v), min(v), max(v)] for k, v in minutes.items()}


def must_equal(cells, area, rows, minutes):
    out = np.zeros((CHANNELS, cells.shape[0], c.ROW), np.int64)
    assert c.rows_of(cells, out) == len(rows)
    for channel in range(CHANNELS):
        for window in range(cells.shape[0]):
            assert out[channel, window].tolist() == rows.get((channel, window), [0] * 5)
    for minute in range(area.shape[0]):
        for group in range(GROUPS):
            got = area[minute, group].tolist()
            assert got == minutes.get((group, minute), [0] * 4) or (group == 0 and got == [0] * 4)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(READING, max_size=120), st.sampled_from([None, 1, 7]))
def test_scatter_is_a_plain_loop(readings, at_once):
    cells, area, got, counts = scattered(readings, at_once=at_once)
    outcomes, rows, minutes = expected(readings)
    assert got == outcomes
    assert counts == [outcomes.count(0), outcomes.count(1), len(outcomes) - outcomes.count(0) - outcomes.count(1)]
    must_equal(cells, area, rows, minutes)


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_readings_in_any_order_in_32_and_in_64_bits_give_the_same_rows(seed):
    rng = np.random.default_rng(seed)
    n = 4000
    slots = rng.permutation(CHANNELS * 120)
    readings = [
        (int(s % CHANNELS), int(s // CHANNELS) * 5000, int(rng.integers(-c.NARROW_LIMIT, c.NARROW_LIMIT)), 0)
        for s in slots
    ]
    readings += [readings[i] for i in rng.integers(0, len(readings), n - len(readings))]
    for dtype in (np.int32, np.int64):
        cells, area, outcomes, counts = scattered(readings, dtype)
        _, rows, minutes = expected(readings)
        must_equal(cells, area, rows, minutes)
        assert counts == [CHANNELS * 120, n - CHANNELS * 120, 0]


def test_sixty_readings_at_the_limit_of_32_bits_do_not_overflow_and_widening_keeps_them():
    for sign in (1, -1):
        readings = [(0, k * 5000, sign * c.NARROW_LIMIT, 0) for k in range(60)]
        cells, area, _, _ = scattered(readings, np.int32)
        wide = cells.astype(np.int64)
        _, rows, minutes = expected(readings)
        must_equal(cells, area, rows, minutes)
        must_equal(wide, area, rows, minutes)
        assert rows[0, 0][1] == sign * 60 * c.NARROW_LIMIT


def test_a_constant_start_and_revision_stand_for_all_rows():
    for at in (0, 5000, 295_000, 1500, -5000, 2 * WINDOW_MS):
        channel = np.arange(CHANNELS, dtype=np.uint32)
        quantity = np.arange(CHANNELS) * 7 - 9
        one, many = [], []
        for start, out in ((np.array([BASE + at]), one), (np.full(CHANNELS, BASE + at), many)):
            cells, area = np.zeros((2, CHANNELS, c.CELL), np.int32), np.zeros((10, GROUPS, c.AREA_ROW), np.int64)
            outcome = np.empty(CHANNELS, np.uint8)
            counts = c.scatter(cells, area, GROUP_OF, channel, 0, start, quantity, np.zeros(1, np.int64), BASE, outcome)
            out += [cells.tolist(), area.tolist(), outcome.tolist(), counts]
        assert one == many


def test_a_bucket_of_channels_is_scattered_with_its_own_first_channel():
    readings = [(4, 0, 10, 0), (5, 5000, 20, 0), (4, 5000, 5, 0)]
    channel, start, quantity, revision = columns(readings)
    cells, area, outcome = (
        np.zeros((1, 2, c.CELL), np.int64),
        np.zeros((5, GROUPS, c.AREA_ROW), np.int64),
        np.empty(3, np.uint8),
    )
    assert c.scatter(cells, area, GROUP_OF, channel, 4, start, quantity, revision, BASE, outcome) == (3, 0, 0)
    out = np.zeros((2, 1, c.ROW), np.int64)
    c.rows_of(cells, out)
    assert out[:, 0].tolist() == [[2, 15, 5, 10, 5], [1, 20, 20, 20, 20]]


@settings(max_examples=80, deadline=None)
@given(st.lists(READING, max_size=60))
def test_the_effective_reading_is_the_highest_revision_and_the_first_among_equals(readings):
    channel, start, quantity, revision = columns(readings)
    got = [v.tolist() for v in c.effective(channel, start, quantity, revision)]
    best = {}
    for ch, at, q, rev in readings:
        if (ch, at) not in best or rev > best[ch, at][1]:
            best[ch, at] = (q, rev)
    assert list(zip(*got, strict=True)) == [(ch, at + BASE, best[ch, at][0]) for ch, at in sorted(best)]


@settings(max_examples=80, deadline=None)
@given(st.lists(READING.filter(lambda r: 0 <= r[1] < 2 * WINDOW_MS), max_size=60), st.booleans())
def test_choosing_leaves_the_highest_revision_and_the_first_among_equals(readings, revised):
    readings = [r if revised else (*r[:3], 3) for r in readings]
    channel, start, _, revision = columns(readings)
    winner, outcome = np.zeros((CHANNELS, 120), np.int32), np.full(len(readings), 9, np.uint8)
    c.choose(channel, 0, start, revision if revised else np.array([3]), BASE, winner, outcome)
    best = {}
    for i, (ch, at, _, rev) in enumerate(readings):
        if at % 5000 == 0 and ((ch, at) not in best or rev > readings[best[ch, at]][3]):
            best[ch, at] = i
    stands = set(best.values())
    assert outcome.tolist() == [c.LOOSE if r[1] % 5000 else int(i not in stands) for i, r in enumerate(readings)]
    assert not winner.any(), "it is used again for the next bucket"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 23), BIG, BIG, BIG), max_size=40), st.integers(1, 3))
def test_folding_rows_is_folding_their_readings(rows, kinds):
    """Rows of an hour's steps into targets that differ by kind of key, against sums and last ones picked by hand."""
    keys, steps = 4, 24
    given_rows = np.zeros((keys, steps, 5), np.int64)
    for key, step, a, b, q in rows:
        given_rows[key, step] = [1 + abs(a) % 60, q, min(a, b), max(a, b), b]
    rng = np.random.default_rng(len(rows))
    target = np.sort(rng.integers(0, 3, (kinds, steps)), axis=1)
    kind = np.arange(keys) % kinds
    for measures in (5, 4):
        out = np.zeros((keys, 3, measures), np.int64)
        c.fold(np.ascontiguousarray(given_rows[:, :, :measures]), target, kind, out)
        for key in range(keys):
            for to in range(3):
                own = [
                    given_rows[key, s].tolist()
                    for s in range(steps)
                    if target[kind[key], s] == to and given_rows[key, s, 0]
                ]
                want = [0] * 5
                if own:
                    want = [
                        sum(r[0] for r in own),
                        sum(r[1] for r in own),
                        min(r[2] for r in own),
                        max(r[3] for r in own),
                        own[-1][4],
                    ]
                assert out[key, to].tolist() == want[:measures]


@settings(max_examples=60, deadline=None)
@given(st.lists(READING.filter(lambda r: 0 <= r[1] < 2 * WINDOW_MS), max_size=60))
def test_readings_off_the_grid_join_those_on_it_as_if_there_were_no_grid(readings):
    first = {}
    for ch, at, q, _ in readings:
        first.setdefault((ch, at), q)
    on = [(ch, at, q, 0) for (ch, at), q in first.items() if at % 5000 == 0]
    off = sorted((ch, at, q) for (ch, at), q in first.items() if at % 5000)
    cells, area, _, _ = scattered(on)
    rows = np.zeros((CHANNELS, 2, c.ROW), np.int64)
    c.rows_of(cells, rows)
    newest = np.full((CHANNELS, 2), -(1 << 61), np.int64)
    for ch in range(CHANNELS):
        for win in range(2):
            slot = c.last_slot(int(cells[win, ch, 0]), int(cells[win, ch, 1]))
            if slot >= 0:
                newest[ch, win] = BASE + win * WINDOW_MS + slot * c.SLOT_MS
    channel, start, quantity, _ = columns([(ch, at, q, 0) for ch, at, q in off])
    c.add_loose(rows, newest, area, GROUP_OF, channel, 0, start, quantity, BASE)
    want = {}
    for (ch, at), q in sorted(first.items(), key=lambda item: item[0][1]):
        want.setdefault((ch, at // WINDOW_MS), []).append(q)
    for ch in range(CHANNELS):
        for win in range(2):
            v = want.get((ch, win))
            assert rows[ch, win].tolist() == ([len(v), sum(v), min(v), max(v), v[-1]] if v else [0] * 5)
    totals = {}
    for (ch, at), q in first.items():
        if GROUP_OF[ch]:
            totals.setdefault((int(GROUP_OF[ch]), at // 60_000), []).append(q)
    for (group, minute), v in totals.items():
        assert area[minute, group].tolist() == [len(v), sum(v), min(v), max(v)]


@pytest.mark.parametrize(
    ("low", "high", "slot"), [(0, 0, -1), (1, 0, 0), (1 << 29, 0, 29), (1, 1, 30), (0, 1 << 29, 59), (3, 5, 32)]
)
def test_the_newest_slot_is_the_highest_bit(low, high, slot):
    assert c.last_slot(low, high) == slot


def test_an_hour_has_twelve_windows_of_sixty_slots():
    assert HOUR_MS == 12 * WINDOW_MS and WINDOW_MS == c.SLOTS * c.SLOT_MS
