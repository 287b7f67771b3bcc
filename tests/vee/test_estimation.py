"""Estimates: the first way that can tell wins, a known value is never touched, and registers have the last word."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterpulse.model.quality import RAW, Quality, text_of
from meterpulse.vee import MISSING, Context, Spans, Status
from meterpulse.vee.estimation import DEFAULT_ORDER, EstimationError, Order, estimate
from meterpulse.vee.gaps import Support, Values
from meterpulse.vee.slots import slots_of
from tests.vee.estimating import Oracle, filled, outage, profile, registers, rows

EPOCH = date(1970, 1, 1)
DAYS = 24


def year(seed, days=DAYS, channels=1, scale=1000):
    """Random rows with a daily shape: mornings and evenings, now and then a kettle."""
    random = np.random.default_rng(seed)
    shape = np.tile(np.array([1, 1, 1, 1, 1, 2, 5, 6, 3, 2, 2, 2, 3, 2, 2, 2, 3, 6, 8, 7, 5, 4, 2, 1]) * scale, days)
    return (shape * random.integers(50, 150, (channels, days * 24)) // 100).tolist()


def with_gap(row, a, b):
    return [*row[:a], *[None] * (b - a), *row[b:]]


gap_in_a_month = st.tuples(st.integers(0, 2**32), st.integers(5 * 24, 18 * 24), st.integers(1, 60))


# --- laws


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), holes=st.lists(st.tuples(st.integers(0, 239), st.integers(1, 40)), max_size=4))
def test_an_estimate_never_changes_a_known_value(seed, holes):
    given_rows = year(seed, 10, channels=3)
    for row, (first, length) in zip(given_rows, holes, strict=False):
        row[first : first + length] = [None] * len(row[first : first + length])
    before = profile(given_rows)
    ties = registers(*((r, 0, 240, sum(v or 0 for v in row) + 5000) for r, row in enumerate(given_rows)))
    after = estimate(before, Context(registers=ties), Support(), Order.of())
    known = before.quality != MISSING
    assert (after.quantity[known] == before.quantity[known]).all()
    assert (after.quality[known] == RAW).all()
    assert not known[after.quality != before.quality].any()


@settings(max_examples=25, deadline=None)
@given(where=gap_in_a_month, used=st.integers(0, 10**13))
def test_intervals_add_up_to_the_register_exactly(where, used):
    seed, a, length = where
    row = with_gap(year(seed)[0], a, a + length)
    first, after = a - 48, a + length + 24
    known = sum(v for v in row[first:after] if v is not None)
    out = filled(profile([row]), *DEFAULT_ORDER, context=Context(registers=registers((0, first, after, known + used))))
    assert out.quantity[0, first:after].sum() == known + used
    assert (out.quantity >= 0).all() and not len(out.findings)


@settings(max_examples=25, deadline=None)
@given(shape=st.lists(st.integers(0, 10**12), min_size=1, max_size=20), used=st.integers(0, 10**12))
def test_what_rounding_leaves_goes_to_the_largest_remainders(shape, used):
    given_profile = profile([[None] * len(shape)])
    check = Values(np.array([shape], np.int64), np.full((1, len(shape)), RAW, np.int32))
    ties = Context(registers=registers((0, 0, len(shape), used)))
    out = filled(given_profile, "previous_year", context=ties, support=Support(last_year=check))
    while sum(shape) >= 1 << 31:
        shape = [s >> 1 for s in shape]
    if not sum(shape):
        shape = [1] * len(shape)
    wanted = [s * used // sum(shape) for s in shape]
    remainders = sorted(range(len(shape)), key=lambda i: (-(shape[i] * used % sum(shape)), i))
    for i in remainders[: used - sum(wanted)]:
        wanted[i] += 1
    assert rows(out) == [wanted]


@settings(max_examples=15, deadline=None)
@given(where=gap_in_a_month)
def test_the_order_of_channels_does_not_matter(where):
    seed, a, length = where
    matrix = [with_gap(row, a + 7 * r, a + 7 * r + length) for r, row in enumerate(year(seed, channels=4))]
    ties = registers(*((r, a, a + length + 30, 10**6 * (r + 1)) for r in range(4)))
    off = Spans.of([(1, a, a + 2), (2, a + 20, a + 22)])
    context = Context(registers=ties, outages=off)
    turned = Context(
        registers=registers(*((3 - r, a, a + length + 30, 10**6 * (r + 1)) for r in range(4))),
        outages=Spans.of([(2, a, a + 2), (1, a + 20, a + 22)]),
    )
    straight = filled(profile(matrix), *DEFAULT_ORDER, context=context)
    reverse = filled(profile(matrix[::-1]), *DEFAULT_ORDER, context=turned)
    assert rows(straight) == rows(reverse)[::-1]
    assert straight.quality.tolist() == reverse.quality.tolist()[::-1]


@settings(max_examples=15, deadline=None)
@given(where=gap_in_a_month, cut=st.floats(0, 1))
def test_a_day_gets_the_same_estimate_whichever_days_are_judged_with_it(where, cut):
    seed, a, length = where
    row = with_gap(year(seed)[0], a, a + length)
    context = Context(registers=registers((0, a - 24, a + length + 24, 10**7)))
    whole = rows(filled(profile([row]), *DEFAULT_ORDER, context=context))[0]
    middle = a + int(length * cut)
    parts = [(0, middle), (middle, len(row))]
    apart = [rows(filled(profile([row], first=f, after=t), *DEFAULT_ORDER, context=context))[0] for f, t in parts]
    assert apart[0] + apart[1] == whole


# --- each way against plain Python


@settings(max_examples=25, deadline=None)
@given(where=gap_in_a_month, spring=st.booleans())
def test_a_reference_day_is_what_plain_python_says_also_when_the_clock_changes(where, spring):
    seed, a, length = where
    row = with_gap(year(seed)[0], a, a + length)
    start = "2026-02-25T00:00" if spring else "2026-10-20T00:00"  # New York changes on 8 March and 1 November
    given_profile = profile([row], zone="America/New_York", start=start)
    oracle = Oracle(given_profile)
    assert rows(filled(given_profile, "reference_day"))[0][a : a + length] == oracle.reference_day(a, a + length)


@settings(max_examples=25, deadline=None)
@given(where=gap_in_a_month, spring=st.booleans(), hole=st.integers(0, 24 * DAYS - 5))
def test_a_similar_day_is_what_plain_python_says_also_when_the_clock_changes(where, spring, hole):
    seed, a, length = where
    row = with_gap(with_gap(year(seed)[0], a, a + length), hole, hole + 4)
    start = "2026-02-25T00:00" if spring else "2026-10-20T00:00"
    given_profile = profile([row], zone="America/New_York", start=start)
    while row[a - 1] is None:
        a -= 1
    b = next(c for c in range(a, len(row) + 1) if c == len(row) or row[c] is not None)
    oracle = Oracle(given_profile, holidays=[date(2026, 3, 3)])
    if (oracle.clock[b - 1][0] - oracle.clock[a][0]).days > 2:
        return  # cut into days: told by another test
    support = Support(holidays=np.array([(date(2026, 3, 3) - EPOCH).days], np.int32))
    found = rows(filled(given_profile, "similar_day", support=support))[0][a:b]
    assert found == (oracle.similar_day(a, b) or [None] * (b - a))


@given(before=st.integers(0, 10**9), behind=st.integers(0, 10**9), length=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_a_short_gap_is_a_straight_line(before, behind, length):
    out = filled(profile([[before, *[None] * length, behind]]), "linear", settings={"linear": {"minutes_max": 180}})
    n = length + 1
    assert rows(out)[0][1:-1] == [(2 * (before * (n - i) + behind * i) + n) // (2 * n) for i in range(1, n)]
    assert {text_of(q) for q in out.quality[0, 1:-1].tolist()} == {"S17"}


# --- facts


def test_no_line_is_drawn_through_more_than_two_hours_or_from_a_power_failure():
    three = profile([[10, None, None, None, 50]])
    assert rows(filled(three, "linear")) == [[10, None, None, None, 50]]
    two = profile([[10, None, None, 40]])
    assert rows(filled(two, "linear")) == [[10, 20, 30, 40]]
    assert rows(filled(two, "linear", context=outage((0, 3, 4)))) == [[10, None, None, 40]]
    assert rows(filled(profile([[None, 40]]), "linear")) == [[None, 40]]


def test_a_confirmed_outage_is_a_true_zero_that_no_register_changes():
    row = with_gap(year(1)[0], 240, 252)
    context = Context(outages=Spans.of([(0, 240, 246)]), registers=registers((0, 200, 300, 10**7)))
    out = filled(profile([row]), *DEFAULT_ORDER, context=context)
    assert rows(out)[0][240:246] == [0] * 6
    assert set(out.quality[0, 240:246].tolist()) == {Quality.VALIDATED}
    assert out.quantity[0, 200:300].sum() == 10**7


@pytest.mark.parametrize("way", ["reference_day", "similar_day", "average_day", "temperature"])
def test_days_with_an_outage_an_estimate_or_a_holiday_are_no_reference(way):
    row = with_gap(year(2)[0], 240, 252)
    plain = profile([row])
    spoiled = {7: "outage", 8: "estimate", 9: "holiday", 11: "gap"}  # days of the profile; the gap is in day 10
    plain.quality[0, 8 * 24 + 3] = Quality.LINEAR
    plain.quality[0, 11 * 24 + 23] = MISSING
    support = Support(holidays=np.array([slots_of(plain).day[9]], np.int32), temperature=np.full(DAYS, 9000, np.int64))
    out = filled(plain, way, context=outage((0, 7 * 24 + 1, 7 * 24 + 2)), support=support)
    evidence = out.evidence
    at = evidence.first.tolist().index(240)
    days = set((evidence.day[evidence.day_from[at] : evidence.day_from[at + 1]] - slots_of(plain).day[0]).tolist())
    assert days and not days & (set(spoiled) | {10})
    assert None not in rows(out)[0][240:252]


def test_what_the_register_says_less_than_is_known_scales_nothing_and_fails_v11():
    row = with_gap(year(3)[0], 240, 244)
    known = sum(v for v in row[216:264] if v is not None)
    free = filled(profile([row]), *DEFAULT_ORDER)
    tied = filled(profile([row]), *DEFAULT_ORDER, context=Context(registers=registers((0, 216, 264, known - 1))))
    assert rows(tied) == rows(free)
    found = tied.findings
    assert (found.rule.tolist(), found.status.tolist()) == ([11], [Status.FAIL])
    assert (found.measured.tolist(), found.limit.tolist()) == ([known], [known - 1])


def test_a_span_that_nobody_could_fill_is_not_scaled():
    tied = filled(profile([[1, None, None, None, 1]]), "linear", context=Context(registers=registers((0, 0, 5, 99))))
    assert rows(tied) == [[1, None, None, None, 1]]


def test_the_check_meter_comes_before_estimates_and_is_not_scaled():
    row = with_gap(year(4)[0], 240, 243)
    check = Values(np.full((1, len(row)), 77, np.int64), np.full((1, len(row)), MISSING, np.int32))
    check.quality[0, 241] = RAW
    context = Context(registers=registers((0, 239, 244, row[239] + row[243] + 1077)))
    out = filled(profile([row]), *DEFAULT_ORDER, context=context, support=Support(check=check))
    assert rows(out)[0][241] == 77
    assert [text_of(q) for q in out.quality[0, 240:243].tolist()] == ["S15", "S11", "S15"]
    assert out.quantity[0, 240] + out.quantity[0, 242] == 1000


def test_days_that_are_all_alike_are_estimated_as_they_were():
    row = [100 + min(hour, 24 - hour) for hour in range(24)] * DAYS
    flat = [5000] * (24 * DAYS)
    out = filled(profile([with_gap(row, 240, 260), with_gap(flat, 200, 330)]), "similar_day")
    assert rows(out)[1] == flat
    near = np.abs(out.quantity[0, 240:260] - np.array(row[240:260]))
    assert near.max() <= 1  # the intervals beside it have their part


def test_a_home_that_was_away_is_not_estimated_like_one_at_home():
    """The reference days at home are nearer; those away have the hours around the gap in common."""
    away, home = [300] * 24, [300] * 6 + [2000] * 18
    row = (home * 2 + away * 2) * 6
    day = 10  # away, and so is day 11
    out = filled(profile([with_gap(row, day * 24 + 8, day * 24 + 20)]), "similar_day")
    similar = out.quantity[0, day * 24 + 8 : day * 24 + 20].sum()
    reference = filled(profile([with_gap(row, day * 24 + 8, day * 24 + 20)]), "reference_day").quantity
    assert similar < 12 * 400 < reference[0, day * 24 + 8 : day * 24 + 20].sum()


def test_proxy_days_are_those_of_like_temperature():
    cold, warm = [900] * 24, [100] * 24
    days = [cold if d % 3 == 0 else warm for d in range(DAYS)]
    degrees = np.array([1000 if d % 3 == 0 else 20_000 for d in range(DAYS)], np.int64)
    row = with_gap(sum(days, []), 9 * 24, 10 * 24)
    out = filled(profile([row]), "temperature", support=Support(temperature=degrees))
    assert rows(out)[0][9 * 24 : 10 * 24] == cold
    assert {text_of(q) for q in out.quality[0, 9 * 24 : 10 * 24].tolist()} == {"S24"}
    assert set(out.quality[0, 9 * 24 : 10 * 24] & 0xFF) == {Quality.WEATHER}


def test_a_class_profile_is_brought_to_the_customers_level():
    shape = np.array(year(7)[0], np.int64)
    row = with_gap((shape * 3).tolist(), 240, 300)
    out = filled(profile([row]), "class_profile", support=Support(class_profile=shape))
    assert rows(out)[0] == (shape * 3).tolist()


def test_last_year_is_taken_as_it_was_or_at_this_years_level():
    before = np.array(year(8), np.int64)
    last_year = Values(before, np.full(before.shape, RAW, np.int32))
    given_profile = profile([with_gap((before[0] * 2).tolist(), 240, 300)])
    support = Support(last_year=last_year)
    assert rows(filled(given_profile, "previous_year", support=support))[0][240:300] == before[0, 240:300].tolist()
    scaled = filled(given_profile, "data_scaling", "previous_year", support=support)
    assert rows(scaled)[0] == (before[0] * 2).tolist()


def test_nothing_is_estimated_while_disconnected_and_zero_only_on_request():
    row = with_gap(year(9)[0], 240, 250)
    gone = Context(inactive=Spans.of([(0, 240, 245)]))
    out = rows(filled(profile([row]), *DEFAULT_ORDER, "zero", context=gone))[0]
    assert out[240:245] == [None] * 5 and None not in out[245:]
    assert rows(filled(profile([[None, None]]), *DEFAULT_ORDER)) == [[None, None]]
    assert rows(filled(profile([[None, None]]), "zero")) == [[0, 0]]


def test_evidence_says_which_way_told_what_from_which_days():
    row = with_gap(with_gap(year(10)[0], 240, 250), 100, 101)
    given_profile = profile([[1] * len(row), row])
    out = filled(given_profile, "linear", "reference_day")
    evidence, day = out.evidence, slots_of(given_profile).day
    assert [out.estimators[e] for e in evidence.estimator] == ["linear", "reference_day"]
    assert (evidence.row.tolist(), evidence.first.tolist(), evidence.after.tolist()) == ([1, 1], [100, 240], [101, 250])
    assert evidence.day_from.tolist() == [0, 0, 3]
    assert (evidence.day - day[0]).tolist() == [9, 11, 8]  # Thursday 15 January: Wednesday, Friday, Wednesday


def test_a_gap_of_weeks_is_estimated_day_by_day():
    row = with_gap(year(11)[0], 7 * 24 + 5, 12 * 24 + 3)
    out = rows(filled(profile([row]), "similar_day"))[0]
    assert None not in out


def test_the_version_changes_with_order_and_settings():
    versions = {
        Order.of().version,
        Order.of(DEFAULT_ORDER[::-1]).version,
        Order.of(settings={"linear": {"minutes_max": 60}}).version,
    }
    assert len(versions) == 3 and Order.of().version == Order.of().version


def test_a_wrong_order_or_setting_says_what_it_takes():
    with pytest.raises(EstimationError, match="'liner' is not known; there are .*linear"):
        Order.of(["liner"])
    with pytest.raises(EstimationError, match="stands twice"):
        Order.of(["linear", "linear"])
    with pytest.raises(EstimationError, match="linear, setting minutes_max"):
        Order.of(settings={"linear": {"minutes_max": 0}})
