"""P1 as a meter talks: by TCP and by a serial line, in pieces, with noise and breaks."""

from __future__ import annotations

import os
import pty
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from meterpulse.config import ConfigError, load
from meterpulse.ingest.checksum import crc16_arc
from meterpulse.ingest.p1 import cut
from meterpulse.pipeline import Pipeline

NOW = 1_772_884_800_000  # 2026-03-07T12:00:00Z


def telegram(second: int, wh: int) -> bytes:
    body = (
        b"/KFM5KAIFA-METER\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(2603071259%02dW)\r\n0-0:96.1.1(4B38)\r\n"
        b"1-0:1.8.1(%010.3f*kWh)\r\n0-1:24.1.0(003)\r\n0-1:96.1.0(473030)\r\n0-1:24.2.1(260307120000W)(00981.443*m3)\r\n!"
    ) % (second, wh / 1000)
    return body + b"%04X\r\n" % crc16_arc(body)


def wait_for(fact: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def city(tmp_path) -> Iterator[Callable[[str], Pipeline]]:
    opened: list[Pipeline] = []

    def start(url: str) -> Pipeline:
        config = load({"data": str(tmp_path / "data"), "ingest": {"p1": {"url": url}}})
        opened.append(Pipeline.open(config, clock=lambda: NOW))
        opened[0].sources.start()
        return opened[0]

    yield start
    for pipeline in opened:
        pipeline.close()


def readings(pipeline: Pipeline, id: str) -> list[int]:
    index = pipeline.registry.table.lookup_one(id)
    records = [pipeline.log.read(i).record.readings for i in range(pipeline.log.first, pipeline.log.end)]
    return [
        q for r in records for c, q in zip(r.channel.tolist(), r.full("quantity").tolist(), strict=True) if c == index
    ]


def test_a_gateway_that_begins_in_the_middle_breaks_off_and_comes_back_loses_no_whole_telegram(city):
    gateway = socket.create_server(("127.0.0.1", 0))
    said = [telegram(n, 1000 + n) for n in range(6)]
    stream = said[0][40:] + said[1] + said[2][:50]  # in the middle of one, then broken off

    def talk() -> None:
        client, _ = gateway.accept()
        for at in range(0, len(stream), 37):
            client.sendall(stream[at : at + 37])
            time.sleep(0.001)
        client.close()
        client, _ = gateway.accept()
        client.sendall(said[3][:-7] + said[4].replace(b"1.004", b"9.004") + said[5])
        time.sleep(5)
        client.close()

    threading.Thread(target=talk, daemon=True).start()
    pipeline = city(f"tcp://127.0.0.1:{gateway.getsockname()[1]}")
    wait_for(lambda: 1_005_000 in readings(pipeline, "K8:1-0:1.8.1"))
    assert set(readings(pipeline, "K8:1-0:1.8.1")) == {1_001_000, 1_005_000}
    assert set(readings(pipeline, "G00:0-1:24.2.1")) == {981_443_000}
    refused = [(row.reason, row.original) for row in pipeline.log.quarantined()]
    assert refused == [("truncated", said[3][:-7]), ("bad_checksum", said[4].replace(b"1.004", b"9.004"))]
    assert "closed the connection" in pipeline.sources.status()[0]["last_error"]
    gateway.close()


def test_a_serial_cable_is_read_as_it_comes(city):
    meter, cable = pty.openpty()
    pipeline = city(f"serial://{os.ttyname(cable)}")
    wait_for(lambda: pipeline.sources.status()[0]["state"] == "running")
    os.write(meter, telegram(1, 1001) + telegram(2, 1002))
    wait_for(lambda: readings(pipeline, "K8:1-0:1.8.1") == [1_001_000, 1_002_000])
    pipeline.sources.stop()
    os.close(meter)
    os.close(cable)


def test_a_gateway_that_is_not_there_is_told(city):
    pipeline = city("tcp://127.0.0.1:1")
    wait_for(lambda: "tcp://127.0.0.1:1 is out of reach" in str(pipeline.sources.status()[0]["last_error"]))


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_telegrams_are_whole_however_they_arrive(size):
    said, heard, found = [telegram(n, n) for n in range(5)], bytearray(), []
    stream = b"\x00\xffnoise" + b"".join(said)
    for at in range(0, len(stream), size):
        heard += stream[at : at + size]
        found += cut(heard)
    assert found == said and not heard


def test_what_never_ends_is_given_up_and_does_not_grow():
    heard, found = bytearray(b"/"), []
    for _ in range(100):
        heard += b"1-0:1.8.1(1)\r\n" * 100
        found += cut(heard)
        assert len(heard) < 70_000
    assert found


@pytest.mark.parametrize(
    "url", ["tcp://host", "http://host:1", "serial://dev/ttyUSB0", "/dev/ttyUSB0", "tcp://h:1/path"]
)
def test_an_address_that_cannot_be_is_refused(url):
    with pytest.raises(ConfigError, match=re.escape("serial:///dev/ttyUSB0")):
        load({"ingest": {"p1": {"url": url}}})
