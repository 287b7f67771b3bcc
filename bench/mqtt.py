"""Single JSON readings through a real Mosquitto, quality of service 1, into the synced log.

python bench/mqtt.py                    five runs of 300,000 messages, and the peer
python bench/mqtt.py --small            one short run each

A publisher (a process of its own, packets made beforehand) sends to the broker, the broker to meterpulse; both hops are
acknowledged, ours when the reading is on disk. A run ends when the last is. Then every window of every meter is compared
with what was sent. The peer is paho-mqtt, subscribed in the same way to the same messages from the same publisher: it counts
them, and stores nothing. Publisher, broker and subscriber share the machine.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _client import Generator
from _common import Server, report
from small import check, quantity, stamp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.services import mosquitto  # noqa: E402

JSON, AIM_RATE = "application/json", 50_000
_CHUNK, _IN_FLIGHT = 500, 20_000
_IDS = 60_000  # packet ids in use, a multiple of the chunk


def packets(topic: str, meters: int, first: int, count: int, start_ms: int) -> list[bytes]:
    """Readings first .. first + count of the endless sweep over all meters, as PUBLISH packets, in chunks for one write."""
    head, chunks, parts = len(topic).to_bytes(2, "big") + topic.encode(), [], []
    start, wh, known = "", np.empty(0), -1
    for k in range(first, first + count):
        sweep, m = divmod(k, meters)
        if sweep != known:
            known, start, wh = sweep, stamp(start_ms + sweep * 5_000), quantity(np.arange(meters), sweep)
        payload = f'{{"channel":"E-{m:06d}","start":"{start}","seconds":5,"quantity":{wh[m] / 1000}}}'.encode()
        body = head + ((k - first) % _IDS + 1).to_bytes(2, "big") + payload
        parts.append(b"\x32" + _length(len(body)) + body)
        if len(parts) == _CHUNK:
            chunks.append(b"".join(parts))
            parts = []
    return chunks + ([b"".join(parts)] if parts else [])


def _length(size: int) -> bytes:
    """MQTT's variable length."""
    out = bytearray()
    while True:
        size, byte = divmod(size, 128)
        out.append(byte | 128 if size else byte)
        if not size:
            return bytes(out)


def publish(port: int, topic: str, meters: int, first: int, count: int, start_ms: int) -> Iterator[Any]:
    """See Generator: sends them all, no more than so many ahead of the broker's acknowledgements."""
    made = packets(topic, meters, first, count, start_ms)
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04load")
    assert link.recv(4) == b"\x20\x02\x00\x00"
    yield None
    began, sent, acknowledged = time.perf_counter(), 0, 0  # acknowledged: bytes, four a message
    for chunk in made:
        while sent - acknowledged // 4 > _IN_FLIGHT:
            acknowledged += len(link.recv(1 << 16))
        link.sendall(chunk)
        sent += min(_CHUNK, count - sent)
    while acknowledged < 4 * count:
        acknowledged += len(link.recv(1 << 16))
    link.close()
    yield time.perf_counter() - began


_PEER = """
import sys, time
import paho.mqtt.client as paho
port, count = int(sys.argv[1]), int(sys.argv[2])
seen = 0
def on_message(client, userdata, message):
    global seen
    seen += 1
    if seen % count == 0:
        print(seen, flush=True)
client = paho.Client(paho.CallbackAPIVersion.VERSION2, "peer", protocol=paho.MQTTv5)
client.max_inflight_messages_set(65535)
client.on_message = on_message
client.on_subscribe = lambda *_: print("up", flush=True)
client.on_connect = lambda *_: client.subscribe("peer/#", qos=1)
client.connect("127.0.0.1", port)
client.loop_forever()
"""


def timed(
    broker: Any, topic: str, meters: int, first: int, count: int, start_ms: int, is_done: Callable[[], Any]
) -> float:
    """Messages a second from the first write until `is_done`."""
    generator = Generator(publish, broker.port, topic, meters, first, count, start_ms)
    began = time.perf_counter()
    generator.start()
    while not is_done():
        time.sleep(0.03)
    seconds = time.perf_counter() - began
    generator.result()
    return count / seconds


class Peer:
    """paho-mqtt in a Python environment of its own; `missing` says why there is none."""

    def __init__(self, broker: Any, count: int, folder: Path):
        self._broker, self._count, self._runs, self.missing = broker, count, 0, ""
        subprocess.run([sys.executable, "-m", "venv", str(folder / "peer")], check=True, capture_output=True)
        python = str(folder / "peer" / "bin" / "python")
        got = subprocess.run([python, "-m", "pip", "install", "-q", "paho-mqtt>=2"], capture_output=True)
        if got.returncode:
            self.missing = "paho-mqtt could not be installed"
            return
        words = [python, "-c", _PEER, str(broker.port), str(count)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._said() == "up\n"

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def rate(self, meters: int, start_ms: int) -> float:
        """Messages a second of one more run."""
        first = self._runs * self._count
        self._runs += 1
        is_done = lambda: self._said() == f"{first + self._count}\n"  # noqa: E731
        return timed(self._broker, "peer/readings", meters, first, self._count, start_ms, is_done)

    def stop(self) -> None:
        if not self.missing:
            self._process.kill()
            self._process.wait()


def run(meters: int, count: int, runs: int) -> dict[str, Any]:
    """All figures."""
    folder = tempfile.TemporaryDirectory(prefix="meterpulse-bench-")
    # As Mosquitto comes, but for its limits of what may wait: its small packets may then travel together.
    options = ("max_inflight_messages 0", "max_queued_messages 0", "log_type none", "set_tcp_nodelay false")
    with folder, mosquitto.Mosquitto(Path(folder.name) / "broker", options=options) as broker:
        server = Server({"METERPULSE_INGEST__MQTT__URL": broker.url})
        try:
            server.start()
            channels = [
                {"id": f"E-{m:06d}", "utility": "electricity", "unit": "kWh", "interval_seconds": 5} for m in range(meters)
            ]  # fmt: skip
            server.post("/v1/channels", json.dumps(channels).encode(), JSON)
            start_ms = (int(time.time() * 1000) - ((runs + 1) * count // meters + 70) * 5_000) // 300_000 * 300_000
            peer = Peer(broker, count, Path(folder.name))
            process, sent, rates, ours, brokers, peers = psutil.Process(broker.pid), 0, [], [], [], []
            for number in range(runs + 1):
                before = server.cpu_seconds(), sum(process.cpu_times()[:2])
                sent += count
                topic = "meterpulse/readings/load"
                is_done = lambda n=sent: server.status()["sources"][0]["messages"] >= n  # noqa: E731
                rate = timed(broker, topic, meters, sent - count, count, start_ms, is_done)
                if number:  # the first warms up
                    rates.append(rate)
                    ours.append((server.cpu_seconds() - before[0]) / count * 1e6)
                    brokers.append((sum(process.cpu_times()[:2]) - before[1]) / count * 1e6)
                server.settle()
                if number and not peer.missing:  # by turns, so that neighbours on the machine trouble both alike
                    peers.append(peer.rate(meters, start_ms))
            peer.stop()
            compared, wrong = check(server, meters, sent, start_ms)
            status = server.status()
            return {
                "meters": meters, "messages": sent, "accepted": status["accepted"], "quarantined": status["quarantined"],
                "duplicates": status["duplicates"], "rates": sorted(rates), "cpu_us": statistics.median(ours),
                "broker_cpu_us": statistics.median(brokers), "peer_rates": sorted(peers), "peer_missing": peer.missing,
                "windows_checked": compared, "windows_wrong": wrong, "load_average": psutil.getloadavg()[0],
            }  # fmt: skip
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meters", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=300_000, help="in each run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="1,000 meters, one run of 20,000")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if (why := mosquitto.missing()) is not None:
        raise SystemExit(f"mqtt needs Mosquitto: {why}; `make services` brings it")
    if arguments.small:
        arguments.meters, arguments.messages, arguments.runs = 1_000, 20_000, 1
    r = run(arguments.meters, arguments.messages, arguments.runs)
    rates, peer = r["rates"], r["peer_rates"]
    rows = [
        ("meters, messages", f"{r['meters']:,}, {r['messages']:,}", ""),
        ("messages/s, published to on our disk: median", f"{statistics.median(rates):,.0f}", f"aim {AIM_RATE:,}"),
        (f"  of {len(rates)} runs, least and most", f"{rates[0]:,.0f} .. {rates[-1]:,.0f}", ""),
        ("  CPU a message: ours, the broker's", f"{r['cpu_us']:.1f}, {r['broker_cpu_us']:.1f} µs", ""),
        ("paho-mqtt, counted and not stored: median", f"{statistics.median(peer):,.0f}" if peer else r["peer_missing"], ""),
        ("accepted, quarantined", f"{r['accepted']:,}, {r['quarantined']:,}", f"must {r['messages']:,}, 0"),
        ("windows checked", f"{r['windows_checked']:,}", ""),
        ("of these wrong", f"{r['windows_wrong']:,}", "must 0"),
        ("load average at the end", f"{r['load_average']:.1f}", ""),
    ]  # fmt: skip
    report("mqtt", rows, r, arguments.save)
    if r["windows_wrong"] or r["quarantined"] or r["accepted"] - r["duplicates"] != r["messages"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
