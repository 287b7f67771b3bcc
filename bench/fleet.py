"""The fleet: every channel of New York sends a heartbeat every 5 seconds, over HTTP, with every guarantee on.

python bench/fleet.py                                  26,230,887 channels, 10 minutes of event time, as fast as it goes
python bench/fleet.py --order random --faults          random channel order, 1 % duplicates, 1 % late (held back 2 minutes)
python bench/fleet.py --channels 100000 --minutes 1    small

The generator is this process: values are a function of (channel, time), so at the end every channel's every window (count,
sum, min, max, last), the city's minutes and the number of rows in the lake are compared with it. Bodies are Arrow streams
(channel uint32, start timestamp[ms], seconds int32, quantity int64), acknowledged after the fsync of the log.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import statistics
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _common import Server, report
from numba import njit

FLEET = 26_230_887
BODY_ROWS = 1 << 19
ARROW = "application/vnd.apache.arrow.stream"
HELD_BACK_SWEEPS = 24
SCHEMA = pa.schema(
    [("channel", pa.uint32()), ("start", pa.timestamp("ms", "UTC")), ("seconds", pa.int32()), ("quantity", pa.int64())]
)


@njit(nogil=True, cache=True)
def mixed(x):
    """A 32-bit hash (Murmur3's finaliser)."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


@njit(nogil=True, cache=True)
def values(channel, sweep, out):
    """mWh of each channel in a sweep: 0 to 32767, a few times a household's 5 seconds; bit 31 of the hash chooses the late."""
    for i in range(len(channel)):
        out[i] = mixed(np.uint32(channel[i] * np.uint32(2654435761) + np.uint32(sweep) * np.uint32(40503))) & np.uint32(
            0x7FFF
        )


@njit(nogil=True, cache=True)
def is_late(channel, sweep, out):
    """About 1 % of the readings, the same ones whoever asks."""
    for i in range(len(channel)):
        out[i] = (
            mixed(np.uint32(channel[i] * np.uint32(97) + np.uint32(sweep) * np.uint32(7919) + np.uint32(17)))
            % np.uint32(100)
            == 0
        )


@njit(nogil=True, cache=True)
def expected(first, n, sweep_low, sweep_high, out):
    """count, sum, min, max, last of channels [first, first + n) over the sweeps of one window."""
    for i in range(n):
        total, low, high, last = 0, 1 << 40, -1, 0
        for s in range(sweep_low, sweep_high):
            q = np.int64(
                mixed(np.uint32(np.uint32(first + i) * np.uint32(2654435761) + np.uint32(s) * np.uint32(40503)))
                & np.uint32(0x7FFF)
            )
            total += q
            low = min(low, q)
            high = max(high, q)
            last = q
        out[i, 0], out[i, 1], out[i, 2], out[i, 3], out[i, 4] = sweep_high - sweep_low, total, low, high, last


def body_of(channel: np.ndarray, start: np.ndarray | int, quantity: np.ndarray) -> pa.Buffer:
    """One Arrow stream."""
    n = len(channel)
    starts = np.full(n, start, np.int64) if np.isscalar(start) else start
    arrays = [
        pa.array(channel),
        pa.array(starts).cast(SCHEMA.field(1).type),
        pa.array(np.full(n, 5, np.int32)),
        pa.array(quantity),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as stream:
        stream.write_batch(pa.record_batch(arrays, schema=SCHEMA))
    return sink.getvalue()


class Sender(threading.Thread):
    """Posts bodies from a queue over one kept connection until it gets None."""

    def __init__(self, port: int, bodies: queue.Queue):
        super().__init__(daemon=True)
        self._port, self._bodies = port, bodies
        self.latencies: list[float] = []
        self.accepted = self.waits = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        try:
            while (body := self._bodies.get()) is not None:
                while True:
                    began = time.perf_counter()
                    connection.request(
                        "POST",
                        "/v1/readings?source=fleet",
                        body=memoryview(body),
                        headers={"content-type": ARROW, "content-length": str(body.size)},
                    )
                    answer = connection.getresponse()
                    text = answer.read()
                    if answer.status == 200:
                        break
                    if answer.status not in (429, 503):
                        raise SystemExit(f"{answer.status} {text[:300]!r}")
                    self.waits += 1
                    time.sleep(float(answer.headers.get("retry-after", "0.2")) / 4)
                    if answer.headers.get("connection") == "close":
                        connection.close()
                self.latencies.append(time.perf_counter() - began)
                self.accepted += json.loads(text)["accepted"]
        except BaseException as error:
            self.error = error
            raise


def bodies(order: np.ndarray | None, channels: int, sweeps: int, start_ms: int, faults: bool):
    """Every body in the order of sending."""
    for sweep in range(sweeps + (HELD_BACK_SWEEPS if faults else 0)):
        for first in range(0, channels, BODY_ROWS):
            part = (
                np.arange(first, min(first + BODY_ROWS, channels), dtype=np.uint32)
                if order is None
                else order[first : first + BODY_ROWS]
            )
            if not faults:
                quantity = np.empty(len(part), np.int64)
                values(part, sweep, quantity)
                yield body_of(part, start_ms + sweep * 5000, quantity)
                continue
            late = np.empty(len(part), np.bool_)
            pieces = []
            if sweep < sweeps:
                is_late(part, sweep, late)
                prompt = part[~late]
                pieces.append((np.concatenate([prompt, prompt[: len(part) // 100]]), sweep))
            if sweep >= HELD_BACK_SWEEPS:
                is_late(part, sweep - HELD_BACK_SWEEPS, late)
                pieces.append((part[late], sweep - HELD_BACK_SWEEPS))
            channel = np.concatenate([c for c, _ in pieces])
            quantity = np.empty(len(channel), np.int64)
            start = np.empty(len(channel), np.int64)
            at = 0
            for piece, s in pieces:
                values(piece, s, quantity[at : at + len(piece)])
                start[at : at + len(piece)] = start_ms + s * 5000
                at += len(piece)
            yield body_of(channel, start, quantity)


def register(server: Server, channels: int) -> float:
    """All channels, electricity, in 246 areas under the city."""
    began = time.perf_counter()
    areas = pa.array([f"{10001 + a}" for a in range(246)])
    for first in range(0, channels, 1 << 20):
        number = np.arange(first, min(first + (1 << 20), channels))
        n = len(number)
        digits = np.char.zfill(number.astype("U8"), 8)
        table = pa.table(
            {
                "id": pa.array(np.char.add("E-", digits)),
                "utility": pa.array(["electricity"] * n).dictionary_encode(),
                "unit": pa.array(["kWh"] * n).dictionary_encode(),
                "interval_seconds": pa.array(np.full(n, 5, np.int32)),
                "area": pa.DictionaryArray.from_arrays(pa.array((number % 246).astype(np.int32)), areas),
                "time_zone": pa.array(["America/New_York"] * n).dictionary_encode(),
            }
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        answer = server.post("/v1/channels", sink.getvalue().to_pybytes(), ARROW)
        if answer["created"] != n:
            raise SystemExit(f"registration: {answer}")
    return time.perf_counter() - began


def check(server: Server, channels: int, sweeps: int, start_ms: int) -> tuple[int, int]:
    """(windows compared, windows wrong): every channel in every window, and the city's minutes."""
    compared = wrong = 0
    for sweep in range(0, sweeps, 60):
        high = min(sweep + 60, sweeps)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((start_ms + sweep * 5000) / 1000))
        for first in range(0, channels, 1 << 20):
            n = min(1 << 20, channels - first)
            got = pa.ipc.open_stream(server.get(f"/v1/window.arrow?start={stamp}&first={first}&count={n}")).read_all()
            want = np.empty((n, 5), np.int64)
            expected(first, n, sweep, high, want)
            compared += n
            rows = np.zeros((n, 5), np.int64)
            rows[got["channel"].to_numpy().astype(np.int64) - first] = np.stack(
                [got[c].to_numpy() for c in ("count", "sum", "min", "max", "last")], axis=1
            )
            wrong += int((rows != want).any(axis=1).sum())
    for area in (0, 123, 245):
        own = np.arange(area, channels, 246, dtype=np.uint32)
        iso = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((start_ms + s * 5000) / 1000)) for s in (0, sweeps)]
        found = json.loads(
            server.get(f"/v1/usage?area={10001 + area}&utility=electricity&grain=1m&start={iso[0]}&end={iso[1]}")
        )["rows"]
        for minute in range(-(-sweeps // 12)):
            total = 0
            count = 0
            for s in range(minute * 12, min(minute * 12 + 12, sweeps)):
                quantity = np.empty(len(own), np.int64)
                values(own, s, quantity)
                total, count = total + int(quantity.sum()), count + len(own)
            compared += 1
            row = found[minute] if minute < len(found) else {"count": 0, "quantity": 0}
            wrong += row["count"] != count or round(row["quantity"] * 10**6) != total
    return compared, wrong


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run; its figures."""
    server = Server({"METERPULSE_SPEED__ALLOWED_LATENESS_SECONDS": str(arguments.lateness)})
    try:
        server.start()
        registered = register(server, arguments.channels)
        sweeps = int(arguments.minutes * 12)
        start_ms = (int(time.time() * 1000) - sweeps * 5000) // 300_000 * 300_000
        order = (
            np.random.default_rng(1).permutation(arguments.channels).astype(np.uint32)
            if arguments.order == "random"
            else None
        )
        values(np.zeros(1, np.uint32), 0, np.zeros(1, np.int64))
        is_late(np.zeros(1, np.uint32), 0, np.zeros(1, np.bool_))
        waiting: queue.Queue = queue.Queue(2)
        senders = [Sender(server.port, waiting) for _ in range(2)]
        for sender in senders:
            sender.start()
        peak, sent, began, told = 0, 0, time.perf_counter(), time.perf_counter()
        for body in bodies(order, arguments.channels, sweeps, start_ms, arguments.faults):
            while True:
                try:
                    waiting.put(body, timeout=1)
                    break
                except queue.Full:
                    if any(s.error for s in senders):
                        raise SystemExit("a sender has failed") from None
            sent += 1
            if time.perf_counter() - told > 5:
                told = time.perf_counter()
                peak = max(peak, server.memory_bytes())
                accepted = sum(s.accepted for s in senders)
                print(
                    f"\r{accepted / 1e6:9.0f} M readings, {accepted / (told - began) / 1e6:6.2f} M/s, {peak / 2**30:5.2f} GiB",
                    end="",
                    flush=True,
                )
        for _ in senders:
            waiting.put(None)
        for sender in senders:
            sender.join()
        acknowledged = time.perf_counter() - began
        while server.status()["lag"]["readings"]:
            time.sleep(0.05)
        counted = time.perf_counter() - began
        accepted = sum(s.accepted for s in senders)
        server.settle()
        status = server.status()
        peak = max(peak, server.memory_bytes())
        while server.status()["lake"]["behind"]:
            time.sleep(0.2)
        in_lake = time.perf_counter() - began
        print("\nchecking every channel", flush=True)
        compared, wrong = check(server, arguments.channels, sweeps, start_ms)
        files = list((server.folder / "data" / "lake").rglob("day=*/*.parquet"))
        lake_rows = sum(pq.read_metadata(f).num_rows for f in files)
        lake_bytes = sum(f.stat().st_size for f in files)
        latencies = sorted(x for s in senders for x in s.latencies)
        return {
            "channels": arguments.channels, "minutes": arguments.minutes, "order": arguments.order, "faults": arguments.faults,
            "readings": accepted, "seconds_acknowledged": acknowledged, "seconds_in_views": counted, "seconds_in_lake": in_lake,
            "readings_per_second": accepted / counted, "readings_per_second_with_lake": accepted / in_lake,
            "duplicates": status["duplicates"], "late": status["late"], "revisions": status["revisions"],
            "windows_checked": compared, "windows_wrong": wrong, "lake_rows": lake_rows, "lake_rows_wrong": lake_rows - accepted,
            "lake_bytes_per_reading": lake_bytes / max(lake_rows, 1), "peak_memory_bytes": peak, "register_seconds": registered,
            "ack_seconds_p50": statistics.median(latencies), "ack_seconds_p99": latencies[int(len(latencies) * 0.99)],
            "waits": sum(s.waits for s in senders),
        }  # fmt: skip
    finally:
        server.stop(keep=arguments.keep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=FLEET)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--order", choices=("sequential", "random"), default="sequential")
    parser.add_argument("--faults", action="store_true", help="1 %% duplicates, 1 %% late")
    parser.add_argument("--lateness", type=int, default=600, help="allowed lateness in seconds")
    parser.add_argument("--small", action="store_true", help="100,000 channels, 1 minute")
    parser.add_argument("--keep", action="store_true", help="keep the data")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.channels, arguments.minutes = min(arguments.channels, 100_000), min(arguments.minutes, 1)
    r = run(arguments)
    rows = [
        ("channels x sweeps", f"{r['channels']:,} x {int(r['minutes'] * 12)}", ""),
        ("readings acknowledged", f"{r['readings']:,}", ""),
        ("readings/s, counted in every view", f"{r['readings_per_second'] / 1e6:.2f} M", "must 5.25 M, aim 20 M"),
        ("readings/s, in the lake as well", f"{r['readings_per_second_with_lake'] / 1e6:.2f} M", ""),
        ("duplicates dropped / late / revisions", f"{r['duplicates']:,} / {r['late']:,} / {r['revisions']:,}", ""),
        ("channel windows and city minutes checked", f"{r['windows_checked']:,}", ""),
        ("of these wrong", f"{r['windows_wrong']:,}", "must 0"),
        ("lake rows less acknowledged", f"{r['lake_rows_wrong']:,}", "must 0"),
        ("lake bytes a reading, as arrived", f"{r['lake_bytes_per_reading']:.2f}", ""),
        ("peak memory (PSS, all processes)", f"{r['peak_memory_bytes'] / 1e9:.2f} GB", "must 10 GB, aim 6 GB"),
        (
            "ack p50 / p99 of a 12 MB body",
            f"{r['ack_seconds_p50'] * 1e3:.0f} / {r['ack_seconds_p99'] * 1e3:.0f} ms",
            "",
        ),
        ("registration of all channels", f"{r['register_seconds']:.1f} s", ""),
    ]
    name = "fleet" + ("_random" if arguments.order == "random" else "") + ("_faults" if arguments.faults else "")
    report(name, rows, r, arguments.save)
    if r["windows_wrong"] or r["lake_rows_wrong"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
