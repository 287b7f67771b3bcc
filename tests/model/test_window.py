"""A day is where the meter is: in every zone of the world local days follow each other without a gap, as a wall clock says."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterpulse.model import window as w
from meterpulse.model.window import (
    DAY_MS,
    day_of_text,
    day_splits,
    day_text,
    instant_ms,
    iso,
    local_day,
    local_day_bounds,
    local_midnight,
    zone,
)

ZONES = sorted(z for z in available_timezones() if z != "localtime" and not z.startswith(("posix", "right")))
# Monrovia kept 44 minutes and 30 seconds until 1972; everybody else has used quarters of an hour since 1970.
QUARTERS = [z for z in ZONES if z not in ("Africa/Monrovia", "Liberia")]
# They used to change at 00:01, so that a wall clock there showed a date, the one before, and the first again.
BACK_OVER_MIDNIGHT = {"America/St_Johns", "Canada/Newfoundland", "America/Goose_Bay", "America/Moncton"}
FIRST, LAST = day_of_text("1972-02-01"), day_of_text("2037-12-01")


def wall_date(name: str, ms: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).astimezone(ZoneInfo(name)).date()


def changes(name: str, year: int) -> list[int]:
    """The days of a year on which the zone's offset is not what it was the day before."""
    found, before = [], None
    for day in range(day_of_text(f"{year}-01-01") - 1, day_of_text(f"{year}-12-31") + 2):
        offset = datetime.fromtimestamp(day * 86_400, ZoneInfo(name)).utcoffset()
        if before is not None and offset != before:
            found += [day - 1, day]
        before = offset
    return found


@pytest.mark.parametrize("start", range(0, len(QUARTERS), 60))
def test_local_days_of_every_zone_cover_time_once_and_bear_the_date_of_the_wall(start):
    rng = random.Random(start)
    for name in QUARTERS[start : start + 60]:
        years = rng.sample(range(1973, 2037), 3)
        days = {d for year in years for d in changes(name, year)} | {rng.randrange(FIRST, LAST) for _ in range(3)}
        for day in days:
            low, high = local_day_bounds(name, day)
            assert low <= high == local_midnight(name, day + 1)
            assert low % 900_000 == 0 and 0 <= high - low <= 48 * 3_600_000
            if low == high:
                continue  # the Pacific has skipped a day
            assert wall_date(name, low) == date.fromisoformat(day_text(day)) or name in BACK_OVER_MIDNIGHT
            assert wall_date(name, high - 1) == date.fromisoformat(day_text(day)) or name in BACK_OVER_MIDNIGHT
            assert wall_date(name, low - 1) < date.fromisoformat(day_text(day)) or name in BACK_OVER_MIDNIGHT
            for _ in range(3):
                at = rng.randrange(low, high)
                assert local_day(name, at) == day or name in BACK_OVER_MIDNIGHT


@pytest.mark.parametrize("start", range(0, len(QUARTERS), 60))
def test_the_local_days_in_a_utc_day_cover_it_exactly_once(start):
    rng = random.Random(start + 1)
    for name in QUARTERS[start : start + 60]:
        days = set(changes(name, rng.randrange(1973, 2037))) | {rng.randrange(FIRST, LAST) for _ in range(3)}
        for day in days:
            parts = day_splits(name, day)
            assert 1 <= len(parts) <= 3
            assert parts[0][1] == day * DAY_MS and parts[-1][2] == (day + 1) * DAY_MS
            assert all(a[2] == b[1] and a[0] < b[0] for a, b in zip(parts, parts[1:], strict=False))
            for local, low, high in parts:
                bounds = local_day_bounds(name, local)
                assert bounds[0] <= low < high <= bounds[1]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(QUARTERS), st.integers(FIRST * DAY_MS, LAST * DAY_MS))
def test_any_instant_lies_in_the_local_day_that_it_is_told(name, ms):
    day = local_day(name, ms)
    low, high = local_day_bounds(name, day)
    assert low <= ms < high or name in BACK_OVER_MIDNIGHT


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("America/New_York", "2026-03-08", 23), ("America/New_York", "2026-11-01", 25), ("Europe/London", "2026-03-29", 23),
        ("Australia/Lord_Howe", "2026-04-05", 24.5), ("Australia/Lord_Howe", "2026-10-04", 23.5), ("America/Havana", "2026-03-08", 23),
        ("America/Havana", "2026-11-01", 25), ("Asia/Kathmandu", "2026-03-08", 24), ("Pacific/Apia", "2011-12-30", 0),
        ("America/Sao_Paulo", "2018-11-04", 23), ("America/Sao_Paulo", "2018-02-17", 25), ("Asia/Beirut", "2026-03-29", 23),
        ("UTC", "2016-12-31", 24),
    ],
)  # fmt: skip
def test_days_of_changing_clocks_are_as_long_as_they_were(name, day, hours):
    low, high = local_day_bounds(name, day_of_text(day))
    assert (high - low) / 3_600_000 == hours


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-30_000, 60_000),
    st.integers(-(10**13), 10**13),
    st.sampled_from([w.MINUTE_MS, w.WINDOW_MS, w.HOUR_MS, DAY_MS]),
)
def test_windows_shorter_than_a_day_are_aligned_to_utc(day, ms, size):
    assert day_of_text(day_text(day)) == day
    low = w.floor_to(ms, size)
    assert low <= ms < low + size and low % size == 0
    assert instant_ms(iso(ms)) == ms and w.utc_day(ms) * DAY_MS == w.floor_to(ms, DAY_MS)


@pytest.mark.parametrize("text", ["2026-03-08T00:00:00", "yesterday", "", "2026-13-01T00:00:00Z", "2026-03-08"])
def test_a_time_without_an_offset_or_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r"add Z|ISO 8601"):
        instant_ms(text)


def test_a_plus_that_a_url_has_made_a_space_is_understood():
    assert instant_ms("2026-03-08T02:00:00 02:00") == instant_ms("2026-03-08T00:00:00Z")


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "America", "/etc/localtime", "x\0y"])
def test_a_zone_that_is_none_is_refused_with_what_to_write(name):
    with pytest.raises(ValueError, match="IANA"):
        zone(name)
