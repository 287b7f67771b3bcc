"""JSON as UtilityAPI sends it: records of 12 fields and 331 bytes, over HTTP, with every guarantee on.

python bench/json_records.py                 6 million records, three runs
python bench/json_records.py --small         200,000 records, one run

Bodies (NDJSON, `?layout=utilityapi`) are made beforehand by a process of its own, which then posts them over two kept
connections. At the end the count, sum, min, max and last of every window of every channel are compared with what was sent.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
from _client import Generator
from _common import Server, report

NDJSON = "application/x-ndjson"
RECORD_BYTES = 331
BEAT_MS = 5_000
TEMPLATE = (
    '{"authorization_uid":"183411","meter_uid":"2149382","utility":"CONED","service_uid":"E-000000",'
    '"service_tariff":"EL1 Residential","service_class":"electric","service_address":"ADDRESS",'
    '"interval_start":"YYYY-MM-DDTHH:MM:SSZ","interval_end":"YYYY-MM-DDTHH:MM:SSZ","interval_kWh":0.000,'
    '"net_kWh":0.000,"source":"interval"}\n'
)


def template() -> bytes:
    """One line of 331 bytes and 12 fields."""
    filler = RECORD_BYTES + len("ADDRESS") - len(TEMPLATE)
    line = TEMPLATE.replace(
        "ADDRESS", "1480 Atlantic Avenue Apartment 4C, Brooklyn, NY 11216, USA"[:filler].ljust(filler, ".")
    )
    assert len(line) == RECORD_BYTES and len(json.loads(line)) == 12
    return line.encode()


def watt_hours(channel: np.ndarray, beat: int) -> np.ndarray:
    """0 to 999, so that three decimals of kWh are exact."""
    return (channel.astype(np.int64) * 7919 + beat * 104_729 + channel * beat % 13) % 1_000


def stamp(ms: int) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))


def lines(channels: int, beat: int, start_ms: int) -> np.ndarray:
    """uint8[channels, 331]: one record of every channel."""
    line = template()
    out = np.tile(np.frombuffer(line, np.uint8), (channels, 1))
    channel = np.arange(channels)

    def digits(at: int, numbers: np.ndarray, count: int) -> None:
        for place in range(count):
            out[:, at + count - 1 - place] = numbers // 10**place % 10 + 48

    digits(line.index(b"E-000000") + 2, channel, 6)
    digits(line.index(b'"interval_kWh":0.') + 17, watt_hours(channel, beat), 3)
    digits(line.index(b'"net_kWh":0.') + 12, watt_hours(channel, beat), 3)
    for name, ms in ((b'"interval_start":"', start_ms), (b'"interval_end":"', start_ms + BEAT_MS)):
        at = line.index(name) + len(name)
        out[:, at : at + 20] = np.frombuffer(stamp(ms).encode(), np.uint8)
    return out


def generate(port: int, channels: int, beats: int, start_ms: int, beats_a_body: int, connections: int) -> Any:
    """See Generator: makes all bodies, then posts them; yields (seconds, accepted, latencies)."""
    bodies = [
        b"".join(
            lines(channels, b, start_ms + b * BEAT_MS).tobytes() for b in range(first, min(first + beats_a_body, beats))
        )
        for first in range(0, beats, beats_a_body)
    ]
    yield None
    began = time.perf_counter()
    latency, accepted, failed = [0.0] * len(bodies), [0] * len(bodies), []

    def send(own: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        for number in range(own, len(bodies), connections):
            while True:
                at = time.perf_counter()
                connection.request("POST", "/v1/readings?layout=utilityapi", bodies[number], {"content-type": NDJSON})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 503:
                    time.sleep(0.1)
                    continue
                if answer.status != 200:
                    failed.append(text)
                    return
                break
            latency[number] = time.perf_counter() - at
            accepted[number] = json.loads(text)["accepted"]

    threads = [threading.Thread(target=send, args=(i,)) for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"refused: {failed[0][:300]!r}")
    yield time.perf_counter() - began, sum(accepted), latency


def check(server: Server, channels: int, beats: int, start_ms: int) -> tuple[int, int]:
    """(windows compared, windows wrong)."""
    compared = wrong = 0
    for first in range(0, beats, 60):
        q = np.stack([watt_hours(np.arange(channels), b) * 1000 for b in range(first, min(first + 60, beats))])
        want = np.stack([np.full(channels, len(q)), q.sum(axis=0), q.min(axis=0), q.max(axis=0), q[-1]], axis=1)
        found = server.get(f"/v1/window.arrow?start={stamp(start_ms + first * BEAT_MS)}&first=0&count={channels}")
        table = pa.ipc.open_stream(found).read_all()
        got = np.zeros((channels, 5), np.int64)
        columns = [table[c].to_numpy() for c in ("count", "sum", "min", "max", "last")]
        got[table["channel"].to_numpy()] = np.stack(columns, axis=1)
        compared += channels
        wrong += int((got != want).any(axis=1).sum())
    return compared, wrong


def run(channels: int, records: int, connections: int) -> dict[str, Any]:
    """One run against a server of its own."""
    server = Server()
    try:
        server.start()
        ids = [
            {"id": f"E-{c:06d}", "utility": "electricity", "unit": "kWh", "interval_seconds": 5}
            for c in range(channels)
        ]
        server.post("/v1/channels", json.dumps(ids).encode(), "application/json")
        beats = -(-records // channels)
        start_ms = (int(time.time() * 1000) - beats * BEAT_MS) // 300_000 * 300_000
        generator = Generator(generate, server.port, channels, beats, start_ms, max(1, 48_000 // channels), connections)
        worked = server.cpu_seconds()
        generator.start()
        seconds, accepted, latency = generator.result()
        began = time.perf_counter()
        while server.status()["lag"]["readings"]:
            time.sleep(0.005)
        counted = seconds + time.perf_counter() - began
        worked = server.cpu_seconds() - worked
        server.settle()
        compared, wrong = check(server, channels, beats, start_ms)
        return {
            "records": beats * channels, "accepted": accepted, "records_per_second": accepted / counted,
            "records_per_second_acknowledged": accepted / seconds, "megabytes_per_second": accepted * RECORD_BYTES / seconds / 1e6,
            "cpu_us_a_record": worked / accepted * 1e6, "ack_ms_p50": statistics.median(latency) * 1e3,
            "windows_checked": compared, "windows_wrong": wrong,
        }  # fmt: skip
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=8_000)
    parser.add_argument("--records", type=int, default=6_000_000)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="200,000 records, one run")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.records, arguments.runs = min(arguments.records, 200_000), 1
    runs = [run(arguments.channels, arguments.records, arguments.connections) for _ in range(arguments.runs)]
    rates = sorted(r["records_per_second"] for r in runs)
    wrong = sum(r["windows_wrong"] for r in runs)
    lost = sum(r["records"] - r["accepted"] for r in runs)
    result = {"channels": arguments.channels, "records_per_second": statistics.median(rates), "runs": runs}
    rows = [
        ("records of 12 fields and 331 bytes, runs", f"{runs[0]['records']:,} x {len(runs)}", ""),
        ("channels, connections", f"{arguments.channels:,}, {arguments.connections}", ""),
        (
            "records/s, counted in every view: median",
            f"{statistics.median(rates) / 1e6:.2f} M",
            "must 0.75 M, aim 1.5 M",
        ),
        ("  least and most", f"{rates[0] / 1e6:.2f} .. {rates[-1] / 1e6:.2f} M", ""),
        ("MB/s of JSON", f"{statistics.median(r['megabytes_per_second'] for r in runs):.0f}", ""),
        ("ack p50 of a 16 MB body", f"{statistics.median(r['ack_ms_p50'] for r in runs):.0f} ms", ""),
        ("server's CPU time a record", f"{statistics.median(r['cpu_us_a_record'] for r in runs):.2f} us", ""),
        ("records not accepted", f"{lost:,}", "must 0"),
        ("windows checked", f"{sum(r['windows_checked'] for r in runs):,}", ""),
        ("of these wrong", f"{wrong:,}", "must 0"),
    ]
    report("json_records", rows, result, arguments.save)
    if wrong or lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
