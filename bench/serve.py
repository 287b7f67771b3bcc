"""A home's page while the fleet reports: a day of 5-minute windows of three channels, 864 rows, in one request.

python bench/serve.py                       26,230,887 channels at 5.25 M readings/s, 500, 1,000 and 2,000 requests/s
python bench/serve.py --channels 3000000    smaller arrays, the same readings/s
python bench/serve.py --small               90,000 channels, 1 M readings/s, 100 requests/s

A request is GET /v1/usage with the home's three channels and the last 24 hours: most windows come from the store (a day of
history of 10,000 homes, imported beforehand), the newest from the arrays that the fleet is writing to. Open loop: a latency
counts from the time at which its request was meant to leave. The meters and the pages are processes of their own, on the
same machine. Every twentieth answer is checked, row by row.
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
import time
from typing import Any

import numpy as np
from _client import Generator, Outcome, drive, get
from _common import Server, report
from fleet import ARROW, BODY_ROWS, FLEET, Sender, body_of, register, values

HOMES = 10_000
WINDOW_MS, DAY_MS = 300_000, 86_400_000
MUST, AIM = (500, 20.0), (2_000, 5.0)


def stamp(ms: int) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))


def of_home(home: int, channels: int) -> list[int]:
    """The three channels of a home: a third of the fleet lies between them."""
    return [home + utility * (channels // 3) for utility in range(3)]


def past(channel: np.ndarray, window_ms: int) -> np.ndarray:
    """mWh of a channel in a window of the history."""
    return (channel.astype(np.int64) * 7919 + window_ms // WINDOW_MS * 104_729) % 300_000


def load_history(server: Server, homes: int, channels: int, end_ms: int) -> None:
    """A day of 5-minute reads of every home, as an import."""
    own = np.concatenate([np.arange(homes, dtype=np.uint32) + np.uint32(u * (channels // 3)) for u in range(3)])
    for window in range(end_ms - DAY_MS, end_ms, WINDOW_MS):
        body = body_of(own, window, past(own, window))
        server.post("/v1/readings?source=import:history", body.to_pybytes(), ARROW)


class Fleet(threading.Thread):
    """Sends sweeps over all channels at a given rate, until it is told to stop."""

    def __init__(self, port: int, channels: int, rate: float, start_ms: int):
        super().__init__(daemon=True)
        self._bodies: queue.Queue = queue.Queue(2)
        self._senders = [Sender(port, self._bodies) for _ in range(2)]
        self._channels, self._rate, self._start_ms = channels, rate, start_ms
        self._stopping = threading.Event()
        self.sent = 0

    @property
    def accepted(self) -> int:
        """Readings so far."""
        return sum(sender.accepted for sender in self._senders)

    def run(self) -> None:
        for sender in self._senders:
            sender.start()
        began, sweep = time.perf_counter(), 0
        while not self._stopping.is_set():
            for first in range(0, self._channels, BODY_ROWS):
                part = np.arange(first, min(first + BODY_ROWS, self._channels), dtype=np.uint32)
                quantity = np.empty(len(part), np.int64)
                values(part, sweep, quantity)
                body = body_of(part, self._start_ms + sweep * 5_000, quantity)
                time.sleep(max(0.0, began + self.sent / self._rate - time.perf_counter()))
                self._bodies.put(body)
                self.sent += len(part)
            sweep += 1
        for _ in self._senders:
            self._bodies.put(None)
        for sender in self._senders:
            sender.join()

    def stop(self) -> None:
        """After the sweep at hand."""
        self._stopping.set()
        self.join()


def fleet_process(port: int, channels: int, rate: float, start_ms: int, seconds: float) -> Any:
    """See Generator: the meters; yields (accepted, seconds)."""
    values(np.zeros(1, np.uint32), 0, np.zeros(1, np.int64))
    yield None
    fleet = Fleet(port, channels, rate, start_ms)
    began = time.perf_counter()
    fleet.start()
    time.sleep(seconds)
    fleet.stop()
    yield fleet.accepted, time.perf_counter() - began


def pages(port: int, homes: int, channels: int, history_ms: int, rate: float, seconds: float, connections: int) -> Any:
    """See Generator: the browsers; yields (Outcome without answers, rows checked, rows wrong)."""
    chosen = np.random.default_rng(1).integers(0, homes, int(rate * seconds)).tolist()
    low, high = history_ms - DAY_MS + 12 * WINDOW_MS, history_ms + 12 * WINDOW_MS
    span = f"&grain=5m&start={stamp(low)}&end={stamp(high)}"
    requests = [
        "/v1/usage?" + "&".join(f"channel=E-{c:08d}" for c in of_home(home, channels)) + span for home in chosen
    ]
    made = [get(request) for request in requests]
    yield None
    outcome = drive(port, made, connections, rate, keep_every=20)
    checked = wrong = 0
    windows = range(low, history_ms, WINDOW_MS)
    for number, answer in outcome.answers:
        documents = json.loads(answer.partition(b"\r\n\r\n")[2])["channels"]
        for channel, document in zip(of_home(chosen[number], channels), documents, strict=True):
            known = {row["start"]: row for row in document["rows"]}
            for window in windows:
                row = known.get(stamp(window), {})
                want = int(past(np.array([channel]), window)[0])
                checked += 1
                wrong += (
                    row.get("count") != 1 or round(row["quantity"] * 10**6) != want or row["max"] != row["quantity"]
                )
    outcome.answers = []
    yield outcome, checked, wrong


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All rates, one after the other, while the fleet reports."""
    server = Server({"METERPULSE_SPEED__ALLOWED_LATENESS_SECONDS": "60"})
    channels, homes = arguments.channels, min(HOMES, arguments.channels // 3)
    try:
        server.start()
        register(server, channels)
        needed = len(arguments.rates) * (arguments.seconds + 15) + 20
        sweeps = needed * arguments.load / channels + 1
        start_ms = int(time.time() * 1000 - sweeps * 5_000) // WINDOW_MS * WINDOW_MS
        load_history(server, homes, channels, start_ms)
        server.settle()
        fleet = Generator(fleet_process, server.port, channels, arguments.load, start_ms, needed)
        fleet.start()
        time.sleep(10)
        found: dict[str, Any] = {}
        for rate in arguments.rates:
            page = Generator(
                pages, server.port, homes, channels, start_ms, rate, arguments.seconds, arguments.connections
            )
            page.start()
            outcome, checked, wrong = page.result()
            outcome: Outcome
            status = server.status()
            found[str(rate)] = {
                "rate": outcome.rate, "requests": len(outcome.latency), "statuses": {str(k): v for k, v in outcome.statuses.items()},
                **{f"p{q}_ms": outcome.quantile_ms(q / 100) for q in (50, 99, 99.9)}, "max_ms": outcome.quantile_ms(1),
                "rows_checked": checked, "rows_wrong": wrong, "lag_seconds": status["lag"]["seconds"],
                "lag_readings": status["lag"]["readings"],
            }  # fmt: skip
        accepted, seconds = fleet.result()
        server.settle()
        return {
            "channels": channels, "homes": homes, "load": arguments.load, "load_reached": accepted / seconds, "accepted": accepted,
            "imported": homes * 3 * 288, "status_accepted": server.status()["accepted"], "rates": found,
        }  # fmt: skip
    finally:
        server.stop(keep=arguments.keep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=FLEET)
    parser.add_argument("--load", type=float, default=5.25e6, help="readings/s of the fleet")
    parser.add_argument("--rates", type=int, nargs="+", default=[500, 1_000, 2_000])
    parser.add_argument("--seconds", type=float, default=30, help="of each rate")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--small", action="store_true", help="90,000 channels, 1 M readings/s, 100 requests/s")
    parser.add_argument("--keep", action="store_true", help="keep the data")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.channels, arguments.load = min(arguments.channels, 90_000), min(arguments.load, 1e6)
        arguments.rates, arguments.seconds = [100], min(arguments.seconds, 5)
    r = run(arguments)
    rows = [
        ("channels, homes with a day of history", f"{r['channels']:,}, {r['homes']:,}", ""),
        ("readings/s meanwhile, meant / reached", f"{r['load'] / 1e6:.2f} / {r['load_reached'] / 1e6:.2f} M", "5.25 M"),
    ]
    musts = {MUST[0]: f"must p99 {MUST[1]:.0f} ms", AIM[0]: f"aim p99 {AIM[1]:.0f} ms"}
    for rate, o in r["rates"].items():
        figure = f"{o['p50_ms']:.1f} / {o['p99_ms']:.1f} / {o['p99.9_ms']:.1f} ms"
        rows.append((f"{int(rate):,} homes' days/s: p50 / p99 / p99.9", figure, musts.get(int(rate), "")))
        rows.append(("  reached; lag of the views behind the log", f"{o['rate']:,.0f}/s; {o['lag_seconds']:.2f} s", ""))
    wrong = sum(o["rows_wrong"] for o in r["rates"].values())
    failed = sum(n for o in r["rates"].values() for status, n in o["statuses"].items() if status != "200")
    rows += [
        ("rows checked", f"{sum(o['rows_checked'] for o in r['rates'].values()):,}", ""),
        ("of these wrong", f"{wrong:,}", "must 0"),
        ("requests that failed", f"{failed:,}", "must 0"),
        ("accepted less acknowledged", f"{r['status_accepted'] - r['accepted'] - r['imported']:,}", "must 0"),
    ]
    report("serve", rows, r, arguments.save)
    if wrong or failed or r["status_accepted"] != r["accepted"] + r["imported"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
