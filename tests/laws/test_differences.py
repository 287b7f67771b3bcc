"""Where batch says otherwise than speed did, it is told by how much and why; what has no cause is a defect and is told too."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
from city import City, channels, config_for
from oracle import Reading
from test_speed_is_batch_is_a_plain_loop import HOUR, ZONES, ms, stream, unsettled

from meterpulse.batch.differences import CAUSES, of_day, of_record, unpack
from meterpulse.cli import main
from meterpulse.model.problem import Problem
from meterpulse.model.window import DAY_MS, WINDOW_MS, iso
from meterpulse.serving.deskapi import answer
from meterpulse.serving.differences import Asked, differences, table
from meterpulse.stores.overlay import Overlay

START = ms(2026, 3, 7, 12)
DAYS = range(START // DAY_MS, START // DAY_MS + 2)


def answers(city: City) -> dict[tuple[str, int], tuple[int, int]]:
    """(channel, window) -> (count, sum) as the city says now."""
    found = {}
    for id in city.shapes:
        for at, row in city.answer("5m", channel=id).items():
            found[id, int(at.timestamp() * 1000)] = row.count, row.sum
    return found


def told(city: City) -> dict[tuple[str, int], np.void]:
    ids = list(city.shapes)
    rows = [row for day in DAYS for row in of_day(city.pipeline.store, day)]
    days = [day for day in DAYS for _ in of_day(city.pipeline.store, day)]
    return {
        (ids[row["channel"]], day * DAY_MS + int(row["window"]) * WINDOW_MS): row
        for row, day in zip(rows, days, strict=True)
    }


def hold_rebuilds(city: City):
    """Answers are speed's alone while this is held."""
    return city.pipeline.rebuilder._lock


@pytest.mark.parametrize("seed", range(2))
def test_every_difference_from_what_speed_answered_is_told_with_its_amount_and_its_cause(tmp_path, seed):
    rng = random.Random(seed)
    with City(
        tmp_path / "data",
        channels(6, ZONES),
        now_ms=START + 48 * HOUR,
        config=config_for(tmp_path / "data", vee={"record": False}),
        nested=False,
    ) as city:
        readings = unsettled(rng, stream(rng, city.shapes, START, 4))
        late, rest = readings[::9], [r for i, r in enumerate(readings) if i % 9]
        with hold_rebuilds(city):
            for part in (
                rest,
                [Reading("E-0000", START + 30 * HOUR, 300, 1000)],
                late,
            ):  # the second retires all windows
                city.send(part)
                city.breathe()
            while city.pipeline.engine.retiring:
                city.breathe()
            speed = answers(city)
        city.settle()
        city.must_agree()
        after, differing = answers(city), told(city)
        want = {key for key in after if after[key] != speed.get(key, (0, 0))}
        assert set(differing) >= want
        for key, row in differing.items():
            had, has = speed.get(key, (0, 0)), after[key]
            assert (row["count"], row["delta"], row["batch"]) == (has[0] - had[0], has[1] - had[1], has[1]), key
        causes = Counter(CAUSES[row["cause"]] for row in differing.values())
        assert causes["late"] and causes["revision"] and set(causes) == {"late", "revision"}, causes
        assert sum(int(row["delta"]) for row in differing.values()) == sum(s for _, s in after.values()) - sum(
            s for _, s in speed.values()
        )
        city.rebuild_all()
        city.reopen()
        city.settle()
        assert told(city) == differing, "a second rebuild finds what the first has found"
        the_answers_add_up(city, differing)
        status = city.pipeline.status()["differences"]
        assert {cause: n for cause, n in status.items() if n} == dict(causes)


def the_answers_add_up(city: City, differing: dict[tuple[str, int], np.void]) -> None:
    """/v1/differences: every channel and cause once over the pages, and totals by area of the same amounts."""
    p, rows, page = city.pipeline, [], {"next": None}
    while not rows or page["next"]:
        page = differences(p, Asked(after=page["next"], limit=3))
        rows += page["rows"]
    assert sum(row["windows"] for row in rows) == len(differing)
    assert [row["channel"] for row in rows] == table(p, Asked())["channel"].to_pylist()
    for utility, scale in (("electricity", 10**6), ("gas", 10**6), ("water", 10**3)):
        own = [row for key, row in differing.items() if city.shapes[key[0]]["utility"] == utility]
        moved = sum(abs(int(row["delta"])) for row in own)
        asked = differences(p, Asked(utility=utility))
        for part in (asked["rows"], asked["totals"]):
            assert sum(round(row["difference"] * scale) for row in part) == moved
        for total in asked["totals"]:
            used = sum(
                r.sum
                for at, r in city.oracle.area(total["area"], utility, "1h").items()
                if at.date().isoformat() == total["day"]
            )
            assert total["share"] == round(total["difference"] * scale) / used
    late = differences(p, Asked(cause="late", channel="E-0000"))
    assert {(row["channel"], row["cause"]) for row in late["rows"]} <= {("E-0000", "late")}
    for wrong in (
        Asked(cause="magic"),
        Asked(day="yesterday"),
        Asked(channel="no"),
        Asked(day="2026-03-07", end="2026-03-08"),
    ):
        with pytest.raises(Problem):
            differences(p, wrong)


def test_over_several_rebuilds_the_difference_is_from_what_speed_said_first(tmp_path):
    rng = random.Random(7)
    with City(
        tmp_path / "data",
        channels(3, ZONES),
        now_ms=START + 48 * HOUR,
        config=config_for(tmp_path / "data", vee={"record": False}),
    ) as city:
        city.send(
            r for r in stream(rng, city.shapes, START, 3, missing=0) if (r.channel, r.start_ms) != ("G-0001", START)
        )
        city.send([Reading("E-0000", START + 8 * HOUR, 300, 1000)])
        city.breathe()
        assert not told(city)
        late = Reading("G-0001", START, 300, 5000)
        city.send([late])
        city.settle()
        row = told(city)["G-0001", START]
        assert (row["count"], row["delta"], CAUSES[row["cause"]]) == (1, 5000, "late")
        city.send([late._replace(quantity=9000, revision=1)])
        city.settle()
        row = told(city)["G-0001", START]
        assert (row["count"], row["delta"], CAUSES[row["cause"]]) == (1, 9000, "revision")
        city.must_agree()


def test_an_import_of_windows_that_speed_never_answered_is_no_difference(tmp_path):
    rng = random.Random(8)
    with City(
        tmp_path / "data",
        channels(3, ZONES),
        now_ms=START + 48 * HOUR,
        config=config_for(tmp_path / "data", vee={"record": False}),
    ) as city:
        city.send(stream(rng, city.shapes, START + 6 * HOUR, 2))
        city.send(stream(rng, city.shapes, START, 3), "import:old")
        city.settle()
        city.must_agree()
        assert not told(city)
        city.send([Reading("E-0000", START + 20 * HOUR, 300, 1000)])
        city.breathe()
        city.send([Reading("W-0002", START + 6 * HOUR + 1000, 300, 4000)], "import:again")
        city.settle()
        assert [CAUSES[row["cause"]] for row in told(city).values()] == ["late"], "this window had been answered"


def test_readings_that_a_defect_makes_speed_lose_are_told_as_unexplained(tmp_path):
    rng = random.Random(9)
    with City(
        tmp_path / "data",
        channels(3, ZONES),
        now_ms=START + 48 * HOUR,
        config=config_for(tmp_path / "data", vee={"record": False}),
    ) as city:
        city.send(stream(rng, city.shapes, START, 2, missing=0))
        city.breathe()
        lost = max(city.pipeline.engine.windows)
        city.pipeline.engine.windows[lost].cells[0, 1, 2] -= 1000  # the sum of G-0001
        city.send([Reading("E-0000", START + 20 * HOUR, 300, 1000)])
        city.breathe()
        city.send([Reading("G-0001", lost - WINDOW_MS + 5000, 300, 3000)])  # and another window is late
        city.settle()
        city.must_agree()
        causes = {key: CAUSES[row["cause"]] for key, row in told(city).items()}
        assert causes == {("G-0001", lost): "unexplained", ("G-0001", lost - WINDOW_MS): "late"}
        assert any("without a known cause" in text for text in city.pipeline.status()["alarms"])
        assert differences(city.pipeline, Asked())["unexplained"] == 1


def test_the_command_line_ends_with_findings_where_a_difference_has_no_cause(tmp_path, capsys):
    with City(
        tmp_path / "data",
        channels(3, ZONES),
        now_ms=START + 48 * HOUR,
        config=config_for(tmp_path / "data", vee={"record": False}),
    ) as city:
        city.send(Reading(id, START + k * WINDOW_MS, 300, 5000) for k in range(3) for id in city.shapes)
        city.breathe()
        city.pipeline.engine.windows[START].cells[0, 0, 2] += 1
        city.send([Reading("E-0000", START + 20 * HOUR, 300, 1000)])
        city.breathe()
        city.send([Reading("G-0001", START + 5000, 300, 3000)])
        city.settle()
    data = ["--data", str(tmp_path / "data")]
    assert main(["differences", "--json", *data]) == 4
    document = json.loads(capsys.readouterr().out)
    assert {row["channel"]: row["cause"] for row in document["rows"]} == {"E-0000": "unexplained", "G-0001": "late"}
    assert main(["differences", "--cause", "late", "--csv", *data]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith('"2026-03-07","gas","10000","G-0001","late",1,')
    assert main(["sql", "select channel, speed, batch from differences order by 1", "--json", *data]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {"channel": "E-0000", "speed": 0.005001, "batch": 0.005}
    assert main(["doctor", *data]) == 4


def test_what_the_record_makes_of_a_gap_and_what_people_decide_is_told_beside_it(tmp_path):
    rng = random.Random(10)
    with City(tmp_path / "data", channels(1, ZONES), now_ms=START + 60 * HOUR, nested=False) as city:
        gap = [START + 20 * HOUR + k * WINDOW_MS for k in range(3)]
        city.send(r for r in stream(rng, city.shapes, START, 40, missing=0) if r.start_ms not in gap)
        city.send([Reading("E-0000", START + 50 * HOUR, 300, 1000)])
        city.breathe()
        while city.pipeline.engine.retiring:
            city.breathe()
        city.pipeline.rebuilder.record_due()
        row = told(city)["E-0000", gap[0]]
        assert (CAUSES[row["cause"]], row["count"], row["delta"]) == ("estimate", 1, row["batch"])
        decide = {"channel": "E-0000", "start": iso(gap[0]), "end": iso(gap[1]), "action": "set", "values": ["0.5"]}
        answer(city.pipeline, "decide", decide | {"author": "ana", "reason": "read off the display"})
        city.settle()
        city.pipeline.rebuilder.record_due()
        causes = {at: CAUSES[told(city)["E-0000", at]["cause"]] for at in gap}
        assert causes == {gap[0]: "edit", gap[1]: "estimate", gap[2]: "estimate"}
        assert told(city)["E-0000", gap[0]]["delta"] == 500_000
        assert differences(city.pipeline, Asked(cause="edit"))["rows"][0]["difference"] == 0.5
        city.must_agree()


def test_another_value_by_other_rules_is_a_rule_change_and_stays_one():
    before = overlay([(5, 900), (6, 700)])
    kept = of_record(None, Overlay.none(), before, 0, 9, np.zeros(4, bool), 1)
    assert [CAUSES[c] for c in unpack(kept)["cause"]] == ["estimate", "estimate"]
    after = overlay([(5, 950), (6, 700), (7, 100)])
    kept = of_record(kept, before, after, 0, 9, np.ones(4, bool), 2)
    assert [(CAUSES[r["cause"]], r["found_ms"]) for r in unpack(kept)] == [
        ("rule change", 2),
        ("estimate", 1),
        ("rule change", 2),
    ]
    again = of_record(kept, after, after, 0, 9, np.zeros(4, bool), 3)
    assert unpack(again).tolist() == unpack(kept).tolist()


def overlay(values: list[tuple[int, int]]) -> Overlay:
    """Estimates of a first channel, by the window of the day, by method 1."""
    window, quantity = (np.array(c, np.int64) for c in zip(*values, strict=True))
    state = 300 << 2 | 2
    rows = np.column_stack(
        [np.full(len(window), state), quantity, window * 0, window * 0 + 9, window * 0 + 1, window * 0]
    )
    return Overlay.decoded(window.astype(np.uint32), rows)
