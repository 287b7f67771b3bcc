"""What a channel's quantities are, whoever asks for which slice."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from meterpulse.model.window import instant_ms
from meterpulse.simulator import City, quantities

WINTER, SUMMER = instant_ms("2026-01-14T05:00:00Z"), instant_ms("2026-07-15T04:00:00Z")
YEAR = (instant_ms("2025-01-01T05:00:00Z"), instant_ms("2026-01-01T05:00:00Z"))
DAY = 86_400


def customers(city: City, block: int, count: int | None = None) -> np.ndarray:
    """The channels of the households in one of the first blocks: 0 electricity, 1 gas, 2 water."""
    return (city.blocks[block] + np.arange(count or city.households)).astype(np.uint32)


def test_a_slice_of_channels_alone_is_that_part_of_the_whole(city):
    everyone = np.arange(city.count, dtype=np.uint32)
    whole = quantities(city, everyone, WINTER, 5)
    some = np.random.default_rng(1).permutation(everyone)[:200]
    assert np.array_equal(quantities(city, some, WINTER, 5), whole[some])
    assert quantities(city, everyone[17:18], WINTER, 5).tolist() == [whole[17]]


def test_another_object_with_the_same_seed_gives_the_same_and_another_seed_another(city):
    channels = np.arange(city.count, dtype=np.uint32)
    fields = {"registers": 0.2, "solar": 0.3, "gauges": 0.1, "cars": 0.3}
    same, other = City(households=400, seed=3, **fields), City(households=400, seed=4, **fields)
    first = quantities(city, channels, SUMMER, 60)
    assert np.array_equal(first, quantities(same, channels, SUMMER, 60))
    assert not np.array_equal(first[: city.customers], quantities(other, channels[: city.customers], SUMMER, 60))


@pytest.mark.parametrize(
    "start", ["2026-01-31T04:59:35Z", "2026-03-08T06:30:00Z", "2026-11-01T05:30:00Z", "2010-01-09T05:00:00Z"]
)
@pytest.mark.parametrize("seconds", [5, 300, 4000, 3 * DAY])
def test_the_parts_of_a_span_add_up_to_the_span(city, start, seconds):
    channels, start_ms = np.arange(city.blocks[4], dtype=np.uint32), instant_ms(start)
    cuts = np.random.default_rng(seconds).choice(np.arange(1, seconds), min(20, seconds - 1), replace=False)
    edges = [0, *sorted(cuts.tolist()), seconds]
    parts = [quantities(city, channels, start_ms + a * 1000, b - a) for a, b in zip(edges, edges[1:], strict=False)]
    assert all((part >= 0).all() for part in parts)
    assert np.array_equal(sum(parts), quantities(city, channels, start_ms, seconds))


def test_what_was_asked_before_changes_nothing(city):
    random, everyone = np.random.default_rng(9), np.arange(city.blocks[3], dtype=np.uint32)
    at_ms = SUMMER
    for _ in range(200):
        at_ms = at_ms + 5000 if random.random() < 0.8 else SUMMER + int(random.integers(0, 17_280)) * 5000
        seconds = int(random.choice([5, 300]))
        asked = quantities(city, everyone, at_ms, seconds)
        known, city.quiet[:] = city.quiet.copy(), 0
        assert np.array_equal(asked, quantities(city, everyone, at_ms, seconds))
        city.quiet[:] = known


def test_each_channel_may_have_a_start_of_its_own(city):
    channels = np.arange(300, dtype=np.uint32)
    starts = WINTER + (np.arange(300) % 7) * 5000
    alone = [quantities(city, channels[i : i + 1], int(starts[i]), 5)[0] for i in range(300)]
    assert quantities(city, channels, starts, 5).tolist() == alone


def test_a_register_rises_by_what_the_interval_channel_beside_it_used(city):
    registers = np.arange(city.blocks[4], city.blocks[7], dtype=np.uint32)
    beside = (city.blocks[city.block_of(registers) - 4] + city.customer_of(registers)).astype(np.uint32)
    readings = [quantities(city, registers, WINTER + 3_600_000 * hour, 5) for hour in range(6)]
    for hour, (earlier, later) in enumerate(zip(readings, readings[1:], strict=False)):
        assert (later >= earlier).all()
        assert np.array_equal(later - earlier, quantities(city, beside, WINTER + 3_600_000 * hour, 3600))


def test_the_values_are_the_same_on_every_machine(city):
    """A change of this digest is a change of every simulated value: say so in the changelog."""
    digest = hashlib.sha256()
    for at_ms in (WINTER + 68_400_000, SUMMER + 61_200_000):
        digest.update(quantities(city, np.arange(city.count, dtype=np.uint32), at_ms, 300).astype("<i8").tobytes())
    assert digest.hexdigest() == "f14509c28b83dac3944da0027ce05223027b867e3889a1f6a2ac5f6bca741670"


def test_a_household_uses_about_901_kwh_of_electricity_a_month():
    city = City(households=10_000, seed=1)
    months = 10 * 12
    end = instant_ms("2030-01-01T05:00:00Z")
    start = instant_ms("2020-01-01T05:00:00Z")
    used = quantities(city, customers(city, 0), start, (end - start) // 1000)
    assert abs(used.mean() / months / 1e6 - 901) < 0.02 * 901


def test_a_business_uses_several_times_that_and_more_when_it_is_open(city):
    homes, firms = np.arange(city.households), np.arange(city.households, city.customers)
    seconds = (YEAR[1] - YEAR[0]) // 1000
    assert 4 < quantities(city, firms, YEAR[0], seconds).mean() / quantities(city, homes, YEAR[0], seconds).mean() < 12
    offices = firms[(city.traits[firms] >> np.uint64(20)) & np.uint64(7) == 1]
    wednesday = [quantities(city, offices, WINTER + hour * 3_600_000, 3600).sum() for hour in range(24)]
    sunday = [quantities(city, offices, WINTER + (96 + hour) * 3_600_000, 3600).sum() for hour in range(24)]
    assert min(wednesday[9:17]) > 2 * max(wednesday[0:5])
    assert sum(wednesday) > 1.5 * sum(sunday)


def test_homes_burn_more_gas_in_winter_and_cool_in_summer(city):
    gas, power = customers(city, 1), customers(city, 0)
    assert quantities(city, gas, WINTER, 7 * DAY).sum() > 3 * quantities(city, gas, SUMMER, 7 * DAY).sum()
    april = instant_ms("2026-04-22T04:00:00Z")
    assert quantities(city, power, SUMMER, 7 * DAY).sum() > 1.2 * quantities(city, power, april, 7 * DAY).sum()


def test_water_stands_still_at_night_and_comes_in_draws_by_day(city):
    water = customers(city, 2)
    night = np.stack([quantities(city, water, WINTER + 2 * 3_600_000 + 5000 * i, 5) for i in range(1440)])
    morning = np.stack([quantities(city, water, WINTER + 7 * 3_600_000 + 5000 * i, 5) for i in range(720)])
    assert (night.sum(axis=0) == 0).mean() > 0.6
    assert (night == 0).mean() > 0.999
    assert 0.9 < (morning == 0).mean() < 0.99
    assert morning.sum() / 720 > 50 * night.sum() / 1440
    assert morning.max() / 5 * 60 / 1000 < 30  # litres a minute


def test_no_home_draws_30_kw_and_a_reading_of_5_seconds_is_energy_of_5_seconds():
    city = City(households=3_000, seed=5, cars=0.5)
    homes, highest, total = customers(city, 0), 0, 0
    for day in (WINTER, SUMMER):
        for i in range(0, 288):
            five = quantities(city, homes, day + i * 300_000, 5)
            highest, total = max(highest, int(five.max())), total + int(five.sum())
    assert highest * 3600 // 5 < 30_000_000  # mW
    mean_kw = total / (2 * 288 * 3_000) * 3600 / 5 / 1e6
    assert 0.8 < mean_kw < 3


def test_a_kettle_is_seen_in_the_readings_of_a_home(city):
    home = customers(city, 0, 1)
    starts = WINTER + 15 * 3_600_000 + 5000 * np.arange(8 * 720)
    evening = quantities(city, np.repeat(home, len(starts)), starts, 5) * 720 / 1e6  # kW
    jumps = np.diff(evening)
    assert ((jumps > 0.8) & (jumps < 2)).sum() >= 2


def test_solar_export_follows_the_sun(city):
    panels = np.arange(city.blocks[3], city.blocks[4], dtype=np.uint32)
    by_hour = [quantities(city, panels, SUMMER + hour * 3_600_000, 3600) for hour in range(24)]
    assert sum(by_hour[h].sum() for h in (0, 1, 2, 3, 4, 5, 21, 22, 23)) == 0
    assert (by_hour[13] > 0).all()
    winter_noon = quantities(city, panels, WINTER + 12 * 3_600_000, 3600).sum()
    assert winter_noon < by_hour[13].sum()


def test_voltage_is_around_120_volts(city):
    gauges = np.arange(city.blocks[7], city.blocks[8], dtype=np.uint32)
    day = np.stack([quantities(city, gauges, SUMMER + 300_000 * i, 5) for i in range(288)])
    assert 114_000 < day.min() < day.max() < 126_000
    assert (day.std(axis=0) > 200).all()


def test_times_outside_of_the_calendar_and_unknown_channels_are_refused(city):
    with pytest.raises(ValueError, match="2010-01-04"):
        quantities(city, np.array([0]), 0, 5)
    with pytest.raises(ValueError, match="not in this city"):
        quantities(city, np.array([city.count]), WINTER, 5)
    with pytest.raises(ValueError, match="1 or more"):
        quantities(city, np.array([0]), WINTER, 0)
