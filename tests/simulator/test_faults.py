"""What a fault does, and that the truth says exactly that."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from meterpulse.model.reading import Readings
from meterpulse.model.window import instant_ms
from meterpulse.simulator import FAULTS, City, Faults, FaultSpecError, heartbeats, parse, simulate, sweeps
from meterpulse.simulator.faults import ALL_ONES, OF_READINGS
from meterpulse.simulator.places import postcodes

START, SWEEPS, EVERY = instant_ms("2026-01-14T22:00:00Z"), 60, 5
END = START + SWEEPS * EVERY * 1000
# Enough of each in a city of 400 homes.
RATES = {"rollover": 0.5, "area_outage": 0.1, "meter_exchange": 0.05, "water_leak": 0.1, "theft": 0.1, "spike": 0.01}


def run(city: City, rates: dict[str, float]) -> tuple[list[dict], list[Readings]]:
    truth: list[dict] = []
    faults = Faults(city, rates, START, END, EVERY, truth.extend)
    delivered = list(sweeps(city, START, END, EVERY, faults))
    assert Counter(row["fault"] for row in truth) == faults.counts
    return truth, delivered


def rows(delivered: list[Readings]) -> Counter:
    """(channel, start, quantity) of all readings, as often as they came."""
    all_ = Readings.concat(delivered)
    return Counter(zip(all_.channel.tolist(), all_.full("start").tolist(), all_.quantity.tolist(), strict=True))


@pytest.fixture(scope="module")
def clean(city) -> Counter:
    return rows(list(sweeps(city, START, END, EVERY)))


def covered(city: City, truth: list[dict]) -> set[tuple[int, int]]:
    """(channel, start) of every reading that the truth says something about."""
    out = set()
    for row in truth:
        if row["channel"] is None:
            area = [p.name for p in postcodes()].index(row["detail"]["area"])
            every = np.arange(city.count)
            electric = np.isin(city.block_of(every), (0, 3, 4, 7))
            channels = every[electric & (city.area_of(every) == area)].tolist()
            assert len(channels) == row["detail"]["channels"]
        else:
            channels = [city._find_one(row["channel"])]
        begin, end = instant_ms(row["start"]), instant_ms(row["end"])
        for at_ms in range(START, END, EVERY * 1000):
            if begin <= at_ms < end:
                out.update((channel, at_ms) for channel in channels)
    return out


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"rollover", "meter_exchange", "area_outage"}))
def test_a_fault_changes_exactly_the_readings_of_its_truth_rows(city, clean, fault):
    truth, delivered = run(city, {fault: RATES.get(fault, 0.03)})
    assert truth and {row["fault"] for row in truth} == {fault}
    got, told = rows(delivered), covered(city, truth)
    if fault in ("late", "out_of_order"):
        assert got == clean
        return
    if fault == "duplicate":
        assert {key[:2]: n for key, n in (got - clean).items()} == dict.fromkeys(told, 1)
        assert not clean - got
        return
    gone = {key[:2] for key in clean - got}
    assert gone <= told
    untouched = told - gone  # a drift below a millisecond, a tenth of nothing, a share of nothing
    assert fault == "missing" or len(untouched) <= 0.1 * len(told)
    if fault == "missing":
        assert gone == told and not got - clean
    if fault == "sentinel":
        assert {key[2] for key in got - clean} == {ALL_ONES}
    if fault == "spike":
        assert all(key[2] >= 50_000 for key in got - clean)
    if fault == "clock_drift":
        assert {(c, q) for c, _, q in got - clean} == {(c, q) for c, _, q in clean - got}


@pytest.mark.parametrize("fault", ["late", "out_of_order"])
def test_what_is_held_back_comes_later_by_the_seconds_told(city, fault):
    truth, delivered = run(city, {fault: 0.03})
    place, at_ms = {}, START
    for batch in delivered:
        at_ms = max(at_ms, int(batch.full("start").max()))
        for key in zip(batch.channel.tolist(), batch.full("start").tolist(), strict=True):
            place[key] = at_ms
    for row in truth:
        start = instant_ms(row["start"])
        came = place[(city._find_one(row["channel"]), start)]
        # A batch of held readings goes out before the sweep it waited for, the last one after the last sweep.
        assert 0 <= start + row["detail"]["seconds"] * 1000 - came <= EVERY * 1000
        assert row["detail"]["seconds"] >= EVERY


def test_a_register_that_rolls_over_goes_on_from_zero(city):
    truth, delivered = run(city, {"rollover": 0.5})
    by_channel = series(delivered)
    for row in truth:
        values = by_channel[city._find_one(row["channel"])]
        begin = (instant_ms(row["start"]) - START) // (EVERY * 1000)
        full = (1000 if row["channel"].startswith("RW") else 10**6) * 10 ** row["detail"]["digits"]
        assert values[begin] == 0 and all(0.99 * full < v < full for v in values[:begin])
        assert values[:begin] == sorted(values[:begin]) and values[begin:] == sorted(values[begin:])
    rolled = {row["channel"] for row in truth}
    assert all(
        v == sorted(v) for c, v in by_channel.items() if city.ids([c])[0].as_py() not in rolled and is_register(city, c)
    )


def test_an_exchanged_meter_is_silent_for_a_while_and_a_new_register_begins_at_zero(city, clean):
    truth, delivered = run(city, {"meter_exchange": 0.1})
    got = rows(delivered)
    told = covered(city, truth)
    assert told == {key[:2] for key in clean} - {key[:2] for key in got}
    by_channel = series(delivered)
    registers = [row for row in truth if row["channel"].startswith("R")]
    assert registers
    for row in registers:
        channel = city._find_one(row["channel"])
        if instant_ms(row["end"]) < END:
            after = (END - instant_ms(row["end"])) // (EVERY * 1000)
            assert by_channel[channel][-after] == 0
    changed = {key[0] for key in got - clean}
    assert changed <= {city._find_one(row["channel"]) for row in registers}


def test_an_outage_silences_the_electricity_of_its_area_and_nothing_else(city, clean):
    truth, delivered = run(city, {"area_outage": 0.1})
    got, told = rows(delivered), covered(city, truth)
    assert told == {key[:2] for key in clean} - {key[:2] for key in got}
    changed = {key[0] for key in got - clean}
    assert all(is_register(city, channel) for channel in changed)
    assert all(v == sorted(v) for c, v in series(delivered).items() if is_register(city, c))


def test_the_same_run_has_the_same_faults_however_its_sweeps_are_cut(city):
    truths, totals = [], []
    for size in (1 << 20, 331):
        truth: list[dict] = []
        faults = Faults(city, parse("all"), START, END, EVERY, truth.extend)
        totals.append(rows(list(sweeps(city, START, END, EVERY, faults, rows=size))))
        truths.append(sorted(map(str, truth)))
    assert truths[0] == truths[1]
    assert totals[0] == totals[1]


def test_a_channel_has_one_episode_and_a_reading_one_fault(city):
    truth, _ = run(city, parse("all=0.05"))
    told = [(row["channel"], row["start"]) for row in truth if row["fault"] in OF_READINGS]
    assert len(told) == len(set(told))
    episodes = [
        row for row in truth if row["fault"] not in OF_READINGS and row["channel"] and row["fault"] != "rollover"
    ]
    assert len({row["channel"] for row in episodes}) == len(episodes)
    assert not covered(city, [row for row in truth if row["fault"] in OF_READINGS]) & covered(city, episodes)


def test_a_long_run_has_new_episodes_each_day_and_registers_never_jump_back(city):
    truth: list[dict] = []
    end = START + 3 * 86_400_000
    rates = parse("stuck=0.05,meter_exchange=0.05,area_outage=0.1,rollover=0.2,water_leak=0.1")
    faults = Faults(city, rates, START, end, 3600, truth.extend)
    by_channel = series(list(sweeps(city, START, end, 3600, faults)))
    days = Counter((row["fault"], (instant_ms(row["start"]) - START) // 86_400_000) for row in truth)
    assert all(
        days[fault, day] for fault in ("stuck", "meter_exchange", "area_outage", "water_leak") for day in range(3)
    )
    assert days["rollover", 0] and not days["rollover", 1] + days["rollover", 2]
    new = {row["channel"] for row in truth if row["fault"] in ("rollover", "meter_exchange")}
    for channel, values in by_channel.items():
        if is_register(city, channel):
            falls = sum(b < a for a, b in zip(values, values[1:], strict=False))
            assert falls <= (city.ids([channel])[0].as_py() in new)


def test_a_run_without_end_begins_at_once(city):
    faults = Faults(city, parse("all"), START, START + 10**13, EVERY)
    faults.due(START)
    assert len(faults.apply(heartbeats(city, START)))


def test_without_faults_a_run_is_its_heartbeats(city):
    delivered = list(sweeps(city, START, START + 15_000, EVERY))
    assert delivered == [heartbeats(city, START + i * 5000) for i in range(3)]


def test_simulate_tells_how_far_it_is_and_waits_for_the_end_of_each_sweep(city):
    waited: list[int] = []
    steps = list(simulate(city, START, START + 15_000, EVERY, wait_until=waited.append))
    assert [s.readings for s in steps] == [city.count, 2 * city.count, 3 * city.count]
    assert waited == [START + 5000, START + 10_000, START + 15_000]
    assert steps[-1].sweeps == 3 and steps[-1].at_ms == START + 10_000 and steps[-1].faults == {}


def test_rates_are_parsed():
    assert parse("duplicate=0.01, late=0.5") == {"duplicate": 0.01, "late": 0.5}
    assert parse("all") == FAULTS
    assert parse("all=0.1,late=0") == {name: 0.1 for name in FAULTS if name != "late"}
    assert parse("spike") == {"spike": FAULTS["spike"]}
    assert parse("") == parse("none") == {}


WRONG = {
    "lat=0.1": "'lat' is not known; known are all, none,",
    "late=2": "from 0 to 1",
    "late=x": "from 0 to 1",
    "late=": "from 0 to 1",
    "late=0.6,missing=0.6": "more than 1",
}


@pytest.mark.parametrize(("spec", "message"), WRONG.items())
def test_a_wrong_spec_says_what_is_known(spec, message):
    with pytest.raises(FaultSpecError, match=message):
        parse(spec)


def series(delivered: list[Readings]) -> dict[int, list[int]]:
    out: dict[int, list[int]] = defaultdict(list)
    for batch in delivered:
        for channel, quantity in zip(batch.channel.tolist(), batch.quantity.tolist(), strict=True):
            out[channel].append(quantity)
    return out


def is_register(city: City, channel: int) -> bool:
    return bool(city.blocks[4] <= channel < city.blocks[7])
