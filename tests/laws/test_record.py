"""The record is a function of what was measured, the rules and the edits: whatever order readings came in, however often it is made."""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from city import NOON, SCALE, City, channels, config_for
from oracle import Reading

from meterpulse.model.quality import RAW, Quality
from meterpulse.model.window import DAY_MS, instant_ms, iso, local_midnight
from meterpulse.serving import desk
from meterpulse.serving.answers import WORDS, as_json
from meterpulse.serving.deskjson import Span
from meterpulse.serving.intervals import IntervalQuery, intervals, rows_of
from meterpulse.serving.queries import UsageQuery, usage
from meterpulse.stores.overlay import overlay_of
from meterpulse.vee import MISSING, Context, Profile, Traits
from meterpulse.vee.estimation import Order, estimate
from meterpulse.vee.gaps import Support
from meterpulse.worklist import Edit, Filter

STEP = 1_800_000
DAYS = 7
FIRST = NOON // DAY_MS - 20
SHAPES = channels(4, ["UTC", "America/New_York"], interval_seconds=1800)
ALL_ONES = 0xFFFFFF * 10**6  # kWh: what a meter says when it has nothing to say
DAY = FIRST + 4  # whose record is looked at


def readings(seed: int = 5) -> list[Reading]:
    """Half hours with gaps: single ones, one of nine hours, and a day that one channel lacks; and a number of all ones."""
    rng, found = random.Random(seed), []
    for c, shape in enumerate(SHAPES):
        for k in range(DAYS * 48):
            gone = rng.random() < 0.02 or (c == 1 and 200 <= k < 218) or (c == 2 and 192 <= k < 240)
            if not gone:
                quantity = 1000 * (3 + k % 48 // 8) + rng.randrange(900)
                quantity = ALL_ONES if (c, k) == (0, 196) else quantity
                found.append(Reading(shape["id"], FIRST * DAY_MS + k * STEP, 1800, quantity, 0))
    return found


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    with City(tmp_path_factory.mktemp("record") / "a", SHAPES) as city:
        city.send(readings(), "import:a")
        recorded(city)
        yield city


def recorded(city: City) -> None:
    """Everything counted, every whole day recorded."""
    assert city.pipeline.settle(60)
    deadline = time.monotonic() + 60
    while city.pipeline.rebuilder.recording.due() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not city.pipeline.rebuilder.recording.due()


def effective(city: City, day: int) -> dict[tuple[int, int], tuple]:
    """(channel, start) -> quantity, ESPI code, method; of what is not simply measured and validated."""
    p = city.pipeline
    o, methods = overlay_of(p.store, 0, day), p.rebuilder.recording.days[day].methods
    start = day * DAY_MS + o.step * 300_000
    rows = zip(o.key, start, o.quantity, o.quality, o.method, o.measured, o.has_measured, strict=True)
    plain = int(Quality.VALIDATED)
    return {(int(c), int(s)): (int(q), int(g) & 255, methods[m]) for c, s, q, g, m, was, known in rows
            if not (known and g == plain and was == q and m == 0)}  # fmt: skip


def expected(sent: list[Reading], day: int) -> dict[tuple[int, int], tuple]:
    """Missing intervals of a day, each channel by itself: a matrix of one row over its two months and the day after."""
    known = {(r.channel, r.start_ms): r.quantity for r in sent}
    out: dict[tuple[int, int], tuple] = {}
    first, m = 60 * 48, 62 * 48
    for index, shape in enumerate(SHAPES):
        values = [known.get((shape["id"], (day - 60) * DAY_MS + k * STEP)) for k in range(m)]
        quantity = np.array([[v or 0 for v in values]], np.int64)
        quality = np.array([[MISSING if v is None else RAW for v in values]], np.int32)
        traits = traits_of(shape)
        channel = np.array([index], np.uint32)
        profile = Profile(traits, channel, (day - 60) * DAY_MS, STEP, quantity, quality, first, first + 48)
        told = estimate(profile, Context(), Support(), Order.of())
        e = told.evidence
        for a, b, which in zip(e.first.tolist(), e.after.tolist(), e.estimator.tolist(), strict=True):
            for k in range(max(a - first, 0), min(b - first, 48)):
                value = int(told.quantity[0, k]), int(told.quality[0, k]) & 255, told.estimators[which]
                out[index, day * DAY_MS + k * STEP] = value
    return out


def traits_of(shape: dict) -> Traits:
    from meterpulse.model.channel import Kind, Utility
    from meterpulse.model.quantity import unit_of

    return Traits(Utility[shape["utility"]], Kind.interval, unit_of(shape["unit"]), 1800, zone=shape["time_zone"])


def test_what_is_missing_is_estimated_as_for_each_channel_by_itself(city: City):
    missing = expected([r for r in readings() if r.quantity != ALL_ONES], DAY)
    assert len(missing) > 48, "a day that one channel lacks, and more"
    assert (0, DAY * DAY_MS + 4 * STEP) in missing, "all ones are no value"
    assert effective(city, DAY) == missing


def test_order_and_lateness_do_not_change_the_record(city: City, tmp_path: Path):
    shuffled = readings()
    random.Random(3).shuffle(shuffled)
    with City(tmp_path / "b", SHAPES) as other:
        for part in (shuffled[:900], shuffled[600:]):
            other.send(part, "import:b")
            recorded(other)
        for day in range(FIRST, FIRST + DAYS - 1):
            assert effective(other, day) == effective(city, day)


def test_an_edit_stands_in_the_record_and_is_gone_when_it_is_undone(city: City):
    before, p = effective(city, DAY), city.pipeline
    at = DAY * DAY_MS + 10 * STEP
    edit = Edit(2, at, STEP, np.array([777]), np.array([int(Quality.EDITED)], np.int32))
    change = p.desk.edits.commit([edit], action="set", author="ana", reason="read off the display", at_ms=city.now_ms)
    p.doubt_edited_days()
    recorded(city)
    assert effective(city, DAY) == before | {(2, at): (777, int(Quality.EDITED), "edit")}
    p.desk.edits.undo(change, author="ana", reason="another meter's", at_ms=city.now_ms)
    p.doubt_edited_days()
    recorded(city)
    assert effective(city, DAY) == before


def test_gaps_wait_in_the_work_list_once_however_often_the_day_is_recorded(city: City):
    first = city.pipeline.desk.exceptions.counts(Filter(rule="V07"))
    assert sum(row["count"] for row in first) > 10
    city.pipeline.rebuilder.record(DAY)
    assert city.pipeline.desk.exceptions.counts(Filter(rule="V07")) == first


def test_the_intervals_of_a_channel_are_the_measured_ones_and_what_the_record_says(city: City):
    p, told = city.pipeline, effective(city, DAY)
    known = {(r.channel, r.start_ms): r.quantity for r in readings()}
    for index, shape in enumerate(SHAPES):
        found = intervals(p, IntervalQuery(shape["id"], iso(DAY * DAY_MS), iso((DAY + 1) * DAY_MS)))
        rows = {instant_ms(row[0]): row[1:] for row in rows_of(found)}
        for k in range(48):
            at = DAY * DAY_MS + k * STEP
            measured = known.get((shape["id"], at))
            quantity, code, method = told.get((index, at), (measured, int(Quality.VALIDATED), ""))
            if quantity is None:
                assert at not in rows
                continue
            seconds, was, stands, _, quality, _, by, since = rows[at]
            assert seconds == 1800 and since == iso(city.now_ms // 1000 * 1000)
            assert (was is None) == (measured is None)
            assert round(Decimal(stands) * SCALE[shape["unit"]]) == quantity
            assert (quality, by) == (Quality(code).word, method)


def test_an_estimate_can_be_accepted_and_stands_as_an_edit(city: City):
    p = city.pipeline
    (_, at), (quantity, _, _) = next(item for item in effective(city, DAY).items() if item[0][0] == 2)
    spans = [Span(2, at, at + STEP)]
    trial = desk.tried(p, spans, "accept estimate", None)[0]
    assert trial.refused is None and trial.quantity.tolist() == [quantity]


def stands(city: City, day: int) -> dict[tuple[int, int], tuple[int, str]]:
    """(channel, start) -> the effective quantity, and the word for its quality, of all intervals of a day."""
    told = effective(city, day)
    index = {shape["id"]: i for i, shape in enumerate(SHAPES)}
    out = {(index[r.channel], r.start_ms): (r.quantity, "validated") for r in readings() if r.start_ms // DAY_MS == day}
    words = {int(Quality.QUESTIONABLE): "questionable", int(Quality.EDITED): "edited"}
    return out | {at: (quantity, words.get(code, "estimated")) for at, (quantity, code, _) in told.items()}


@pytest.mark.parametrize(("grain", "size"), [("5m", STEP), ("1h", 2 * STEP), ("1d", DAY_MS)])
def test_effective_usage_is_the_sum_of_what_stands_and_tells_the_worst_of_it(city: City, grain: str, size: int):
    every = stands(city, DAY) | stands(city, DAY - 1) | stands(city, DAY + 1)
    for index, shape in enumerate(SHAPES):
        midnight = local_midnight(shape["time_zone"], DAY)
        start, end = iso(midnight), iso(midnight + DAY_MS)
        q = UsageQuery(channel=shape["id"], start=start, end=end, grain=grain, values="effective")
        answer = usage(city.pipeline, q)
        windows: dict[int, list] = {}
        for (channel, at), value in every.items():
            if channel == index and midnight <= at < midnight + DAY_MS:
                windows.setdefault(midnight + (at - midnight) // size * size, []).append(value)
        worst = [max((word for _, word in values), key=WORDS.index) for _, values in sorted(windows.items())]
        assert answer.rows.start.tolist() == sorted(windows)
        assert answer.rows.rows[:, 1].tolist() == [sum(q for q, _ in values) for _, values in sorted(windows.items())]
        assert answer.words == worst
        rows = json.loads(as_json(answer))["rows"]
        for row in rows:
            assert (row["min"] is None) == (row["max"] is None) and (row["count"] or row["min"] is None)
            assert row["max"] is None or row["max"] < ALL_ONES // 10**6, "what does not stand is not the largest"


def test_what_is_not_known_is_no_zero(tmp_path: Path):
    shapes = channels(1, ["UTC"], interval_seconds=1800)
    good = {3: 2_000_000, 30: 5_000_000}
    sent = [Reading(shapes[0]["id"], DAY * DAY_MS + k * STEP, 1800, good.get(k, ALL_ONES)) for k in range(48)]
    config = config_for(tmp_path / "data", vee={"groups": [{"name": "none", "order": ["linear"]}]})
    with City(tmp_path / "data", shapes, config=config) as city:
        city.send([*sent, Reading(shapes[0]["id"], (DAY + 2) * DAY_MS, 1800, 1000)], "import:a")
        recorded(city)
        span = {"start": iso(DAY * DAY_MS), "end": iso((DAY + 1) * DAY_MS), "values": "effective"}
        for grain, size in (("5m", STEP), ("1h", 2 * STEP), ("1d", DAY_MS)):
            answer = usage(city.pipeline, UsageQuery(channel=shapes[0]["id"], grain=grain, **span))
            windows: dict[int, int] = {}
            for k, quantity in good.items():
                at = (DAY * DAY_MS + k * STEP) // size * size
                windows[at] = windows.get(at, 0) + quantity
            assert answer.rows.start.tolist() == sorted(windows), grain
            assert answer.rows.rows[:, 1].tolist() == [windows[at] for at in sorted(windows)]
            assert int(answer.rows.rows[:, 0].sum()) == len(good)
            rows = json.loads(as_json(answer))["rows"]
            assert all(row["quality"] == "questionable" and row["max"] is None for row in rows if grain == "1d")
        measured = usage(
            city.pipeline, UsageQuery(channel=shapes[0]["id"], grain="1d", **span | {"values": "measured"})
        )
        assert measured.rows.rows[0, :2].tolist() == [48, sum(good.values()) + 46 * ALL_ONES]


def test_the_effective_totals_of_an_area_are_those_of_its_channels(city: City):
    every = stands(city, DAY)
    for area, utility in {(s["area"], s["utility"]) for s in SHAPES} | {("city", "electricity")}:
        inside = {i for i, s in enumerate(SHAPES) if s["utility"] == utility and area in (s["area"], "city")}
        span = {"start": iso(DAY * DAY_MS), "end": iso((DAY + 1) * DAY_MS), "grain": "1h", "values": "effective"}
        rows = usage(city.pipeline, UsageQuery(area=area, utility=utility, **span)).rows
        assert int(rows.rows[:, 1].sum()) == sum(q for (channel, _), (q, _) in every.items() if channel in inside)
