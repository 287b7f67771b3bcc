"""`meterpulse doctor` says whether brokers take us, and never a password."""

from __future__ import annotations

import pytest

from meterpulse.cli.checkup import examine
from meterpulse.cli.output import put_facts
from meterpulse.config import load
from tests.services import require


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broker")
    with require("mosquitto").Mosquitto(folder, users={"meterpulse": "correct horse"}) as broker:
        yield broker


def told(tmp_path, **settings: object) -> tuple[str, str]:
    config = load({"data": str(tmp_path / "data"), "ingest": {"mqtt": settings}})
    [finding] = [finding for finding in examine(config) if finding.what == "source"]
    return finding.verdict, finding.detail


def test_a_broker_that_takes_us_is_fine_and_one_that_does_not_says_why(broker, tmp_path):
    assert told(tmp_path, url=broker.url, username="meterpulse", password="correct horse")[0] == "fine"
    verdict, why = told(tmp_path, url=broker.url, username="meterpulse", password="wrong pony")
    assert verdict == "wrong" and "not authorized" in why and "pony" not in why
    verdict, why = told(tmp_path, url="mqtt://127.0.0.1:1")
    assert verdict == "wrong" and "out of reach" in why
    verdict, why = told(tmp_path, url=broker.url, username="meterpulse", password_file=str(tmp_path / "absent"))
    assert verdict == "wrong" and "absent" in why


def test_sources_are_told_by_name(capsys):
    put_facts({"sources": [{"name": "mqtt", "state": "running", "lag": None}], "recent": []})
    assert capsys.readouterr().out.split("\n")[:2] == ["sources.mqtt.state  running", "sources.mqtt.lag    none"]


def test_doctor_asks_kafka_and_tells_how_far_behind_a_partition_is(tmp_path, monkeypatch):
    require("kafka")
    config = load({"data": str(tmp_path / "data"), "ingest": {"kafka": {"servers": "127.0.0.1:1"}}})
    [finding] = [finding for finding in examine(config) if finding.what == "source"]
    assert finding.verdict == "wrong" and "check that the brokers run and can be reached" in finding.detail


def test_partitions_are_told_by_name(capsys):
    part = {"name": "gas/2", "lag": 7, "lag_seconds": 1.5}
    put_facts({"sources": [{"name": "kafka", "parts": [part]}]})
    assert "sources.kafka.parts.gas/2.lag          7" in capsys.readouterr().out
