"""A rebuild that was asked for is done, also where the server was stopped in between; and at night by itself."""

from __future__ import annotations

import random
import time

from city import City, channels
from test_speed_is_batch_is_a_plain_loop import HOUR, ZONES, ms, stream

from meterpulse.batch.plans import NIGHTLY
from meterpulse.serving.rebuilds import Wanted, rebuild_days

START = ms(2026, 3, 7, 20)


def planned(city: City) -> dict[str, dict]:
    return {plan.what: plan.shape() for plan in city.pipeline.rebuilder.plans._plans}


def wait_for(condition) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_what_a_restart_cut_short_goes_on_and_a_night_rebuilds_the_newest_days(tmp_path):
    rng = random.Random(4)
    with City(tmp_path / "data", channels(3, ZONES), now_ms=START + 30 * HOUR, nested=False) as city:
        city.send(stream(rng, city.shapes, START, 20))
        city.breathe()
        with city.pipeline.rebuilder._lock:  # it comes as far as the plan
            plan = rebuild_days(city.pipeline, Wanted(start="2026-03-07", end="2026-03-08", wait_seconds=0))
            assert (plan["total"], plan["left"]) == (2, 2)
            city.pipeline.rebuilder.stop()
        city.reopen()
        wait_for(lambda: not planned(city)["range"]["left"])
        assert [day["day"] for day in planned(city)["range"]["days"]] == ["2026-03-07", "2026-03-08"]
        city.must_agree()
        done = city.pipeline.status()["rebuilds"]["done"]
        city.now_ms += 24 * HOUR  # 02:00 on the 10th: the night of the 9th has come
        wait_for(lambda: NIGHTLY in planned(city) and not planned(city)[NIGHTLY]["left"])
        assert city.pipeline.status()["rebuilds"]["done"] == done + 2
        city.must_agree()
        assert city.pipeline.status()["differences"]["unexplained"] == 0
