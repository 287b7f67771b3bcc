"""Closed windows in topics: each row once, what changes again with a higher revision, wherever we are killed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from meterpulse.config import load
from meterpulse.kafka.transactions import NothingTaken, NotKnown, Transactions
from meterpulse.model.channel import Channel
from meterpulse.model.reading import Readings
from meterpulse.outputs.kafka import KafkaViews
from meterpulse.pipeline import Pipeline
from tests.services import require

require("kafka")
pytestmark = pytest.mark.slow
NOW = 1_772_841_600_000  # 2026-03-07T00:00:00Z
START = NOW - 2 * 3_600_000


class City:
    """A city whose views go to topics of its own; `tick` does what the output's thread does in a second."""

    def __init__(self, cluster, folder, **settings: object):
        self._settings = {
            "servers": cluster.bootstrap, "topic_prefix": f"v-{uuid.uuid4().hex[:8]}", "replication_factor": 1,
            "partitions": 2, **settings,
        }  # fmt: skip
        self._cluster, self._folder = cluster, folder
        self.open()

    def open(self) -> None:
        config = load(
            {
                "data": str(self._folder / "data"),
                "outputs": {"kafka": self._settings},
                "speed": {"allowed_lateness_seconds": 600, "watermark_delay_seconds": 0, "idle_seconds": 86_400},
            }
        )
        self.pipeline = Pipeline.open(config, clock=lambda: NOW)
        self.pipeline.registry.register([
            Channel("E-1", "electricity", "kWh", interval_seconds=60, area="10001"),
            Channel("E-2", "electricity", "kWh", interval_seconds=60, area="10001"),
        ])  # fmt: skip
        self.output = KafkaViews(config.outputs.kafka, self.pipeline)
        self.connect()

    def connect(self) -> None:
        self.output.stopping.set()
        self.output.run()
        self.output.stopping.clear()
        assert self.pipeline.runner.ready.wait(30)

    def reopen(self) -> None:
        self.pipeline.close()
        self.open()

    def take(self, channel: int, minute: int, thousandths: int, source: str = "test") -> None:
        start = START + 60_000 * minute
        readings = Readings(
            np.array([channel], np.uint32), np.array([start]), np.array([60], np.int32), np.array([thousandths]),
            np.array([0]), np.array([0], np.int32),
        )  # fmt: skip
        self.pipeline.submit_readings(readings, source).result()

    def tick(self) -> None:
        pipeline = self.pipeline
        ticks = pipeline.runner.ticks
        while (
            pipeline.engine.applied < pipeline.log.end or pipeline.runner.ticks < ticks + 2 or pipeline.engine.retiring
        ):
            pipeline.runner.wake_if_behind()
        self.output._tick()

    def told(self, view: str) -> list[dict]:
        from confluent_kafka import Consumer, TopicPartition

        reader = Consumer({
            "bootstrap.servers": self._cluster.bootstrap, "group.id": "test", "isolation.level": "read_committed",
            "enable.partition.eof": True,
        })  # fmt: skip
        reader.assign([TopicPartition(f"{self._settings['topic_prefix']}.{view}", p, 0) for p in (0, 1)])
        found, ends = [], 0
        while ends < 2:
            if (message := reader.poll(1)) is not None:
                ends += message.error() is not None
                if message.error() is None:
                    found.append(message)
        reader.close()
        return found

    def rows(self, view: str) -> list[tuple]:
        """(key, minute, quantity, count, revision) in the order of revisions."""
        told = [json.loads(message.value()) for message in self.told(view)]
        names = [row.get("channel") or f"{row['area']}/{row['utility']}" for row in told]
        minutes = [
            (np.datetime64(row["start"][:-1]) - np.datetime64(START, "ms")) // np.timedelta64(60_000, "ms")
            for row in told
        ]
        return sorted(
            ((n, int(m), row["quantity"], row["count"], row["revision"]) for n, m, row in zip(names, minutes, told, strict=True)),
            key=lambda row: (row[4], row[0], row[1]),
        )  # fmt: skip


@pytest.fixture
def city(kafka, tmp_path) -> Iterator[Callable[..., City]]:
    opened: list[City] = []

    def start(**settings: object) -> City:
        opened.append(City(kafka, tmp_path, **settings))
        return opened[-1]

    yield start
    for one in opened:
        one.pipeline.close()


def test_a_closed_window_is_told_once_and_again_when_it_changes(city):
    one = city()
    one.take(0, 0, 1000)
    one.take(1, 1, 2000)
    one.tick()
    assert one.rows("usage_5m") == []  # nothing is closed
    one.take(0, 7, 4000)
    one.tick()
    first = [("E-1", 0, 0.001, 1, 1), ("E-2", 0, 0.002, 1, 1)]
    assert one.rows("usage_5m") == first
    one.tick()
    one.take(0, 2, 500)  # in time for an update
    one.tick()
    assert one.rows("usage_5m")[:2] == first
    assert one.rows("usage_5m")[2:] == [("E-1", 0, 0.0015, 2, 3)]  # 2 was the areas'
    areas = one.rows("area_1m")
    assert [row[:4] for row in areas] == [
        ("10001/electricity", 0, 0.001, 1), ("10001/electricity", 1, 0.002, 1), ("10001/electricity", 2, 0.0005, 1),
    ]  # fmt: skip
    assert one.rows("usage_1h") == []
    one.take(0, 75, 1)
    one.tick()
    assert [row[:4] for row in one.rows("usage_1h")] == [("E-1", 0, 0.0055, 3), ("E-2", 0, 0.002, 1)]
    assert [row[:4] for row in one.rows("area_1h")] == [("10001/electricity", 0, 0.0075, 4)]


def test_after_a_restart_nothing_is_told_twice_and_what_changed_meanwhile_is_told(city):
    one = city()
    for minute in (0, 1, 6, 12, 13):
        one.take(0, minute, 1000)
    one.tick()
    before = one.rows("usage_5m")
    assert [row[:4] for row in before] == [("E-1", 0, 0.002, 2), ("E-1", 5, 0.001, 1)]
    one.reopen()
    one.tick()
    assert one.rows("usage_5m") == before
    one.pipeline.close()
    one.open()
    one.take(1, 7, 3000)  # before we have looked: its page is told as a whole, with a higher revision
    one.tick()
    again = [("E-1", 0, 0.002, 2), ("E-1", 5, 0.001, 1), ("E-2", 5, 0.003, 1)]
    assert [row[:4] for row in one.rows("usage_5m")[2:]] == again
    one.take(1, 8, 500)
    one.tick()
    assert [row[:4] for row in one.rows("usage_5m")[5:]] == [("E-2", 5, 0.0035, 2)]


def test_a_day_that_was_built_again_is_told_where_it_differs(city):
    one = city()
    for minute in (0, 30, 70, 100):
        one.take(0, minute, 1000)
        one.tick()
    before = one.rows("usage_5m")
    one.take(0, 1, 500)  # too late for speed
    assert one.pipeline.settle(60)
    one.tick()
    assert [row[:4] for row in one.rows("usage_5m")[len(before) :]] == [("E-1", 0, 0.0015, 2)]
    assert [row[:4] for row in one.rows("usage_1h")] == [("E-1", 0, 0.002, 2), ("E-1", 0, 0.0025, 3)]


@pytest.mark.parametrize("failure", ["taken and not said", "not taken"])
def test_a_transaction_of_which_nothing_is_known_is_settled_before_more_is_told(city, monkeypatch, failure):
    one, commit = city(views=("usage_5m",)), Transactions.commit

    def broken(self, messages):
        if failure == "taken and not said":
            commit(self, messages)
            raise NotKnown("the answer was lost")
        raise NothingTaken("given up")

    one.take(0, 0, 1000)
    one.take(0, 7, 1000)
    with monkeypatch.context() as patched:
        patched.setattr(Transactions, "commit", broken)
        with pytest.raises(OSError, match="answer was lost|given up"):
            one.tick()
    one.connect()
    one.tick()
    assert one.rows("usage_5m") == [("E-1", 0, 0.001, 1, 1)]


def test_as_arrow_a_block_is_one_message(city):
    import pyarrow as pa

    one = city(format="arrow", views=("usage_5m",))
    one.take(0, 0, 1000)
    one.take(1, 0, 2000)
    one.take(0, 7, 1)
    one.tick()
    [message] = one.told("usage_5m")
    table = pa.ipc.open_stream(message.value()).read_all().to_pylist()
    assert [(row["channel"], row["quantity"], row["count"], row["revision"]) for row in table] == [
        ("E-1", 1000, 1, 1), ("E-2", 2000, 1, 1),
    ]  # fmt: skip
