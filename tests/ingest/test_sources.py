"""Sources: an origin is told that a message has arrived when it is on our disk, and never before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from meterpulse import plugins
from meterpulse.config import Section, load
from meterpulse.ingest import NDJSON, Delivery, Source, decode
from meterpulse.ingest.files import formats
from meterpulse.log import LogFull, Record
from meterpulse.log.commit import Committer, Lane
from meterpulse.model.channel import Channel
from meterpulse.model.reading import Readings
from meterpulse.pipeline import Pipeline
from meterpulse.sources import Running, _House

NOW = 1_772_841_600_000


class Belt(Source):
    """An origin in memory: numbered messages, and those that were acknowledged."""

    def __init__(self, house, breaks_at: int | None = None, count: int = 20):
        super().__init__(Section(), house)
        self.count, self.breaks_at, self.connections = count, breaks_at, 0
        self.acknowledged: list[int] = []
        self.durable_when_acknowledged: list[bool] = []
        self.is_durable: Callable[[int], bool] = lambda number: True
        self._ended = threading.Event()

    def deliveries(self) -> Iterator[Delivery | None]:
        self.connections += 1
        for number in range(int(self.house.position("belt") or 0), self.count):
            if number == self.breaks_at and self.connections == 1:
                raise ConnectionError("the belt broke")
            row = {"channel": "E-1", "start": f"2026-03-06T00:{number:02d}:00Z", "seconds": 60, "quantity": number}
            body = json.dumps(row).encode() + b"\nnonsense"
            decoded = decode(body, NDJSON, self.house.table(), self.house.now_ms())
            yield Delivery("belt", decoded, 2, lambda n=number: self._done(n), {"belt": str(number + 1)})
        while not self._ended.wait(0.01):
            yield None

    def _done(self, number: int) -> None:
        self.durable_when_acknowledged.append(self.is_durable(number))
        self.acknowledged.append(number)

    def stop(self) -> None:
        self._ended.set()


@pytest.fixture
def pipeline(tmp_path):
    with Pipeline.open(load({"data": str(tmp_path / "data")}), clock=lambda: NOW) as p:
        p.registry.register([Channel("E-1", "electricity", "kWh", interval_seconds=60)])
        yield p


@pytest.fixture
def run(pipeline):
    started: list[Running] = []

    def start(belt: Belt) -> Running:
        running = Running("belt", belt, pipeline)
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        running.source.stop()
        running.stop()


def wait_for(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def starts_of(pipeline: Pipeline) -> list[int]:
    entries = (pipeline.log.read(i) for i in range(pipeline.log.first, pipeline.log.end))
    return [int(s) for e in entries for s in e.record.readings.full("start")]


def test_a_message_is_acknowledged_when_the_log_has_it(pipeline, run):
    belt = Belt(_House(pipeline))
    belt.is_durable = lambda number: pipeline.log.rows > number and int(pipeline.log.position("belt")) > number
    running = run(belt)
    wait_for(lambda: len(belt.acknowledged) == 20)
    assert belt.acknowledged == list(range(20)) and all(belt.durable_when_acknowledged)
    assert {row.original for row in pipeline.log.quarantined()} == {b"nonsense"}
    status = running.status()
    assert (status["messages"], status["received"], status["quarantined"], status["state"]) == (40, 20, 20, "running")


def test_a_broken_connection_is_made_again_and_goes_on_behind_what_is_durable(pipeline, run):
    belt = Belt(_House(pipeline), breaks_at=7)
    running = run(belt)
    wait_for(lambda: len(belt.acknowledged) == 20)
    assert belt.acknowledged == list(range(20)) and belt.connections == 2
    assert running.status()["last_error"] == "the belt broke"


def test_what_the_disk_refused_is_written_again_in_order_before_anything_is_acknowledged(pipeline, run, monkeypatch):
    append, failures = pipeline.log.append, iter([False, True, True])

    def sometimes(*given):
        if next(failures, False):
            raise LogFull("no space left")
        return append(*given)

    monkeypatch.setattr(pipeline.log, "append", sometimes)
    belt = Belt(_House(pipeline), count=6)
    run(belt)
    wait_for(lambda: len(belt.acknowledged) == 6)
    assert belt.acknowledged == list(range(6))
    assert starts_of(pipeline) == sorted(starts_of(pipeline)) and pipeline.log.rows == 6


def test_nothing_of_a_lane_overtakes_what_failed(pipeline, monkeypatch):
    committer, append = Committer(pipeline.log, 1000), pipeline.log.append
    held, first = threading.Event(), iter([True])

    def refuse_the_first(*given):
        if next(first, False):
            held.wait(10)
            raise OSError("broken")
        return append(*given)

    monkeypatch.setattr(pipeline.log, "append", refuse_the_first)
    record = Record("belt", Readings.of([0], NOW - 60_000, 60, [1]), NOW)
    lane = Lane()
    failed = committer.submit(record, positions={"belt": "1"}, lane=lane)
    time.sleep(0.05)
    behind, other = committer.submit(record, positions={"belt": "2"}, lane=lane), committer.submit(record)
    held.set()
    assert isinstance(failed.exception(), OSError) and isinstance(behind.exception(), OSError)
    assert other.result() is None and pipeline.log.position("belt") is None
    committer.stop()


def test_a_position_is_there_after_opening_again(tmp_path):
    config = load({"data": str(tmp_path)})
    for expected in (None, "42"):
        with Pipeline.open(config, clock=lambda: NOW) as p:
            assert p.log.position("belt") == expected
            p.log.append([], [], {"belt": "42"})


def test_sources_are_no_file_formats_and_formats_are_no_sources():
    sources = plugins.available("ingest", "Source")
    assert not set(sources) & set(formats())
    assert set(sources) | set(formats()) == set(plugins.available("ingest"))
