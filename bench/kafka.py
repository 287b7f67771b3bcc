"""Readings through a real Kafka, from topics that are full already, into the synced log and every view.

python bench/kafka.py                  6 million JSON messages of one reading, 60 million readings in Arrow messages, three runs
python bench/kafka.py --small          200,000 and 2 million, one run
python bench/kafka.py --nodes 3        a cluster of three on this machine, each message on three

Topics (three partitions, keyed by channel) are filled beforehand; then meterpulse, or a peer, starts with them. A run's clock
goes from the first reading that is in our log until all are counted in the views. Then every window of every channel is
compared with what was sent. The peers read the same topic with the same client: one only counts messages, one parses them
(orjson) and sums per channel in a dictionary; neither stores anything. Brokers and readers share the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _common import Server, report
from json_records import BEAT_MS, check, stamp, watt_hours

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.services import kafka as service  # noqa: E402

PARTITIONS = 3
AIM_MESSAGES, AIM_READINGS = 300_000, 5_000_000
TEMPLATE = b'{"channel":"E-000000","start":"YYYY-MM-DDTHH:MM:SSZ","seconds":5,"quantity":0.000}'
_PEER = """
import sys, time
from confluent_kafka import Consumer, TopicPartition
servers, topic, count, parses = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "sums"
size = min(count // 10, 1_000)  # larger ones are slower: each call waits until it has them all
if parses:
    import orjson
reader = Consumer({"bootstrap.servers": servers, "group.id": "peer", "enable.auto.commit": False,
                   "isolation.level": "read_committed"})
reader.assign([TopicPartition(topic, p, 0) for p in range(3)])
seen, began, sums = 0, None, {}
while seen < count:
    messages = reader.consume(size, 1.0) if seen else [reader.poll(60)]
    if began is None:
        began = time.perf_counter()
    if parses:
        for message in messages:
            reading = orjson.loads(message.value())
            sums[reading["channel"]] = sums.get(reading["channel"], 0) + reading["quantity"]
    seen += len(messages)
print(count / (time.perf_counter() - began))
"""


def json_messages(channels: int, beat: int, start_ms: int) -> list[bytes]:
    """One reading of every channel."""
    out = np.tile(np.frombuffer(TEMPLATE, np.uint8), (channels, 1))
    at = TEMPLATE.index(b"YYYY")
    out[:, at : at + 20] = np.frombuffer(stamp(start_ms + beat * BEAT_MS).encode(), np.uint8)
    for at, values, count in (
        (TEMPLATE.index(b"E-") + 2, np.arange(channels), 6),
        (TEMPLATE.index(b"0.000") + 2, watt_hours(np.arange(channels), beat), 3),
    ):
        for place in range(count):
            out[:, at + count - 1 - place] = values // 10**place % 10 + 48
    body, size = out.tobytes(), len(TEMPLATE)
    return [body[at : at + size] for at in range(0, len(body), size)]


def arrow_message(channels: int, beat: int, start_ms: int) -> bytes:
    """One reading of every channel, in columns."""
    table = pa.record_batch({
        "channel": pa.array(np.arange(channels, dtype=np.uint32)),
        "start": pa.array(np.full(channels, start_ms + beat * BEAT_MS), pa.timestamp("ms", "UTC")),
        "quantity": pa.array(watt_hours(np.arange(channels), beat) * 1000),
    })  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    return sink.getvalue().to_pybytes()


def fill(servers: str, topic: str, kind: str, channels: int, beats: int, start_ms: int) -> float:
    """Messages a second that the brokers took, acks=all."""
    from confluent_kafka import Producer

    producer = Producer({
        "bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 20, "batch.size": 900_000,
        "queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 256 << 10,
    })  # fmt: skip
    keys, count, began = [b"E-%06d" % c for c in range(channels)], 0, time.perf_counter()
    for beat in range(beats):
        if kind == "arrow":
            batch: list[dict[str, Any]] = [{"value": arrow_message(channels, beat, start_ms)}]
        else:
            values = json_messages(channels, beat, start_ms)
            batch = [{"value": value, "key": key} for value, key in zip(values, keys, strict=True)]
        count += len(batch)
        while batch:
            producer.produce_batch(topic, batch, partition=beat % PARTITIONS if kind == "arrow" else -1)
            batch = [each for each in batch if "_error" in each]
            for each in batch:
                del each["_error"]
            producer.poll(0.05 if batch else 0)
    if producer.flush(300):
        raise SystemExit("the brokers did not take everything")
    return count / (time.perf_counter() - began)


def drain(servers: str, topic: str, channels: int, beats: int, start_ms: int) -> dict[str, Any]:
    """One run of meterpulse over a full topic."""
    server = Server(
        {
            "METERPULSE_INGEST__KAFKA__SERVERS": servers,
            "METERPULSE_INGEST__KAFKA__TOPICS": json.dumps([topic]),
            "METERPULSE_SPEED__MAX_LAG_READINGS": "20000000",
        }
    )
    try:
        # The channels are registered before it listens: a start without Kafka, then one with it.
        listening, server._settings = server._settings, {}
        server.start()
        ids = [
            {"id": f"E-{c:06d}", "utility": "electricity", "unit": "kWh", "interval_seconds": 5}
            for c in range(channels)
        ]
        server.post("/v1/channels", json.dumps(ids).encode(), "application/json")
        server.stop(keep=True)
        server._settings = listening
        server.start()
        wanted, began, worked = channels * beats, 0.0, server.cpu_seconds()
        while True:
            status = server.status()
            now = time.perf_counter()
            if not began and status["accepted"]:
                began, first = now, status["accepted"] - status["lag"]["readings"]
            if status["accepted"] >= wanted and not status["lag"]["readings"]:
                break
            time.sleep(0.02)
        seconds, worked = now - began, server.cpu_seconds() - worked
        server.settle()
        status = server.status()
        compared, wrong = check(server, channels, beats, start_ms)
        return {
            "readings_per_second": (wanted - first) / seconds, "seconds": seconds, "cpu_us_a_reading": worked / wanted * 1e6,
            "accepted": status["accepted"], "duplicates": status["duplicates"], "late": status["late"],
            "windows_checked": compared, "windows_wrong": wrong + (status["accepted"] != wanted),
        }  # fmt: skip
    finally:
        server.stop()


def peer(servers: str, topic: str, count: int, what: str) -> float:
    """Messages a second of a plain consumer."""
    command = [sys.executable, "-c", _PEER, servers, topic, str(count), what]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def run(nodes: int, channels: tuple[int, int], messages: int, readings: int, runs: int) -> dict[str, Any]:
    """All figures."""
    result: dict[str, Any] = {"nodes": nodes}
    with (
        tempfile.TemporaryDirectory(prefix="meterpulse-bench-") as folder,
        service.Kafka(Path(folder), nodes=nodes) as cluster,
    ):
        for kind, total, own in (("json", messages, channels[0]), ("arrow", readings, channels[1])):
            beats = -(-total // own)
            start_ms = (int(time.time() * 1000) - beats * BEAT_MS) // 300_000 * 300_000
            cluster.make_topics(kind, partitions=PARTITIONS)
            result[f"{kind}_filled_per_second"] = fill(cluster.bootstrap, kind, kind, own, beats, start_ms)
            count = beats if kind == "arrow" else beats * own
            result[f"{kind}_channels"], result[f"{kind}_messages"] = own, count
            result[f"{kind}_runs"] = [drain(cluster.bootstrap, kind, own, beats, start_ms) for _ in range(runs)]
            result[f"{kind}_peer_counts"] = [peer(cluster.bootstrap, kind, count, "counts") for _ in range(runs)]
            if kind == "json":
                result["json_peer_sums"] = [peer(cluster.bootstrap, kind, count, "sums") for _ in range(runs)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1, choices=(1, 3))
    parser.add_argument("--messages", type=int, default=6_000_000)
    parser.add_argument("--readings", type=int, default=60_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="200,000 messages, 2 million readings, one run")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if (why := service.missing()) is not None:
        raise SystemExit(why)
    if arguments.small:
        arguments.messages, arguments.readings, arguments.runs = 200_000, 2_000_000, 1
    result = run(arguments.nodes, (8_000, 40_000), arguments.messages, arguments.readings, arguments.runs)

    def spread(values: list[float]) -> str:
        return f"{statistics.median(values):,.0f} ({min(values):,.0f} .. {max(values):,.0f})"

    rows, wrong = [("brokers on this machine, copies of a message", f"{arguments.nodes}", "")], 0
    for kind, aim in (("json", AIM_MESSAGES), ("arrow", AIM_READINGS)):
        runs = result[f"{kind}_runs"]
        what = "JSON messages of one reading" if kind == "json" else "readings in Arrow messages of 40,000"
        wrong += sum(each["windows_wrong"] for each in runs)
        rates = [each["readings_per_second"] for each in runs]
        peers = result[f"{kind}_peer_counts"]
        rows += [
            (f"{what}, runs", f"{runs[0]['accepted']:,} x {len(runs)}", ""),
            ("  a second, logged, synced and counted", spread(rates), f"aim {aim:,}"),
            ("  our CPU time a reading", f"{statistics.median(e['cpu_us_a_reading'] for e in runs):.2f} us", ""),
            ("  windows checked, wrong", f"{sum(e['windows_checked'] for e in runs):,}, {wrong}", "must 0 wrong"),
            ("  peer: a consumer that counts, messages/s", spread(peers), ""),
        ]
        if kind == "json":
            rows.append(("  peer: orjson, sums in a dictionary", spread(result["json_peer_sums"]), ""))
        else:
            rows.append(("  the same in readings/s", spread([40_000 * each for each in peers]), ""))
        rows.append(("  filling the topic, messages/s", f"{result[f'{kind}_filled_per_second']:,.0f}", ""))
    report("kafka" if arguments.nodes == 1 else f"kafka_{arguments.nodes}", rows, result, arguments.save)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
