"""Law 3: what speed answers now, what batch recomputes and what a plain loop says are the same, to the last digit."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from city import City, channels, config_for
from oracle import Reading

HOUR = 3_600_000
ZONES = ("America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")


def ms(*at: int) -> int:
    return int(datetime(*at, tzinfo=UTC).timestamp() * 1000)


def stream(rng: random.Random, shapes: dict, start_ms: int, hours: int, *, missing: float = 0.03) -> list[Reading]:
    """Every interval of every channel in order of time, some missing."""
    found = []
    for shape in shapes.values():
        step = shape["interval_seconds"]
        unit = 1000 if shape["unit"] != "L" else 1
        for k in range(hours * 3600 // step):
            if rng.random() >= missing:
                found.append(Reading(shape["id"], start_ms + k * step * 1000, step, rng.randrange(2_000_000) * unit))
    return sorted(found, key=lambda r: (r.start_ms, r.channel))


def unsettled(rng: random.Random, readings: list[Reading]) -> list[Reading]:
    """Out of order, late, delivered twice, revised, and the old value once more after its revision."""
    order = []
    for i, reading in enumerate(readings):
        at, chance = i, rng.random()
        if chance < 0.05:
            at += rng.randrange(1, 60)
        elif chance < 0.07:
            at += rng.randrange(500, 4000)
        order.append((at, reading))
        if rng.random() < 0.05:
            order.append((at + rng.randrange(300), reading))
        if rng.random() < 0.02:
            revised = reading._replace(quantity=reading.quantity + 1000, revision=rng.choice((1, 7, 2**40)))
            order.append((at + rng.randrange(3000), revised))
            order.append((at + rng.randrange(3000), reading._replace(revision=1, quantity=5000)))
            order.append((at + rng.randrange(3000), reading))
    return [reading for _, reading in sorted(order, key=lambda pair: pair[0])]


def send_in_bodies(city: City, rng: random.Random, readings: list[Reading]) -> None:
    at = 0
    while at < len(readings):
        size = int(600 ** rng.random())
        city.send(readings[at : at + size])
        if (at + size) // 800 > at // 800:
            city.breathe()
        at += size


# The clocks go forward or back in one of the zones on each of these: local days of 23, 23.5, 24.5 and 25 hours.
CHANGES = {
    "New York forward": (2026, 3, 8),
    "London forward": (2026, 3, 29),
    "Lord Howe back by half an hour": (2026, 4, 5),
    "Lord Howe forward by half an hour": (2026, 10, 4),
    "London back": (2026, 10, 25),
    "New York back": (2026, 11, 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_speed_equals_batch_equals_a_plain_loop_when_the_clocks_change(tmp_path, change):
    day, rng = ms(*CHANGES[change]), random.Random(change)
    with City(tmp_path / "data", channels(5, ZONES, interval_seconds=900), now_ms=day + 60 * HOUR) as city:
        city.send(stream(rng, city.shapes, day - 14 * HOUR, 52))
        # An hour of silence but for one meter: the watermark passes the days, and speed makes them whole.
        city.send([Reading("E-0000", day + 45 * HOUR, 900, 7000)])
        city.settle()
        city.must_agree()
        assert city.pipeline.status()["rebuilds"]["done"] == 0, "these answers are speed's"
        city.rebuild_all()
        assert city.pipeline.status()["rebuilds"]["done"] >= 3
        city.must_agree()
        rows = city.answer("1d", channel="E-0000")
        hours = {d: round((_midnight(d + timedelta(days=1)) - _midnight(d)) / HOUR, 1) for d in rows}
        assert min(hours.values()) < 24 or max(hours.values()) > 24 or "New York" not in change


def _midnight(day) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(ZONES[0])).timestamp() * 1000


@pytest.mark.parametrize("seed", range(2))
def test_disorder_duplicates_lateness_and_revisions_end_in_the_same_answers(tmp_path, seed):
    rng, start = random.Random(seed), ms(2026, 3, 7, 12)
    with City(tmp_path / "data", channels(8, ZONES), now_ms=start + 48 * HOUR) as city:
        send_in_bodies(city, rng, unsettled(rng, stream(rng, city.shapes, start, 14)))
        city.settle()
        city.must_agree()
        status = city.pipeline.status()
        assert status["late"] and status["duplicates"] and status["revisions"]
        city.rebuild_all()
        city.must_agree()
        city.reopen()
        city.settle()
        city.must_agree()


def test_an_import_of_old_and_of_present_days_shows_beside_what_is_live(tmp_path):
    rng, start = random.Random(5), ms(2026, 3, 7, 20)
    with City(tmp_path / "data", channels(6, ZONES), now_ms=start + 24 * HOUR) as city:
        live = stream(rng, city.shapes, start, 6)
        city.send(live[: len(live) // 2])
        city.send(stream(rng, city.shapes, start - 72 * HOUR, 24), "import:old")
        city.send(stream(rng, city.shapes, start, 4), "import:again")  # other values: what came first stands
        city.send(live[len(live) // 2 :])
        city.send(stream(rng, city.shapes, start + 5 * HOUR, 3), "import:ahead")
        city.settle()
        city.must_agree()
        assert city.pipeline.status()["imported"] > 0
        city.rebuild_all()
        city.must_agree()


@pytest.mark.parametrize("seed", range(2))
def test_readings_off_the_grid_of_five_seconds_count_as_any_other(tmp_path, seed):
    rng, start = random.Random(seed), ms(2026, 3, 7, 23, 50)
    with City(tmp_path / "data", channels(4, ZONES, interval_seconds=1), now_ms=start + 5 * HOUR) as city:
        seconds = [
            Reading(id, start + k * 1000 + rng.choice((0, 0, 0, 250)), 1, rng.randrange(1000) * 1000)
            for k in range(0, 1500)
            for id in city.shapes
            if rng.random() < 0.4
        ]
        send_in_bodies(city, rng, unsettled(rng, seconds))
        city.settle()
        city.must_agree()
        city.rebuild_all()
        city.must_agree()


def test_quantities_beyond_32_bits_are_summed_exactly_beside_small_ones(tmp_path):
    start = ms(2026, 3, 7)
    with City(tmp_path / "data", channels(4, ZONES), now_ms=start + 24 * HOUR) as city:
        limit = (2**31 - 1) // 60
        values = [0, 1, limit - 1, limit, limit + 1, 2**31 - 1, 2**31, 2**32, 2**46 + 1, 10**14]
        for k, value in enumerate(values):
            city.send([Reading("E-0000", start + k * 5000, 5, value), Reading("G-0001", start + k * 5000, 5, 1 + k)])
        city.settle()
        city.must_agree()
        assert max(row.max for row in city.answer("5m", channel="E-0000").values()) == 10**14
        city.rebuild_all()
        city.must_agree()


def test_channels_and_areas_registered_while_windows_are_open_count_from_their_first_reading(tmp_path):
    from meterpulse.model.channel import Channel

    start = ms(2026, 3, 7)
    shapes = channels(3, ZONES)
    with City(tmp_path / "data", shapes, now_ms=start + 24 * HOUR) as city:
        city.send([Reading("E-0000", start, 300, 5000)])
        city.settle()
        added = [dict(s, id=f"N{s['id']}", area="20000") for s in channels(3, ZONES)]
        city.pipeline.registry.add_area("20000", parent="north")
        city.pipeline.registry.register([Channel.from_dict(s) for s in added])
        city.shapes.update({s["id"]: s for s in added})
        city.oracle.parents["20000"] = "north"
        city.oracle.area_zones["20000"] = "America/New_York"
        city.send([Reading("NE-0000", start + 1, 1, 7000), Reading("NE-0000", start + 5000, 5, 9000)])
        city.settle()
        city.must_agree()
        city.send(
            [Reading("E-0000", start + 26 * HOUR - 5 * HOUR, 300, 1000)]
        )  # the watermark passes the first windows
        city.settle()
        city.must_agree()
        city.rebuild_all()
        city.must_agree()


def test_little_memory_for_open_windows_loses_nothing(tmp_path):
    rng, start = random.Random(3), ms(2026, 3, 7)
    config = config_for(tmp_path / "data", speed={"max_open_bytes": 16 << 20, "allowed_lateness_seconds": 604_800})
    with City(tmp_path / "data", channels(6, ZONES), now_ms=start + 48 * HOUR, config=config) as city:
        city.pipeline.engine._max_open_bytes = 8192 * 24 * 3  # three windows
        rows = stream(rng, city.shapes, start, 8)
        rng.shuffle(rows)
        send_in_bodies(city, rng, rows)
        city.settle()
        assert city.pipeline.status()["late"] > 0
        city.must_agree()
