"""MQTT against a real broker: acknowledged after our own sync, nothing lost and nothing doubled, whoever is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meterpulse.config import Config, load
from meterpulse.ingest import ARROW
from meterpulse.model.channel import Channel
from meterpulse.mqtt import Retained
from meterpulse.pipeline import Pipeline
from meterpulse.serving.answers import as_json
from meterpulse.serving.queries import UsageQuery, usage
from tests.services import require
from tests.services.tap import Tap

pytestmark = pytest.mark.slow
NOW = 1_772_841_600_000  # 2026-03-07T00:00:00Z


@pytest.fixture(scope="module")
def server() -> object:
    return require("mosquitto")


@pytest.fixture
def broker(server, tmp_path):
    with server.Mosquitto(tmp_path / "broker") as broker:
        yield broker


def config_of(data: Path, url: str, **more: object) -> Config:
    return load({"data": str(data), "ingest": {"mqtt": {"url": url, "keep_alive_seconds": 5, **more}}})


@pytest.fixture
def city(tmp_path) -> Iterator[Callable[..., Pipeline]]:
    opened: list[Pipeline] = []

    def start(url: str, **more: object) -> Pipeline:
        """Opens the city, after closing it where it is open."""
        while opened:
            opened.pop().close()
        pipeline = Pipeline.open(config_of(tmp_path / "data", url, **more), clock=lambda: NOW)
        opened.append(pipeline)
        pipeline.registry.register([Channel("E-1", "electricity", "kWh", interval_seconds=60)])
        pipeline.sources.start()
        wait_for(lambda: pipeline.sources.status()[0]["state"] == "running")
        return pipeline

    yield start
    for pipeline in opened:
        pipeline.close()


def wait_for(fact: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reading(number: int) -> bytes:
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW // 1000 - 86_400 + 60 * number))
    return json.dumps({"channel": "E-1", "start": start, "seconds": 60, "quantity": f"0.{number:03d}"}).encode()


def publisher(url: str, name: str = "meter", **more: object):
    from meterpulse.mqtt import Address, Link

    return Link(Address.of(url), config_of(Path(), url, client_id=name, **more).ingest.mqtt)


def publish(link, messages: list[tuple[str, bytes]], *, retain: bool = False) -> None:
    """Done when the broker has them."""
    for topic, payload in messages:
        link.publish(topic, payload, retain=retain)
    wait_for(lambda: link.receive(0.05) or not link.unacknowledged)


def quantities(pipeline: Pipeline) -> list[int]:
    entries = [pipeline.log.read(i) for i in range(pipeline.log.first, pipeline.log.end)]
    return [q for e in entries for q in e.record.readings.quantity.tolist()]


def counted(pipeline: Pipeline) -> int:
    """How many readings the answers hold, when everything is in them."""
    assert pipeline.settle(60)
    query = {"channel": "E-1", "start": "2026-03-05T00:00:00Z", "end": "2026-03-08T00:00:00Z", "grain": "1h"}
    return sum(row["count"] for row in json.loads(as_json(usage(pipeline, UsageQuery(**query))))["rows"])


def thousandths(*numbers: int) -> list[int]:
    return [number * 1000 for number in numbers]


def test_messages_become_readings_and_the_broker_forgets_them(broker, city):
    pipeline, meter = city(broker.url), publisher(broker.url)
    array = b"[" + reading(4) + b",\n " + reading(5) + b"]"
    bodies = [reading(1), reading(2) + b"\n" + reading(3), array, b'{\n "nonsense"', b"\xff\xfe", b""]
    publish(meter, [("meterpulse/readings/a", body) for body in bodies])
    wait_for(lambda: pipeline.sources.status()[0]["messages"] == 6)
    assert sorted(quantities(pipeline)) == thousandths(1, 2, 3, 4, 5)
    assert [row.original for row in pipeline.log.quarantined()] == [b'{\n "nonsense"', b"\xff\xfe"]
    pipeline.sources.stop()
    with_same_name = publisher(broker.url, "meterpulse")
    assert with_same_name.session_present and with_same_name.receive(0.5) == []
    with_same_name.close()
    meter.close()


def test_a_whole_arrow_batch_is_one_message(broker, city, stream):
    import pyarrow as pa

    pipeline, meter = city(broker.url), publisher(broker.url)
    start = pa.array([NOW - 60_000 * i for i in range(1, 1001)], pa.timestamp("ms", "UTC"))
    body = stream({"channel": ["E-1"] * 1000, "start": start, "seconds": [60] * 1000, "quantity": list(range(1000))})
    assert body[:4] == b"\xff\xff\xff\xff", ARROW
    publish(meter, [("meterpulse/readings/batch", body)])
    wait_for(lambda: pipeline.log.rows == 1000)
    assert quantities(pipeline) == list(range(1000))
    meter.close()


def test_nothing_is_acknowledged_while_the_disk_refuses(broker, city, monkeypatch):
    pipeline, meter = city(broker.url), publisher(broker.url)
    append, refusing = pipeline.log.append, [True]

    def full(*given):
        if refusing:
            raise OSError("the disk is full")
        return append(*given)

    monkeypatch.setattr(pipeline.log, "append", full)
    publish(meter, [("meterpulse/readings/a", reading(n)) for n in range(5)])
    wait_for(lambda: "full" in str(pipeline.sources.status()[0]["last_error"]))
    somebody, held = publisher(broker.url, "meterpulse"), []
    wait_for(lambda: held.extend(m.payload for m in somebody.receive(0.1)) or len(held) == 5)  # the broker has them all
    somebody.close()
    refusing.clear()
    wait_for(lambda: set(quantities(pipeline)) == set(thousandths(*range(5))), 30)
    meter.close()


def test_a_backlog_of_the_time_that_we_were_away_arrives_whole(broker, city):
    first, meter = city(broker.url), publisher(broker.url)
    publish(meter, [("meterpulse/readings/a", reading(0))])
    wait_for(lambda: first.log.rows == 1)
    first.sources.stop()
    publish(meter, [("meterpulse/readings/a", reading(n)) for n in range(1, 500)])
    again = city(broker.url)
    wait_for(lambda: again.log.rows == 500)
    assert quantities(again) == thousandths(*range(500))
    meter.close()


def test_a_killed_broker_is_connected_to_again(server, tmp_path, city):
    with server.Mosquitto(tmp_path / "broker", options=("autosave_on_changes true",)) as broker:
        pipeline, meter = city(broker.url), publisher(broker.url)
        publish(meter, [("meterpulse/readings/a", reading(n)) for n in range(50)])
        wait_for(lambda: pipeline.log.rows == 50)
        broker.kill()
        wait_for(lambda: pipeline.sources.status()[0]["state"] == "waiting")
        broker.start()
        meter = publisher(broker.url)
        wait_for(lambda: pipeline.sources.status()[0]["state"] == "running")
        publish(meter, [("meterpulse/readings/a", reading(n)) for n in range(40, 100)])
        wait_for(lambda: set(quantities(pipeline)) == set(thousandths(*range(100))))
        assert counted(pipeline) == 100
        meter.close()


_CHILD = """
import sys, time
from meterpulse.config import load
from meterpulse.model.channel import Channel
from meterpulse.pipeline import Pipeline
p = Pipeline.open(load({"data": sys.argv[1], "ingest": {"mqtt": {"url": sys.argv[2]}}}), clock=lambda: int(sys.argv[3]))
p.registry.register([Channel("E-1", "electricity", "kWh", interval_seconds=60)])
p.sources.start()
print("up", flush=True)
time.sleep(600)
"""


class Meter:
    """Sends readings one after the other, and again what the broker may have forgotten."""

    def __init__(self, url: str):
        self._url, self.sent = url, 0
        self._link = publisher(url)

    def send(self, count: int) -> None:
        """Done when the broker has them."""
        publish(self._link, [("meterpulse/readings/a", reading(self.sent + n)) for n in range(count)])
        self.sent += count

    def again(self, since: int) -> None:
        """After the broker's end, which forgets its last second."""
        self._link.close()
        self._link = publisher(self._url)
        publish(self._link, [("meterpulse/readings/a", reading(n)) for n in range(since, self.sent)])

    def close(self) -> None:
        self._link.close()


@pytest.mark.crash
def test_whoever_is_killed_what_we_acknowledged_is_stored_and_everything_counts_once(broker, city, tmp_path):
    ahead = publisher(broker.url, "meterpulse")  # a session, so that what is sent before we are up waits for us
    ahead.subscribe(["meterpulse/readings/#"], Retained.once)
    ahead.close()
    meter, tap, data = Meter(broker.url), Tap(broker.port), tmp_path / "data"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for life in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(data), tap.url, str(NOW)], stdout=subprocess.PIPE, env=environment
        )
        assert child.stdout and child.stdout.readline() == b"up\n"
        since = meter.sent
        for _ in range(12):
            meter.send(10)
        if life == 1:
            wait_for(lambda: len(tap.acknowledged) > 60)
            broker.kill()
            broker.start()
            meter.again(since)
            meter.send(50)
            wait_for(lambda: reading(meter.sent - 1) in tap.acknowledged, 30)
        child.kill()
        child.wait()
        child.stdout.close()
    acknowledged = {json.loads(payload)["quantity"] for payload in tap.acknowledged}
    with Pipeline.open(load({"data": str(data)}), clock=lambda: NOW) as survivor:
        stored = quantities(survivor)
    assert len(acknowledged) > 100
    assert {round(1_000_000 * float(quantity)) for quantity in acknowledged} <= set(stored)
    pipeline = city(broker.url)
    wait_for(lambda: set(quantities(pipeline)) == set(thousandths(*range(meter.sent))), 30)
    assert counted(pipeline) == meter.sent
    assert not list(pipeline.log.quarantined())
    assert len(tap.delivered) > len(set(tap.delivered))  # the broker did send again
    meter.close()
    tap.close()


def test_devices_are_understood_and_introduced(broker, city):
    pipeline = city(broker.url, dialects=["tasmota"], unknown_channels="register", time_zone="Europe/Paris")
    meter = publisher(broker.url)
    told = b'{"Time":"2026-03-06T12:00:00","ENERGY":{"Total":7970.903,"Power":860}}'
    publish(meter, [("tele/boiler/SENSOR", told), ("tele/boiler/SENSOR", b"not JSON"), ("tele/boiler/LWT", b"Online")])
    wait_for(lambda: pipeline.sources.status()[0]["messages"] == 2)
    assert sorted(quantities(pipeline)) == [860_000, 7_970_903_000]
    channel = pipeline.registry.channel("boiler:energy")
    assert channel is not None and (channel["kind"], channel["unit"]) == ("register", "kWh")
    [row] = pipeline.log.quarantined()
    assert row.original == b"not JSON" and "tele/boiler/SENSOR" in row.media_type
    meter.close()


def test_a_wrong_password_is_told_and_a_right_one_comes_from_a_file(server, tmp_path, city):
    rights = ["user meterpulse", "topic read meterpulse/readings/#", "pattern write meterpulse/readings/%u"]
    users = {"meterpulse": "correct horse", "meter": "battery"}
    (tmp_path / "secret").write_text("correct horse\n")
    with server.Mosquitto(tmp_path / "broker", users=users, rights=rights) as broker:
        wrong = Pipeline.open(config_of(tmp_path / "other", broker.url, username="meterpulse", password="wrong"))
        wrong.sources.start()
        wait_for(lambda: "not authorized" in str(wrong.sources.status()[0]["last_error"]))
        wrong.close()
        pipeline = city(broker.url, username="meterpulse", password_file=str(tmp_path / "secret"))
        meter = publisher(broker.url, username="meter", password="battery")
        with pytest.raises(ConnectionError, match="not authorized"):
            publish(meter, [("meterpulse/readings/other", reading(1))])
        meter = publisher(broker.url, username="meter", password="battery")  # this broker hangs up on who was refused
        publish(meter, [("meterpulse/readings/meter", reading(2))])
        wait_for(lambda: quantities(pipeline) == thousandths(2))
        meter.close()


def test_a_broker_with_tls_is_checked_and_may_ask_for_our_own_certificate(server, tmp_path, city, caplog):
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl(
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=ours",
        "-addext",
        "keyUsage=keyCertSign",
    )
    for name in ("broker", "city"):
        openssl("req", *key[:5], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (tmp_path / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
            "-out", f"{name}.pem", "-extfile", "ext",
        )  # fmt: skip
    options = [
        f"{word}file {tmp_path}/{file}"
        for word, file in (("ca", "ca.pem"), ("cert", "broker.pem"), ("key", "broker.key"))
    ]
    with server.Mosquitto(tmp_path / "tls", options=[*options, "require_certificate true"]) as broker:
        url = broker.url.replace("mqtt:", "mqtts:")
        ours = {"certificate_file": str(tmp_path / "city.pem"), "key_file": str(tmp_path / "city.key")}
        trusting = {"ca_file": str(tmp_path / "ca.pem")}
        for settings, said in (
            ({}, "certificate verify failed"),
            (trusting, "certificate required|closed|reset|broke"),
        ):
            with pytest.raises(ConnectionError, match=said):
                publisher(url, **settings)
        pipeline = city(url, **trusting, **ours, password="correct horse", username="meterpulse")
        meter = publisher(url, **trusting, **ours)
        publish(meter, [("meterpulse/readings/a", reading(n)) for n in range(200)])
        wait_for(lambda: quantities(pipeline) == thousandths(*range(200)))
        assert "correct horse" not in caplog.text + json.dumps(pipeline.status()) + repr(pipeline.config)
        meter.close()


def test_a_state_that_was_kept_before_we_came_is_not_dated_by_its_arrival(broker, city):
    meter = publisher(broker.url)
    kept = [
        ("garage/sensor/energy/state", b"1.5"),
        ("zigbee2mqtt/fridge", b'{"energy": 2.5, "last_seen": "2026-03-06T23:00:00Z"}'),
    ]
    publish(meter, kept, retain=True)
    pipeline = city(broker.url, dialects=["esphome", "zigbee2mqtt"], unknown_channels="register")
    publish(meter, [("garage/sensor/energy/state", b"1.6")], retain=True)
    wait_for(lambda: sorted(quantities(pipeline)) == [1_600_000, 2_500_000])
    wait_for(lambda: pipeline.sources.status()[0]["messages"] == 3)
    assert not list(pipeline.log.quarantined())
    meter.close()
