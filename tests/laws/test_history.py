"""What the record said at any time can be asked for later: late readings, revisions, edits and their undoing, kills."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from city import NOON, City, channels, config_for
from deltalake import DeltaTable
from oracle import Reading

from meterpulse.cli.checkup import examine
from meterpulse.cli.tables import ask
from meterpulse.config import Config
from meterpulse.lake.history import TABLE, files_of
from meterpulse.model.crashpoint import VARIABLE
from meterpulse.model.problem import Problem
from meterpulse.model.quality import Quality
from meterpulse.model.window import DAY_MS, iso
from meterpulse.serving.intervals import IntervalQuery, as_bytes, intervals, rows_of
from meterpulse.worklist import Edit

STEP = 1_800_000
DAY = NOON // DAY_MS - 5
SHAPES = channels(2, ["UTC"], interval_seconds=1800)
MINUTE = 60_000
GONE = (7, 20, 21, 22)  # half hours that come late
KILLED_AT = ("record.kept", "record.block", "record.day")


def sent(k: int, quantity: int, revision: int = 0, channel: int = 0) -> Reading:
    return Reading(SHAPES[channel]["id"], DAY * DAY_MS + k * STEP, 1800, quantity * 1000, revision)


def whole_day() -> list[Reading]:
    first = [sent(k, 100 + k) for k in range(48) if k not in GONE]
    return first + [sent(k, 500 + k, channel=1) for k in range(48)] + [sent(144, 1), sent(144, 1, channel=1)]


def recorded(city: City) -> None:
    city.settle()
    city.pipeline.rebuilder.record_due()


def told(city: City, as_of: int | None = None) -> list[tuple]:
    """Everything that is told of both channels' day, but for since when it is known."""
    span = iso(DAY * DAY_MS), iso((DAY + 1) * DAY_MS)
    then = None if as_of is None else iso(as_of)
    return [row[:8] for s in SHAPES for row in rows_of(intervals(city.pipeline, IntervalQuery(s["id"], *span, then)))]


def versions(city: City, channel: int = 0) -> list[tuple]:
    span = iso(DAY * DAY_MS), iso((DAY + 1) * DAY_MS)
    return rows_of(intervals(city.pipeline, IntervalQuery(SHAPES[channel]["id"], *span, history=True)))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def lake_verdicts(config: Config) -> dict[str, str]:
    """What doctor says of each table of the lake."""
    found = [f for f in examine(config) if f.what == "lake"]
    return {TABLE if TABLE in f.detail or "versions" in f.detail else "readings": f.verdict for f in found}


def kept(city: City) -> int:
    return sum(file.rows for file in files_of(city.data / "lake"))


class Story:
    """What happens to a city's day, and what was told of it after each chapter."""

    def __init__(self, city: City):
        self.city, self.seen = city, {}

    def chapter(self, *readings: Reading) -> None:
        self.city.now_ms += MINUTE
        self.city.send(readings, "import:later")
        recorded(self.city)
        self.seen[self.city.now_ms] = told(self.city)

    def edit(self, k: int, quantity: int) -> int:
        edit = Edit(0, DAY * DAY_MS + k * STEP, STEP, np.array([quantity]), np.array([int(Quality.EDITED)], np.int32))
        edits = self.city.pipeline.desk.edits
        change = edits.commit(
            [edit], action="set", author="ana", reason="read off, by hand", at_ms=self.city.now_ms + MINUTE
        )
        self.city.pipeline.doubt_edited_days()
        self.chapter()
        return change

    def must_hold(self) -> None:
        for then, was in self.seen.items():
            assert told(self.city, then) == was, iso(then)
            assert told(self.city, then + MINUTE - 1000) == was, "until the next chapter"


@pytest.mark.slow
def test_what_was_told_at_any_time_is_told_again(tmp_path: Path):
    with City(tmp_path / "data", SHAPES) as city:
        story = Story(city)
        begin = city.now_ms
        story.chapter(*whole_day())
        assert len(story.seen[city.now_ms]) == 96, "what is missing is estimated"
        story.chapter(sent(7, 107))
        story.chapter(sent(20, 120), sent(30, 999, revision=1))
        change = story.edit(40, 777_000)
        story.chapter(sent(40, 141, revision=2))
        city.now_ms += MINUTE
        city.pipeline.desk.edits.undo(change, author="ana", reason="another meter's", at_ms=city.now_ms)
        city.pipeline.doubt_edited_days()
        story.chapter()
        story.chapter(sent(30, 131, revision=2), sent(5, 555, revision=3, channel=1))
        assert len({json.dumps(seen) for seen in story.seen.values()}) >= 6, "each chapter tells something new"
        story.must_hold()
        assert told(city, begin - MINUTE) == [], "before anything was recorded, nothing was"

        rows = [row for row in versions(city) if row[0] == iso(DAY * DAY_MS + 30 * STEP)]
        assert [row[3] for row in rows] == ["0.13", "0.999", "0.131"]
        assert [row[8] for row in rows[1:]] == [row[9] for row in rows[:-1]] and rows[-1][9] is None

        asked = "select channel, start, quantity, known_until from intervals_history order by known_from, start limit 1"
        _, [first] = ask(city.config, asked)
        assert first[0] in {s["id"] for s in SHAPES} and first[3] is not None
        rows = [row for row in versions(city) if row[0] == iso(DAY * DAY_MS + 40 * STEP)]
        edited = ("0.777", "ana", "read off, by hand")  # once beside the first reading, once beside its revision
        assert [(row[3], *row[10:]) for row in rows] == [("0.14", None, None), edited, edited, ("0.141", None, None)]
        stands = {(at(row[0]), Decimal(row[3]), row[7], at(row[8])) for row in versions(city) if row[7] and not row[9]}
        before = kept(city)
        city.now_ms += MINUTE
        city.rebuild_all()
        recorded(city)
        assert kept(city) == before, "what changes nothing adds no version"
        city.reopen()
        story.must_hold()
        for form in ("json", "csv", "arrow", "parquet"):
            for query in ({"as_of": iso(begin + 2 * MINUTE)}, {"history": True}):
                assert as_bytes(intervals(city.pipeline, IntervalQuery(SHAPES[0]["id"], **query)), form)
        for query in ({"as_of": "yesterday"}, {"as_of": iso(begin), "history": True}):
            with pytest.raises(Problem):
                intervals(city.pipeline, IntervalQuery(SHAPES[0]["id"], **query))
        body = as_bytes(intervals(city.pipeline, IntervalQuery(SHAPES[0]["id"], history=True)), "csv")
        assert {len(row) for row in csv.reader(body.decode().splitlines())} == {12}, "a comma in a reason is no column"
        damaged = Path(files_of(city.data / "lake")[0].path)
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:-9])
        with pytest.raises(Problem, match="history is damaged"):
            versions(city)
    assert lake_verdicts(city.config) == {"readings": "fine", TABLE: "damaged"}
    damaged.write_bytes(whole)
    assert lake_verdicts(city.config) == {"readings": "fine", TABLE: "fine"}
    asked = f"""select start, quantity, method, known_from from intervals
                where channel = '{SHAPES[0]["id"]}' and method <> '' and start < '{iso((DAY + 1) * DAY_MS)}'"""
    assert stands and set(ask(city.config, asked)[1]) == stands
    assert DeltaTable(str(city.data / "lake" / TABLE)).to_pyarrow_table().num_rows == before, "any tool reads it"


_CHILD = """
import sys, time
from pathlib import Path
sys.path[:0] = [{here!r}, {root!r}]
from city import config_for
from meterpulse.model import crashpoint
from meterpulse.pipeline import Pipeline

config = config_for(Path({data!r}))
with Pipeline.open(config, clock=lambda: {now}) as p:
    crashpoint.arm({at!r})
    while True:
        if p.settle(60): p.rebuilder.record_due()
        time.sleep(0.01)
"""


@pytest.mark.crash
@pytest.mark.parametrize("at", KILLED_AT)
def test_a_kill_while_a_day_is_recorded_loses_no_version_and_doubles_none(tmp_path: Path, at: str):
    data = tmp_path / "data"
    with City(data, SHAPES) as city:
        story = Story(city)
        story.chapter(*whole_day())
        story.chapter(sent(7, 107))
        now, rows = city.now_ms + MINUTE, kept(city)
        city.send([sent(20, 120), sent(30, 999, revision=1)], "import:later")
        oracle = city.oracle
    here, root = Path(__file__).parent, Path(__file__).parents[2]
    code = _CHILD.format(here=str(here), root=str(root), data=str(data), now=now, at=at)
    paths = os.pathsep.join([str(root), *sys.path])
    killed = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths, VARIABLE: ""}, timeout=60
    )
    assert killed.returncode == -9, "it was killed where it should"
    again = City.__new__(City)
    again.data, again.shapes, again.now_ms, again.config = (
        data,
        {s["id"]: s for s in SHAPES},
        now + MINUTE,
        config_for(data),
    )
    again.oracle, again.pipeline = oracle, again._open()
    try:
        story.city = again
        recorded(again)
        story.seen[again.now_ms] = told(again)
        story.chapter(sent(22, 122))
        story.must_hold()
        every = versions(again)
        assert len({(row[0], row[8]) for row in every}) == len(every), "each version once"
        assert kept(again) > rows
    finally:
        again.pipeline.close()
