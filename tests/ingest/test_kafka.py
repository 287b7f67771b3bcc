"""Kafka against real brokers: every message counts once, whoever is killed, and where we are is in our own log."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from meterpulse.config import ConfigError, load
from meterpulse.ingest import ARROW
from meterpulse.ingest.kafka import implied
from meterpulse.model.channel import Channel
from meterpulse.pipeline import Pipeline
from meterpulse.serving.answers import as_json
from meterpulse.serving.queries import UsageQuery, usage
from tests.services import require

require("kafka")
pytestmark = pytest.mark.slow
NOW = 1_772_841_600_000  # 2026-03-07T00:00:00Z


class Topics:
    """Topics of a test's own, named as the utilities; `send` returns when the brokers have the messages."""

    def __init__(self, cluster: object, partitions: int = 2):
        from confluent_kafka import Producer

        self.cluster = cluster
        tag = uuid.uuid4().hex[:8]
        self.electricity, self.water, self.refused = (f"{tag}-{name}" for name in ("electricity", "water", "refused"))
        self.names = (self.electricity, self.water)
        cluster.make_topics(*self.names, self.refused, partitions=partitions)
        self._producer = Producer({
            "bootstrap.servers": cluster.bootstrap, "linger.ms": 5, "log_level": 0, "enable.idempotence": True,
        })  # fmt: skip

    def send(self, topic: str, *values: bytes | None, key: bytes = b"E-1", flush: bool = True) -> None:
        for value in values:
            self._producer.produce(topic, value, key)
            self._producer.poll(0)
        if flush:
            assert self._producer.flush(60) == 0

    def all(self, topic: str) -> list:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": self.cluster.bootstrap, "group.id": "test", "auto.offset.reset": "earliest"}
        )
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        found = []
        while (message := consumer.poll(1.5)) is not None:
            found.append(message)
        consumer.close()
        return found

    def settings(self, **more: object) -> dict[str, object]:
        return {"servers": self.cluster.bootstrap, "topics": self.names, **more}


@pytest.fixture
def topics(kafka) -> Topics:
    return Topics(kafka)


@pytest.fixture
def city(tmp_path) -> Iterator[Callable[..., Pipeline]]:
    opened: list[Pipeline] = []

    def start(own: Topics, **more: object) -> Pipeline:
        """Opens the city, after closing it where it is open."""
        while opened:
            opened.pop().close()
        config = load({"data": str(tmp_path / "data"), "ingest": {"kafka": own.settings(**more)}})
        pipeline = Pipeline.open(config, clock=lambda: NOW)
        opened.append(pipeline)
        pipeline.registry.register([Channel("E-1", "electricity", "kWh", interval_seconds=60)])
        pipeline.sources.start()
        return pipeline

    yield start
    for pipeline in opened:
        pipeline.close()


def wait_for(fact: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reading(number: int, channel: str = "E-1", **more: object) -> bytes:
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW // 1000 - 86_400 + 60 * number))
    return json.dumps(
        {"channel": channel, "start": start, "seconds": 60, "quantity": f"0.{number:03d}", **more}
    ).encode()


def quantities(pipeline: Pipeline) -> list[int]:
    entries = [pipeline.log.read(i) for i in range(pipeline.log.first, pipeline.log.end)]
    return sorted(q for e in entries for q in e.record.readings.quantity.tolist())


def thousandths(numbers: object) -> list[int]:
    return [number * 1000 for number in numbers]


def source(pipeline: Pipeline) -> dict:
    return pipeline.sources.status()[0]


def test_messages_of_any_form_become_readings_and_what_is_none_is_kept_with_its_place(topics, city, stream):
    import fastavro
    import pyarrow as pa

    from meterpulse.ingest.avro import SCHEMA

    buffer = io.BytesIO()
    fastavro.schemaless_writer(
        buffer, fastavro.parse_schema(SCHEMA), {"channel": "E-1", "start": NOW - 60_000, "quantity": "0.009"}
    )
    avro = buffer.getvalue()
    starts = pa.array([NOW - 120_000, NOW - 180_000], pa.timestamp("ms", "UTC"))
    arrow = stream({"channel": ["E-1"] * 2, "start": starts, "quantity": pa.array([7, 8], pa.int64())})
    pipeline = city(topics, quarantine_topic=topics.refused)
    topics.send(topics.electricity, reading(1), b"[" + reading(2) + b",\n" + reading(3) + b"]", b"{nonsense", avro)
    topics.send(topics.electricity, b"\0\0\0\0\x05" + reading(4), b"\0\0\0\0\x05" + avro[:-1], None, b"\xfe\xff")
    topics.send(topics.water, arrow, reading(5), reading(6, "W-9"), key=b"W-9")
    wait_for(lambda: source(pipeline)["messages"] == 11)
    assert quantities(pipeline) == [7, 8, *thousandths((1, 2, 3, 4, 5, 9))]
    kept = {row.original: row for row in pipeline.log.quarantined()}
    assert set(kept) == {b"{nonsense", b"\0\0\0\0\x05" + avro[:-1], b"\xfe\xff", reading(6, "W-9")}
    assert re.search(rf'topic="{topics.electricity}"; partition="\d"; offset="2"', kept[b"{nonsense"].media_type)
    told = {message.value(): dict(message.headers()) for message in topics.all(topics.refused)}
    assert set(told) == set(kept) and told[b"{nonsense"]["reason"] == b"bad_json"
    assert (told[reading(6, "W-9")]["offset"], told[reading(6, "W-9")]["topic"]) == (b"2", topics.water.encode())
    assert ARROW not in {row.media_type for row in kept.values()}


def test_a_city_that_was_closed_goes_on_where_its_log_is_and_the_group_is_told(topics, city):
    from confluent_kafka import Consumer, TopicPartition

    pipeline = city(topics)
    topics.send(topics.electricity, *map(reading, range(1, 51)))
    wait_for(lambda: source(pipeline)["messages"] == 50)
    wait_for(lambda: source(pipeline)["lag"] == 0)
    parts = source(pipeline)["parts"]
    assert sum(part["end"] for part in parts) == 50 and {part["lag_seconds"] for part in parts} == {0.0}
    pipeline.sources.stop()
    reader = Consumer({"bootstrap.servers": topics.cluster.bootstrap, "group.id": "meterpulse"})
    told = reader.committed([TopicPartition(topics.electricity, p) for p in (0, 1)], timeout=10)
    assert sum(max(place.offset, 0) for place in told) == 50
    reader.close()
    topics.send(topics.electricity, *map(reading, range(51, 61)))
    pipeline = city(topics)
    wait_for(lambda: len(quantities(pipeline)) == 60)
    assert quantities(pipeline) == thousandths(range(1, 61)) and source(pipeline)["messages"] == 10


def test_messages_of_a_transaction_that_was_given_up_are_no_readings(topics, city):
    from confluent_kafka import Producer

    pipeline = city(topics)
    writer = Producer({"bootstrap.servers": topics.cluster.bootstrap, "transactional.id": topics.refused})
    writer.init_transactions(30)
    for number, end in ((1, writer.commit_transaction), (2, writer.abort_transaction), (3, writer.commit_transaction)):
        writer.begin_transaction()
        writer.produce(topics.water, reading(number), b"E-1")
        writer.flush(10)
        end(30)
    wait_for(lambda: len(quantities(pipeline)) == 2)
    wait_for(lambda: source(pipeline)["lag"] == 0)  # the marks behind the last message are no messages
    assert quantities(pipeline) == thousandths((1, 3))


def test_a_topic_that_is_made_anew_is_read_from_its_beginning(topics, city):
    from confluent_kafka.admin import AdminClient

    pipeline = city(topics)
    topics.send(topics.water, *map(reading, range(1, 6)))
    wait_for(lambda: source(pipeline)["messages"] == 5)
    pipeline.sources.stop()
    admin = AdminClient({"bootstrap.servers": topics.cluster.bootstrap})
    admin.delete_topics([topics.water])[topics.water].result(30)
    wait_for(lambda: topics.water not in admin.list_topics(timeout=5).topics)
    topics.cluster.make_topics(topics.water, partitions=2)
    topics.send(topics.water, *map(reading, range(6, 16)))
    pipeline = city(topics)
    wait_for(lambda: len(quantities(pipeline)) == 15)
    assert quantities(pipeline) == thousandths(range(1, 16))


def test_unknown_channels_are_registered_as_topic_and_unit_say(topics, city):
    pipeline = city(topics, unknown_channels="register", time_zone="Europe/Athens")
    topics.send(topics.water, reading(1, "W-1", unit="L"), reading(2, "W-1"), reading(3, ""), key=b"W-1")
    wait_for(lambda: source(pipeline)["messages"] == 3)
    made = pipeline.registry.channel("W-1")
    assert (made["utility"], made["unit"], made["time_zone"]) == ("water", "L", "Europe/Athens")
    assert quantities(pipeline) == [1, 2] and [row.reason for row in pipeline.log.quarantined()] == ["unknown_channel"]


def test_what_a_reading_implies_of_its_channel():
    gauge = implied("meters", b'{"channel": "E-7", "unit": "W", "seconds": 5}', "UTC")
    assert (gauge.utility, gauge.kind, gauge.interval_seconds) == ("electricity", "gauge", 5)
    assert implied("city.gas", b'{"channel": "G-7"}', "UTC").unit == "m3"
    for nothing in (b'{"channel": "G-7", "unit": "m3"}', b'{"channel": "E-7"}', b"[", b'{"unit": "kWh"}'):
        assert implied("meters", nothing, "UTC") is None


def test_brokers_that_are_away_and_topics_that_do_not_exist_are_told(topics, city, monkeypatch):
    import meterpulse.kafka.intake as intake

    monkeypatch.setattr(intake, "PATIENCE_SECONDS", 0.5)
    pipeline = city(topics, topics=("nobody-made-this",))
    wait_for(lambda: "none of the topics nobody-made-this; make them" in str(source(pipeline)["last_error"]))
    pipeline = city(topics, servers="127.0.0.1:9")
    wait_for(lambda: "check that the brokers run and can be reached" in str(source(pipeline)["last_error"]))
    with pytest.raises(ConfigError, match=r"ingest\.kafka: .*missing\.avsc is no Avro schema"):
        city(topics, avro_schema="missing.avsc")


_SERVER = """
import sys, json, time
from meterpulse.config import load
from meterpulse.model.channel import Channel
from meterpulse.pipeline import Pipeline
pipeline = Pipeline.open(load(json.loads(sys.argv[1])), clock=lambda: int(sys.argv[2]))
pipeline.registry.register([Channel("E-1", "electricity", "kWh", interval_seconds=60)])
pipeline.sources.start()
while True:
    print(pipeline.sources.status()[0]["messages"], flush=True)
    time.sleep(0.05)
"""


@pytest.mark.crash
def test_nothing_is_lost_or_doubled_when_we_and_a_broker_are_killed(three_brokers, city, tmp_path):
    """Two kills of our process at any moment, one of a broker, while messages keep coming."""
    topics = Topics(three_brokers, partitions=3)
    config = json.dumps({"data": str(tmp_path / "data"), "ingest": {"kafka": topics.settings()}})
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for number in range(sent, sent + count):
            topics.send(topics.electricity, reading(number), key=b"%d" % number, flush=False)
        sent += count

    for kill_broker in (False, True):
        send(200)
        command = [sys.executable, "-c", _SERVER, config, str(NOW)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
        try:
            if kill_broker:
                node = three_brokers.leader_of(topics.electricity)
                three_brokers.kill(node)
            for line in server.stdout:
                send(5)
                if int(line) > 50 or sent > 700:
                    break
        finally:
            server.kill()
            server.wait()
    send(100)
    topics.send(topics.electricity)
    three_brokers.start_node(node)
    pipeline = city(topics)
    wait_for(lambda: pipeline.log.rows >= sent, 60)
    wait_for(lambda: source(pipeline)["lag"] == 0)
    assert pipeline.settle(60) and pipeline.log.rows == sent
    query = {"channel": "E-1", "start": "2026-03-05T00:00:00Z", "end": "2026-03-08T00:00:00Z", "grain": "1h"}
    rows = json.loads(as_json(usage(pipeline, UsageQuery(**query))))["rows"]
    assert sum(row["count"] for row in rows) == sent
    assert sum(Decimal(str(row["quantity"])) for row in rows) == sum(map(Decimal, map("0.{:03d}".format, range(sent))))
    three_brokers.ready()


def test_settings_that_take_back_what_is_promised_are_refused(tmp_path):
    file: Path = tmp_path / "client.properties"
    file.write_text("isolation.level=read_uncommitted\n")
    with pytest.raises(ConfigError, match="isolation.level is set by this program"):
        Pipeline.open(
            load({
                "data": str(tmp_path / "data"),
                "ingest": {"kafka": {"servers": "127.0.0.1:9", "client_properties": str(file)}},
            })
        )  # fmt: skip
