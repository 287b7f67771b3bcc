"""Home Assistant against a real broker: what it would see."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meterpulse.config import load
from meterpulse.ingest import NDJSON
from meterpulse.model.channel import Channel
from meterpulse.mqtt import Address, Link, Retained
from meterpulse.outputs.home_assistant import sensors, slug, state
from meterpulse.pipeline import Pipeline
from tests.services import require

NOW = 1_772_886_930_000  # 2026-03-07T12:35:30Z, 13:35:30 in Paris
CHANNELS = [
    Channel("E-1", "electricity", "kWh", interval_seconds=300, time_zone="Europe/Paris", area="75001"),
    Channel("G/1", "gas", "m3", interval_seconds=300, time_zone="Europe/Paris"),
    Channel("H-1", "electricity", "kWh", interval_seconds=3600),
    Channel("R-1", "electricity", "kWh", kind="register", interval_seconds=60),
    Channel("P-1", "electricity", "W", kind="gauge", interval_seconds=60),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with require("mosquitto").Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def city(tmp_path) -> Iterator[Callable[..., Pipeline]]:
    opened: list[Pipeline] = []

    def start(url: str | None = None, **settings: object) -> Pipeline:
        """Opens the city, after closing it where it is open."""
        while opened:
            opened.pop().close()
        section = {"url": url, "every_seconds": 1, **settings}
        config = load({"data": str(tmp_path / "data"), "outputs": {"home_assistant": section}})
        pipeline = Pipeline.open(config, clock=lambda: NOW)
        opened.append(pipeline)
        pipeline.registry.register(CHANNELS)
        pipeline.outputs.start()
        return pipeline

    yield start
    for pipeline in opened:
        pipeline.close()


def wait_for(fact: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def take(pipeline: Pipeline, *readings: tuple[str, str, str]) -> None:
    body = "\n".join(json.dumps({"channel": c, "start": f"2026-03-0{s}Z", "quantity": q}) for c, s, q in readings)
    decoded = pipeline.take(body.encode(), NDJSON)
    assert not decoded.rejected
    pipeline.submit(decoded, "test").result()
    assert pipeline.settle(30)


def listener(url: str) -> Link:
    config = load({"outputs": {"home_assistant": {"url": url, "client_id": f"ha-{time.monotonic_ns()}"}}})
    link = Link(Address.of(url), config.outputs.home_assistant)
    link.subscribe(["homeassistant/#", "meterpulse/#"], Retained.always)
    return link


def kept(link: Link, seen: dict[str, bytes]) -> dict[str, bytes]:
    """What is retained, as far as it has arrived; an empty message takes back."""
    for message in link.receive(0.2):
        seen[message.topic] = message.payload
        if not message.payload:
            del seen[message.topic]
    return seen


def test_a_home_has_today_the_last_hour_and_now_in_exact_numbers(city):
    pipeline = city()
    take(
        pipeline,
        ("E-1", "6T22:55:00", "9"),  # still yesterday in Paris
        ("E-1", "6T23:00:00", "0.001"),
        ("E-1", "7T11:00:00", "0.2"),
        ("E-1", "7T12:30:00", "0.125"),
        ("G/1", "7T12:30:00", "0.5"),
        ("H-1", "7T11:00:00", "0.75"),  # told at noon
        ("R-1", "7T12:30:00", "4711.5"),
    )
    facts = state(pipeline, pipeline.registry.channel("E-1"))
    assert {k: facts[k] for k in ("today", "last_hour", "now", "newest")} == {
        "today": 0.326, "last_hour": 0.2, "now": 1500.0, "newest": "2026-03-07T12:30:00Z",
    }  # fmt: skip
    gas = state(pipeline, pipeline.registry.channel("G/1"))
    assert (gas["today"], gas["now"]) == (0.5, 6.0)
    assert state(pipeline, pipeline.registry.channel("H-1"))["now"] == 750.0
    assert state(pipeline, pipeline.registry.channel("R-1"))["total"] == 4711.5


def test_what_nobody_knows_is_null_and_not_zero(city):
    pipeline = city()
    take(pipeline, ("E-1", "5T10:00:00", "1"))
    facts = state(pipeline, pipeline.registry.channel("E-1"))
    assert [facts[k] for k in ("today", "last_hour", "now", "newest")] == [None] * 4
    assert state(pipeline, pipeline.registry.channel("P-1"))["now"] is None
    assert state(pipeline, pipeline.registry.channel("R-1"))["total"] is None


@pytest.mark.parametrize(
    ("channel", "told"),
    [
        (CHANNELS[0], [("today", "kWh", "energy"), ("last_hour", "kWh", "energy"), ("now", "W", "power")]),
        (CHANNELS[1], [("today", "m³", "gas"), ("last_hour", "m³", "gas"), ("now", "m³/h", "volume_flow_rate")]),
        (Channel("W", "water", "L"), [("today", "L", "water"), ("last_hour", "L", "water"), ("now", "L/min", "volume_flow_rate")]),
        (CHANNELS[3], [("total", "kWh", "energy")]),
        (CHANNELS[4], [("now", "W", "power")]),
        (Channel("V", "electricity", "V", kind="gauge"), [("now", "V", "voltage")]),
        (Channel("q", "electricity", "kvarh"), [("today", "kvarh", "reactive_energy"), ("last_hour", "kvarh", "reactive_energy")]),
    ],
)  # fmt: skip
def test_each_kind_of_channel_has_its_sensors(channel, told):
    assert [(s.key, s.unit, s.device_class) for s in sensors(channel.to_dict())] == told


def test_ids_that_differ_have_topics_that_differ():
    ids = ["a:b", "a/b", "a_b", "a b", "ä", "+", "#", "a" * 200]
    assert len({slug(id) for id in ids}) == len(ids)
    assert all(set(slug(id)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for id in ids)


def test_home_assistant_finds_chosen_channels_their_states_and_our_end(broker, city):
    pipeline = city(broker.url, channels=["E-*", "G/1", "nobody"])
    take(pipeline, ("E-1", "7T12:30:00", "0.125"))
    link, seen = listener(broker.url), {}
    e1, gas = (
        "homeassistant/sensor/meterpulse/E-1_{}/config",
        f"homeassistant/sensor/meterpulse/{slug('G/1')}_today/config",
    )
    wait_for(
        lambda: json.loads(kept(link, seen).get("meterpulse/home_assistant/meterpulse/E-1/state", b"{}")).get("today")
    )
    wait_for(lambda: kept(link, seen).get("meterpulse/home_assistant/meterpulse/availability") == b"online")
    assert {e1.format(key) for key in ("today", "last_hour", "now")} | {gas} <= set(seen)
    assert not any("R-1" in topic or "P-1" in topic for topic in seen)
    today = json.loads(seen[e1.format("today")])
    facts = json.loads(seen[today["state_topic"]])
    assert (today["unit_of_measurement"], today["device_class"], today["state_class"]) == (
        "kWh",
        "energy",
        "total_increasing",
    )
    assert today["device"]["suggested_area"] == "75001" and facts["today"] == 0.125 and facts["now"] == 1500.0
    assert json.loads(seen["meterpulse/home_assistant/meterpulse/" + slug("G/1") + "/state"])["today"] is None
    [told] = pipeline.status()["outputs"]
    assert (told["name"], told["state"], told["channels"]) == ("home_assistant", "running", 2)

    pipeline.outputs.stop()
    wait_for(lambda: kept(link, seen)["meterpulse/home_assistant/meterpulse/availability"] == b"offline")

    city(broker.url, channels=["E-1"])  # gas is not wanted any more
    wait_for(lambda: gas not in kept(link, seen) and e1.format("now") in seen)
    wait_for(lambda: not any(slug("G/1") in topic for topic in kept(link, seen)))
    city(broker.url, channels=[])
    wait_for(lambda: not any("config" in topic or "state" in topic for topic in kept(link, seen)))
    link.close()


def test_a_connection_that_breaks_says_offline_by_itself_and_comes_back(broker, city):
    pipeline = city(broker.url, channels=["P-1"], keep_alive_seconds=1)
    link, seen = listener(broker.url), {}
    topic = "meterpulse/home_assistant/meterpulse/availability"
    wait_for(lambda: kept(link, seen).get(topic) == b"online")
    config = load({"outputs": {"home_assistant": {"url": broker.url}}})
    other = Link(Address.of(broker.url), config.outputs.home_assistant)  # takes its name over, so the broker drops it
    wait_for(lambda: kept(link, seen).get(topic) == b"offline")
    other.close()
    wait_for(lambda: "broker" in str(pipeline.outputs.status()[0]["last_error"]))
    wait_for(lambda: pipeline.outputs.status()[0]["state"] == "running" and kept(link, seen).get(topic) == b"online")
    link.close()


def test_a_broker_that_is_not_there_is_told(city):
    pipeline = city("mqtt://127.0.0.1:1", channels=["P-1"])
    wait_for(lambda: "out of reach" in str(pipeline.status()["outputs"][0]["last_error"]))
    assert Path(pipeline.data).is_dir()
