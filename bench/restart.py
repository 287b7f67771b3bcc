"""kill -9, then how long until readings are taken again, and that none which was acknowledged is lost or doubled.

python bench/restart.py                       the demo city, five kills
python bench/restart.py --fleet               26,230,887 channels, killed after two minutes of load
python bench/restart.py --fleet --channels 1000000 --minutes 0.5

All processes of the city are killed at once while meters are sending. The clock starts at the start of the new one; a meter
tries every 5 ms. Afterwards each meter of ours is read back: the sum of what was acknowledged is the least that must be
there, and the sum of what was ever sent (the last body may have reached the disk unacknowledged) the most.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
from _common import Server, report
from fleet import ARROW, BODY_ROWS, FLEET, body_of, register, values

METERS = 200
JSON = "application/json"


def stamp(ms: int) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))


def post(port: int, path: str, body: bytes, kind: str, timeout: float = 60) -> dict[str, Any] | None:
    """The answer, or None where there is none or it is not 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", path, body, {"content-type": kind})
        answer = connection.getresponse()
        text = answer.read()
        return json.loads(text) if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Meters(threading.Thread):
    """Meters of ours beside the city: one body of 200 readings after another, each resent until it is acknowledged."""

    def __init__(self, server: Server, start_ms: int):
        super().__init__(daemon=True)
        self._server, self._start_ms = server, start_ms
        self.acknowledged = self.sent = 0  # bodies
        self.stopping = threading.Event()

    def body(self, number: int) -> bytes:
        """Readings number `number` of all meters."""
        start = stamp(self._start_ms + number * 5_000)
        return json.dumps(
            [
                {
                    "channel": f"T-{m:04d}",
                    "start": start,
                    "seconds": 5,
                    "quantity": (m * 31 + number * 7) % 1_000 / 1_000,
                }
                for m in range(METERS)
            ]
        ).encode()

    def run(self) -> None:
        while not self.stopping.is_set():
            if self._start_ms + self.acknowledged * 5_000 > time.time() * 1000:  # not ahead of the time
                time.sleep(0.02)
                continue
            self.sent = self.acknowledged + 1
            answer = post(self._server.port, "/v1/readings?source=meters", self.body(self.acknowledged), JSON)
            if answer is not None:
                if answer["accepted"] != METERS:
                    raise SystemExit(f"meters: {answer}")
                self.acknowledged += 1
                time.sleep(0.01)
            else:
                time.sleep(0.005)

    def check(self) -> tuple[int, int]:
        """(readings checked, meters with a wrong count or sum)."""
        wrong = 0
        span = f"start={stamp(self._start_ms)}&end={stamp(self._start_ms + (self.sent + 60) * 5_000)}"
        for meter in range(METERS):
            rows = json.loads(self._server.get(f"/v1/usage?channel=T-{meter:04d}&grain=5m&{span}"))["rows"]
            count = sum(row["count"] for row in rows)
            want = sum((meter * 31 + n * 7) % 1_000 for n in range(count))
            got = sum(round(row["quantity"] * 1000) for row in rows)
            wrong += not self.acknowledged <= count <= self.sent or got != want
        return self.acknowledged * METERS, wrong


def restart(server: Server) -> dict[str, float]:
    """Kills, starts again; seconds until a reading is acknowledged and until everything is ready."""
    server.kill()
    began = time.perf_counter()
    server.start(wait_seconds=600)
    alive = time.perf_counter() - began
    body = json.dumps({"channel": "T-probe", "start": stamp(int(time.time() * 1000)), "quantity": 0}).encode()
    while post(server.port, "/v1/readings?source=probe", body, JSON) is None:
        time.sleep(0.005)
    taken = time.perf_counter() - began
    server.wait_ready()
    return {"alive": alive, "acknowledged": taken, "ready": time.perf_counter() - began}


def add_meters(server: Server) -> None:
    """Channels of ours."""
    ids = [f"T-{m:04d}" for m in range(METERS)] + ["T-probe"]
    server.post(
        "/v1/channels", json.dumps([{"id": i, "utility": "electricity", "unit": "kWh"} for i in ids]).encode(), JSON
    )


def demo(kills: int, households: int, seed: int) -> dict[str, Any]:
    """The demo city with its history, killed again and again while it lives."""
    chance = random.Random(seed)
    server = Server(arguments=("--households", str(households)))
    try:
        server.start()
        while server.status()["channels"] < 3 * households:
            time.sleep(0.2)
        time.sleep(5)
        server.settle()
        add_meters(server)
        meters = Meters(server, int(time.time() * 1000) // 300_000 * 300_000 - 86_400_000 // 4)
        meters.start()
        runs = []
        for _ in range(kills):
            time.sleep(chance.uniform(1, 6))
            runs.append(restart(server))
        time.sleep(1)
        meters.stopping.set()
        meters.join()
        server.settle()
        checked, wrong = meters.check()
        return {"kind": "demo", "households": households, "runs": runs, "checked": checked, "wrong": wrong}
    finally:
        server.stop()


def fleet(channels: int, minutes: float, load: float) -> dict[str, Any]:
    """Sweeps over all channels at a given rate, then one kill in their midst; afterwards all windows are compared."""
    server = Server({"METERPULSE_SPEED__ALLOWED_LATENESS_SECONDS": "600"})
    try:
        server.start()
        register(server, channels)
        add_meters(server)
        sweeps = max(1, int(minutes * 60 * load / channels))
        now = int(time.time() * 1000)
        start_ms = (now - sweeps * 5_000) // 300_000 * 300_000
        meters = Meters(server, start_ms)
        meters.start()
        bodies = [(s, f) for s in range(sweeps) for f in range(0, channels, BODY_ROWS)]
        acknowledged: list[int] = []
        runs, stop_at, began = [], len(bodies) - len(bodies) // 8, time.perf_counter()

        def send(number: int) -> None:
            sweep, first = bodies[number]
            part = np.arange(first, min(first + BODY_ROWS, channels), dtype=np.uint32)
            quantity = np.empty(len(part), np.int64)
            values(part, sweep, quantity)
            body = body_of(part, start_ms + sweep * 5_000, quantity).to_pybytes()
            while (answer := post(server.port, "/v1/readings?source=fleet", body, ARROW, 600)) is None:
                time.sleep(0.02)
            acknowledged.append(answer["accepted"])

        def send_all(numbers: range) -> None:
            for number in numbers:
                time.sleep(max(0.0, began + number * BODY_ROWS / load - time.perf_counter()))
                send(number)

        sender = threading.Thread(target=send_all, args=(range(len(bodies)),))
        sender.start()
        while len(acknowledged) < stop_at and sender.is_alive():
            time.sleep(0.01)
        runs.append(restart(server))
        sender.join()
        meters.stopping.set()
        meters.join()
        server.settle()
        checked, wrong = meters.check()
        compared, different = compare(server, channels, sweeps, start_ms)
        return {
            "kind": "fleet", "channels": channels, "minutes": minutes, "load": load, "runs": runs, "readings": sum(acknowledged),
            "checked": checked + compared, "wrong": wrong + different,
        }  # fmt: skip
    finally:
        server.stop()


def compare(server: Server, channels: int, sweeps: int, start_ms: int) -> tuple[int, int]:
    """(windows compared, windows wrong): every body was acknowledged in the end, and counts once however often it came."""
    from fleet import expected

    compared = wrong = 0
    for sweep in range(0, sweeps, 60):
        high = min(sweep + 60, sweeps)
        for first in range(0, channels, 1 << 20):
            n = min(1 << 20, channels - first)
            found = server.get(f"/v1/window.arrow?start={stamp(start_ms + sweep * 5_000)}&first={first}&count={n}")
            got, want = pa.ipc.open_stream(found).read_all(), np.empty((n, 5), np.int64)
            expected(first, n, sweep, high, want)
            rows = np.zeros((n, 5), np.int64)
            columns = [got[c].to_numpy() for c in ("count", "sum", "min", "max", "last")]
            rows[got["channel"].to_numpy().astype(np.int64) - first] = np.stack(columns, axis=1)
            compared += n
            wrong += int((rows != want).any(axis=1).sum())
    return compared, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleet", action="store_true", help="the fleet in place of the demo city")
    parser.add_argument("--kills", type=int, default=5, help="of the demo city")
    parser.add_argument("--households", type=int, default=10_000)
    parser.add_argument("--channels", type=int, default=FLEET)
    parser.add_argument("--minutes", type=float, default=2, help="of load before the fleet is killed")
    parser.add_argument("--load", type=float, default=5.25e6, help="readings/s of the fleet")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="500 households, two kills; or 100,000 channels, 10 s")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.households, arguments.kills = min(arguments.households, 500), min(arguments.kills, 2)
        arguments.channels, arguments.minutes = min(arguments.channels, 100_000), min(arguments.minutes, 1 / 6)
        arguments.load = min(arguments.load, 1e6)
    if arguments.fleet:
        r = fleet(arguments.channels, arguments.minutes, arguments.load)
        must, head = (30, 10), ("channels, readings", f"{r['channels']:,}, {r['readings']:,}", "")
    else:
        r = demo(arguments.kills, arguments.households, arguments.seed)
        must, head = (5, 2), ("households, kills", f"{r['households']:,}, {len(r['runs'])}", "")

    def figure(name: str) -> str:
        seconds = sorted(run[name] for run in r["runs"])
        spread = f" ({seconds[0]:.1f} .. {seconds[-1]:.1f})" if len(seconds) > 1 else ""
        return f"{statistics.median(seconds):.2f} s{spread}"

    rows = [
        head,
        ("until a reading is acknowledged", figure("acknowledged"), f"must {must[0]} s, aim {must[1]} s"),
        ("until every answer is whole (/health/ready)", figure("ready"), ""),
        ("checked after the kills", f"{r['checked']:,}", "readings" if not arguments.fleet else "readings and windows"),
        ("lost or doubled", f"{r['wrong']:,}", "must 0"),
    ]
    report("restart_fleet" if arguments.fleet else "restart", rows, r, arguments.save)
    if r["wrong"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
