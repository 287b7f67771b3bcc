"""Consumption from cumulative registers: whatever the register did, what is told was used, and what is not known is not told."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterpulse.model.channel import Kind, Utility
from meterpulse.model.quality import RAW, Quality
from meterpulse.model.quantity import unit_of
from meterpulse.vee import UNKNOWN, Context, Decision, Traits
from meterpulse.vee.estimation import DEFAULT_ORDER
from meterpulse.vee.gauges import gauges_of
from meterpulse.vee.registers import Exchanges, Reads, consumption, spans_of
from tests.vee.estimating import filled, profile

HOUR = 3_600_000
KWH = 10**6
DAIAD = Path(__file__).parents[3] / "shared" / "data" / "water_daiad" / "swm_trialA.zip"


def traits(digits=5, multiplier=1, unit="kWh"):
    return Traits(
        Utility.electricity, Kind.register, unit_of(unit), 3600, digits=digits, multiplier=Fraction(multiplier)
    )


def reads(*indices, channel=0, qualities=None):
    """Hourly reads in whole kWh."""
    n = len(indices)
    return Reads(
        np.full(n, channel, np.uint32), np.arange(n, dtype=np.int64) * HOUR,
        np.array([int(i * KWH) for i in indices], np.int64),
        np.array(qualities or [RAW] * n, np.int32),
    )  # fmt: skip


def exchange(hour, last=None, first=None):
    kwh = [UNKNOWN if index is None else index * KWH for index in (last, first)]
    return Exchanges(np.zeros(1, np.uint32), *(np.array([v], np.int64) for v in (int(hour * HOUR), *kwh)))


def used(*arguments, **named):
    """(from hour, to hour, kWh, decision) of each interval."""
    c = consumption(*arguments, **named)
    times = (c.start_ms / HOUR).tolist(), (c.end_ms / HOUR).tolist()
    return list(zip(*times, (c.quantity / KWH).tolist(), map(Decision, c.decision), strict=True))


NONE, ROLLOVER, EXCHANGE = Decision.NONE, Decision.ROLLOVER, Decision.EXCHANGE


@settings(max_examples=50, deadline=None)
@given(
    digits=st.integers(2, 6),
    first=st.integers(0, 10**8),
    steps=st.lists(st.integers(0, 2 * 10**6), min_size=1, max_size=40),
    multiplier=st.fractions(Fraction(1, 7), 400, max_denominator=7),
    split=st.integers(0, 40),
)
def test_intervals_add_up_to_what_was_used_however_often_the_register_starts_again(
    digits, first, steps, multiplier, split
):
    true = [first]
    for step in steps:
        true.append(true[-1] + step * 10**digits // 20)  # at most a tenth of the range, with fractions of a kWh
    shown = np.array([t % (10**digits * KWH) for t in true], np.int64)
    n = len(shown)
    given_reads = Reads(np.zeros(n, np.uint32), np.arange(n) * HOUR, shown, np.full(n, RAW, np.int32))
    out = consumption(given_reads, traits(digits, multiplier))
    assert len(out) == n - 1
    rollovers = int((out.decision == ROLLOVER).sum())
    assert rollovers == sum(
        a % (10**digits * KWH) > b % (10**digits * KWH) for a, b in zip(true, true[1:], strict=False)
    )
    total = int(out.quantity.sum())
    exact = Fraction(true[-1] - true[0]) * multiplier
    assert abs(total - exact) < 1 + rollovers  # each end is rounded down once
    if multiplier.denominator == 1:
        assert total == exact
    tail = Reads(
        *(
            column[min(split, n - 1) :]
            for column in (given_reads.channel, given_reads.at_ms, shown, given_reads.quality)
        )
    )
    assert consumption(tail, traits(digits, multiplier)).quantity.tolist() == out.quantity[min(split, n - 1) :].tolist()


def test_use_is_the_difference_of_reads_times_the_multiplier():
    assert used(reads(10, 12.5, 12.5), traits(multiplier=40)) == [(0, 1, 100, NONE), (1, 2, 0, NONE)]
    assert used(reads(7), traits()) == []


def test_five_dials_go_from_99998_to_3_in_five_steps():
    assert used(reads(99998, 3), traits()) == [(0, 1, 5, ROLLOVER)]
    assert used(reads(99998, 3), traits(digits=None)) == []  # without digits it is a reset: nothing is known


def test_a_dip_is_held_and_the_next_read_makes_up_for_it():
    assert used(reads(381158, 381068, 381170), traits(digits=6)) == [(0, 2, 12, NONE)]
    assert used(reads(100, 95, 90, 101), traits()) == [(0, 3, 1, NONE)]


def test_a_register_that_begins_anew_without_an_event_tells_nothing_of_that_interval():
    assert used(reads(5000, 5010, 20, 25), traits()) == [(0, 1, 10, NONE), (2, 3, 5, NONE)]


def test_an_exchange_that_is_told_splits_the_interval_at_the_event():
    told = exchange(1.5, last=5015, first=2)
    assert used(reads(5000, 5010, 20, 25), traits(), exchanges=told) == [
        (0, 1, 10, NONE), (1, 1.5, 5, EXCHANGE), (1.5, 2, 18, EXCHANGE), (2, 3, 5, NONE),
    ]  # fmt: skip


def test_of_an_exchange_without_indices_only_what_is_known_is_told():
    assert used(reads(10, 20, 30), traits(), exchanges=exchange(0.5)) == [(1, 2, 10, NONE)]
    assert used(reads(10, 20), traits(), exchanges=exchange(0.5, first=18)) == [(0.5, 1, 2, EXCHANGE)]
    assert used(reads(10, 20), traits(), exchanges=exchange(0.5, last=11)) == [(0, 0.5, 1, EXCHANGE)]


def test_the_new_register_may_show_more_than_the_old_one():
    assert used(reads(10, 500), traits(), exchanges=exchange(1, last=12, first=500)) == [(0, 1, 2, EXCHANGE)]


def test_a_rollover_that_the_service_cannot_deliver_is_none():
    rating = np.full(2, 10 * KWH, np.int64)
    assert used(reads(99990, 5), traits(), rating=rating) == [(0, 1, 15, ROLLOVER)]  # 2 hours x 10 kWh x 1.1 at most
    assert used(reads(95000, 500), traits(), rating=rating) == []


def test_channels_do_not_mix():
    one, two = reads(1, 2), reads(50, 60, channel=1)
    both = Reads(
        *(np.concatenate([getattr(one, f), getattr(two, f)]) for f in ("channel", "at_ms", "index", "quality"))
    )
    out = consumption(both, traits())
    assert (out.channel.tolist(), (out.quantity // KWH).tolist()) == ([0, 1], [1, 10])


def test_use_is_derived_unless_an_end_was_estimated_or_is_questionable():
    given_qualities = [RAW, RAW, Quality.FORECAST, Quality.QUESTIONABLE, Quality.FORECAST]
    out = consumption(reads(1, 2, 3, 4, 5, qualities=given_qualities), traits())
    assert out.quality.tolist() == [
        Quality.DERIVED, Quality.FORECAST, Quality.QUESTIONABLE, Quality.QUESTIONABLE,
    ]  # fmt: skip


def test_an_index_near_the_end_of_64_bits_is_still_subtracted_exactly():
    large = 10**12
    out = consumption(reads(large, large + 1), traits(digits=None, multiplier=Fraction(999_999, 7)))
    low, high = (Fraction(i * KWH) * Fraction(999_999, 7) for i in (large, large + 1))
    assert out.quantity.tolist() == [high.__floor__() - low.__floor__()]


def test_reads_inside_of_an_interval_are_joined_until_both_ends_lie_on_edges():
    given_profile = profile([[1] * 6], start="1970-01-01T00:00")
    halves = reads(1, 2, 4, 8, 16, 32, 64, 128)
    halves = Reads(halves.channel, halves.at_ms // 2 + HOUR // 2, halves.index, halves.quality)  # 0:30, 1:00, ... 4:00
    out = consumption(halves, traits())
    spans = spans_of(out, np.zeros(len(out), np.int64), given_profile, traits())
    found = list(zip(spans.first.tolist(), spans.after.tolist(), (spans.quantity // KWH).tolist(), strict=True))
    assert found == [(1, 2, 6), (2, 3, 24), (3, 4, 96)]


def test_a_register_that_closes_a_gap_leaves_no_error_in_what_is_billed():
    random = np.random.default_rng(4)
    true = random.integers(100_000, 2_000_000, 20 * 24)
    index = np.concatenate([[0], np.cumsum(true)])[::24]
    daily = Reads(np.zeros(21, np.uint32), np.arange(21, dtype=np.int64) * 24 * HOUR, index, np.full(21, RAW, np.int32))
    used_daily = consumption(daily, traits())
    row = true.tolist()
    row[200:300] = [None] * 100
    given_profile = profile([row], start="1970-01-01T00:00")
    spans = spans_of(used_daily, np.zeros(20, np.int64), given_profile, traits())
    out = filled(given_profile, *DEFAULT_ORDER, context=Context(registers=spans))
    assert out.quantity[0].reshape(20, 24).sum(axis=1).tolist() == true.reshape(20, 24).sum(axis=1).tolist()
    assert out.quantity[0, 200:300].tolist() != true[200:300].tolist()


def test_gauges_keep_the_least_the_mean_and_the_greatest():
    at = np.array([0, 10, 20, HOUR, HOUR + 1, 5 * HOUR, -1], np.int64)
    out = gauges_of(np.zeros(7, np.int64), at, np.array([-3, 1, 9, 1, 2, 7, 7], np.int64), 1, 3, HOUR)
    assert (out.least.tolist(), out.most.tolist()) == ([[-3, 1, 0]], [[9, 2, 0]])
    assert (out.mean.tolist(), out.count.tolist()) == ([[2, 2, 0]], [[3, 2, 0]])


@pytest.mark.slow
@pytest.mark.skipif(not DAIAD.exists(), reason="the shared water readings are not beside the checkout")
def test_a_year_of_real_water_registers_tells_no_negative_use_and_adds_up():
    """Their counters fall 203 times by a little; then nothing is told, and the next read that passes makes up for it."""
    by_meter: dict[str, dict[int, int]] = {}
    with zipfile.ZipFile(DAIAD) as archive:
        lines = io.TextIOWrapper(archive.open(archive.namelist()[0]), "utf-8")
        table = csv.reader(lines, delimiter=";")
        next(table)
        for user, stamp, index, _ in table:
            at = int((datetime.strptime(stamp, "%d/%m/%Y %H:%M:%S") - datetime(1970, 1, 1)).total_seconds() * 1000)
            by_meter.setdefault(user, {}).setdefault(at, int(Decimal(index) * 1000))  # one of them is written 4e+05
    water = Traits(Utility.water, Kind.register, unit_of("L"), 3600)
    falls = 0
    for meter in by_meter.values():
        at = np.array(sorted(meter), np.int64)
        index = np.array([meter[int(a)] for a in at], np.int64)
        out = consumption(Reads(np.zeros(len(at), np.uint32), at, index, np.full(len(at), RAW, np.int32)), water)
        falls += int((np.diff(index) < 0).sum())
        assert (out.quantity >= 0).all()
        assert (out.start_ms[1:] >= out.end_ms[:-1]).all()
        if (out.start_ms[1:] == out.end_ms[:-1]).all() and index[-1] == index.max():
            assert out.quantity.sum() == index[-1] - index[0]
    assert falls > 100
