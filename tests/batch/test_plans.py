"""Days are rebuilt on request and every night; what was cut short goes on, and one day that fails does not hold up the others."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from meterpulse.batch.plans import Plans, days_between, last_night
from meterpulse.model.window import DAY_MS, HOUR_MS, day_of_text
from meterpulse.stores.lmdb import LmdbStore


@pytest.fixture
def store(tmp_path):
    store = LmdbStore(tmp_path / "store", 64 << 20)
    yield store
    store.close()


def ms(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "now", "night"),
    [
        ("UTC", "2026-03-10 02:29", "2026-03-09 02:30"),
        ("UTC", "2026-03-10 02:30", "2026-03-10 02:30"),
        ("America/New_York", "2026-03-07 23:00", "2026-03-07 02:30"),
        ("America/New_York", "2026-03-08 12:00", "2026-03-08 02:30"),  # the clock skips it
        ("Europe/London", "2026-10-25 12:00", "2026-10-25 02:30"),
        ("America/New_York", "2026-11-01 12:00", "2026-11-01 02:30"),
        ("Asia/Kathmandu", "2026-11-01 01:00", "2026-10-31 02:30"),
    ],
)
def test_a_night_is_when_the_clock_on_the_wall_says_so(zone, now, night):
    assert last_night("02:30", zone, ms(now, zone)) == ms(night, zone)
    assert last_night("off", zone, ms(now, zone)) is None


def test_every_night_comes_once_and_none_has_gone_by_before_the_first_start(store):
    plans, noon = Plans(store), ms("2026-03-10 12:00", "UTC")
    today = day_of_text("2026-03-10")
    known = list(range(today - 5, today + 1))
    assert plans.begin_night("02:30", "UTC", 2, lambda: known, noon) is None
    tonight = noon + 15 * HOUR_MS
    number = plans.begin_night("02:30", "UTC", 2, lambda: known, tonight)
    assert plans.begin_night("02:30", "UTC", 2, lambda: known, tonight + HOUR_MS) is None
    again = Plans(store)  # the server was killed meanwhile
    assert again.begin_night("02:30", "UTC", 2, lambda: known, tonight + HOUR_MS) is None
    assert [again.next(), again.summary()["what"]] == [(number, today - 1), "nightly"]
    for day in (today - 1, today):
        again.finished(number, day, {"day": day})
    assert again.next() is None and Plans(store).next() is None
    assert again.begin_night("02:30", "UTC", 2, lambda: known, tonight + 3 * DAY_MS) == number + 1, (
        "it was down for two nights"
    )


def test_a_plan_goes_on_where_it_was_cut_short_and_tells_which_days_failed(store):
    plans = Plans(store)
    first, second = plans.add("all", [3, 1, 2, 1], 0), plans.add("days", [9], 0)
    assert plans.next() == (first, 1)
    plans.finished(first, 1, {"day": "1970-01-02"})
    plans.finished(first, 2, "its readings are gone")
    plans = Plans(store)
    assert plans.wait(first, 0)["left"] == 1 and plans.next() == (first, 3)
    plans.finished(first, 3, {"day": "1970-01-04"})
    assert plans.next() == (second, 9)
    told = plans.wait(first, 60)
    assert (told["total"], told["left"], told["failed"]) == (3, 0, {"1970-01-03": "its readings are gone"})
    assert [report["day"] for report in told["days"]] == ["1970-01-02", "1970-01-04"]
    with pytest.raises(KeyError):
        plans.wait(77, 0)


def test_days_from_one_to_another_include_both():
    days = [day_of_text(f"2026-03-{d:02d}") for d in (1, 2, 5, 9)]
    assert days_between(days, "2026-03-02", "2026-03-05") == days[1:3]
    assert days_between(days, None, "2026-03-01") == days[:1]
    with pytest.raises(ValueError):
        days_between(days, "March", None)
