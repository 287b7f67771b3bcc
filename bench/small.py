"""Ten thousand meters, one JSON reading a request, 64 kept connections, each acknowledged when it is on disk.

python bench/small.py                   the greatest rate (closed loop), then open loop at growing rates
python bench/small.py --small           a few thousand requests

The generator is a process of its own with requests made beforehand. In open loop the latency counts from the time at which
a request was meant to leave. At the end every window of every meter is compared with what was sent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import pyarrow as pa
from _client import Generator, Outcome, drive, post
from _common import Server, report

JSON = "application/json"
MUST_RATE, AIM_RATE, MUST_P99_MS = 5_000, 15_000, 50.0


def quantity(meter: np.ndarray, sweep: int) -> np.ndarray:
    """Whole Wh, so that a JSON number of three decimals of kWh is exact."""
    return (meter.astype(np.int64) * 7919 + sweep * 104_729) % 1_000


def stamp(ms: int) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))


def requests(meters: int, first: int, count: int, start_ms: int) -> list[bytes]:
    """Requests first .. first + count of the endless sweep over all meters, one each 5 seconds of event time."""
    made: list[bytes] = []
    while len(made) < count:
        sweep, meter = divmod(first + len(made), meters)
        start, wh = stamp(start_ms + sweep * 5_000), quantity(np.arange(meters), sweep)
        for m in range(meter, min(meters, meter + count - len(made))):
            body = f'{{"channel":"E-{m:06d}","start":"{start}","seconds":5,"quantity":{wh[m] / 1000}}}'
            made.append(post("/v1/readings", body.encode(), JSON))
    return made


def generate(
    port: int, meters: int, first: int, count: int, start_ms: int, connections: int, rate: float | None
) -> Any:
    """See Generator."""
    made = requests(meters, first, count, start_ms)
    yield None
    yield drive(port, made, connections, rate)


def check(server: Server, meters: int, sent: int, start_ms: int) -> tuple[int, int]:
    """(windows compared, windows wrong)."""
    compared = wrong = 0
    sweeps = -(-sent // meters)
    for first in range(0, sweeps, 60):
        want = np.zeros((meters, 5), np.int64)
        want[:, 2] = 1 << 60
        for sweep in range(first, min(first + 60, sweeps)):
            n = min(meters, sent - sweep * meters)
            q = quantity(np.arange(n), sweep) * 1000
            row = want[:n]
            row[:, 0] += 1
            row[:, 1] += q
            row[:, 2] = np.minimum(row[:, 2], q)
            row[:, 3] = np.maximum(row[:, 3], q)
            row[:, 4] = q
        want[want[:, 0] == 0] = 0
        found = server.get(f"/v1/window.arrow?start={stamp(start_ms + first * 5_000)}&first=0&count={meters}")
        table = pa.ipc.open_stream(found).read_all()
        got = np.zeros((meters, 5), np.int64)
        got[table["channel"].to_numpy()] = np.stack(
            [table[c].to_numpy() for c in ("count", "sum", "min", "max", "last")], axis=1
        )
        compared += meters
        wrong += int((got != want).any(axis=1).sum())
    return compared, wrong


def run(meters: int, seconds: float, rates: list[int], closed: int, connections: int) -> dict[str, Any]:
    """All loads against one server; its figures."""
    server = Server()
    try:
        server.start()
        channels = [
            {"id": f"E-{m:06d}", "utility": "electricity", "unit": "kWh", "interval_seconds": 5} for m in range(meters)
        ]
        server.post("/v1/channels", json.dumps(channels).encode(), JSON)
        total = 2 * closed + sum(int(rate * seconds) for rate in rates)
        start_ms = (int(time.time() * 1000) - (total // meters + 70) * 5_000) // 300_000 * 300_000
        sent, refused = 0, 0

        def load(count: int, rate: float | None) -> Outcome:
            nonlocal sent, refused
            generator = Generator(generate, server.port, meters, sent, count, start_ms, connections, rate)
            generator.start()
            outcome: Outcome = generator.result()
            sent += count
            refused += len(outcome.latency) - outcome.statuses.get(200, 0)
            return outcome

        load(closed // 4, None)  # warms up
        closed_runs = [load(closed // 4, None) for _ in range(5)]
        opened = {rate: load(int(rate * seconds), rate) for rate in rates}
        server.settle()
        compared, wrong = check(server, meters, sent, start_ms)
        status = server.status()
        return {
            "meters": meters, "connections": connections, "sent": sent, "refused": refused, "accepted": status["accepted"],
            "closed_rates": sorted(o.rate for o in closed_runs),
            "closed_p99_ms": statistics.median(o.quantile_ms(0.99) for o in closed_runs),
            "open": {
                str(rate): {"rate": o.rate, **{f"p{q}_ms": o.quantile_ms(q / 100) for q in (50, 99, 99.9)}, "max_ms": o.quantile_ms(1)}
                for rate, o in opened.items()
            },
            "windows_checked": compared, "windows_wrong": wrong, "resident_bytes": server.resident_bytes(),
        }  # fmt: skip
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meters", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20, help="of each rate in open loop")
    parser.add_argument("--rates", type=int, nargs="+", default=[2_500, 5_000, 7_500, 10_000, 12_500, 15_000])
    parser.add_argument("--small", action="store_true", help="1,000 meters, two short rates")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    closed = 400_000
    if arguments.small:
        arguments.meters, arguments.seconds, arguments.rates, closed = (
            min(arguments.meters, 1_000),
            2,
            [1_000, 2_500],
            20_000,
        )
    r = run(arguments.meters, arguments.seconds, arguments.rates, closed, arguments.connections)
    rates = r["closed_rates"]
    rows = [
        ("meters, connections", f"{r['meters']:,}, {r['connections']}", ""),
        (
            "requests/s, closed loop: median",
            f"{statistics.median(rates):,.0f}",
            f"must {MUST_RATE:,}, aim {AIM_RATE:,}",
        ),
        ("  of five runs, least and most", f"{rates[0]:,.0f} .. {rates[-1]:,.0f}", ""),
        ("  p99", f"{r['closed_p99_ms']:.1f} ms", ""),
    ]
    for rate, o in r["open"].items():
        figure = f"{o['p50_ms']:.1f} / {o['p99_ms']:.1f} / {o['p99.9_ms']:.1f} ms"
        rows.append(
            (
                f"open loop at {int(rate):,}/s: p50 / p99 / p99.9",
                figure,
                "must p99 50 ms" if int(rate) == MUST_RATE else "",
            )
        )
    held = [int(rate) for rate, o in r["open"].items() if o["p99_ms"] <= MUST_P99_MS and o["rate"] > 0.98 * int(rate)]
    rows += [
        ("greatest of these rates with p99 within 50 ms", f"{max(held, default=0):,}/s", ""),
        ("readings sent and acknowledged", f"{r['sent']:,}", ""),
        ("refused", f"{r['refused']:,}", "must 0"),
        ("windows checked", f"{r['windows_checked']:,}", ""),
        ("of these wrong", f"{r['windows_wrong']:,}", "must 0"),
    ]
    report("small", rows, r, arguments.save)
    if r["windows_wrong"] or r["refused"] or r["accepted"] != r["sent"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
