"""Days computed again from the lake: duplicates dropped, revisions applied, views and the record of intervals written.

python bench/rebuild.py                    two days of 8,192 channels' 5-second heartbeats, 292 million readings
python bench/rebuild.py --seconds 900      15-minute readings of 500,000 channels
python bench/rebuild.py --small            a minute's worth

The lake holds every reading of the days in random order of channels and times, spread over files in the order of commits:
1 % of the readings have a revision that replaces them, 2 % of all rows came twice. Each run rebuilds all days through the
same code as the server, and every window of every channel and every hour of the areas is compared with what the generator
says. DuckDB and Spark drop duplicates, apply revisions and make the windows of the first day from the same files, with the
result in memory; their answers are compared as well.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from _common import report
from numba import njit
from peers import spark_python

from meterpulse import plugins
from meterpulse.config import load
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS, day_text
from meterpulse.pipeline import Pipeline
from meterpulse.stores import BLOCK
from meterpulse.stores.rollup import day_rows

DAY = 20_454  # 2026-01-01
COMMIT_ROWS = 4 << 20
ROUND = 512  # channels that are made at a time
DUPLICATES, REVISIONS = 0.02, 0.01


@njit(cache=True)
def shuffle(order, seed):  # type: ignore[no-untyped-def]
    """In place; numpy's takes ten times as long."""
    x = np.uint64(seed * 2 + 1)
    for i in range(len(order) - 1, 0, -1):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
        j = np.int64(x % np.uint64(i + 1))
        order[i], order[j] = order[j], order[i]


def rows_of_channels(first: int, channels: int, day: int, seconds: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """(channel, slot, quantity, revision) of all rows in order, and what stands: int32[channels, slots]."""
    rng, slots = np.random.default_rng((first, day, seconds)), 86_400 // seconds
    level = rng.integers(200, 5_000, channels, np.int32)
    stands = level[:, None] + rng.integers(0, 2_000, (channels, slots), np.int32)
    cells = np.arange(channels * slots, dtype=np.int32)
    original, revision = stands.reshape(-1).copy(), np.zeros(channels * slots, np.int8)
    revised = np.flatnonzero(rng.random(channels * slots, np.float32) < REVISIONS).astype(np.int32)
    original[revised] += rng.integers(1, 1_000, len(revised), np.int32)
    again = np.flatnonzero(rng.random(channels * slots, np.float32) < DUPLICATES * (1 + REVISIONS)).astype(np.int32)
    place = np.concatenate([cells, revised, again])
    quantity = np.concatenate([original, stands.reshape(-1)[revised], original[again]])
    grade = np.concatenate([revision, np.ones(len(revised), np.int8), np.zeros(len(again), np.int8)])
    channel = (place // slots + first).astype(np.uint32)
    return (channel, (place % slots).astype(np.int32), quantity, grade), stands


def truth_of(stands: np.ndarray, seconds: int) -> np.ndarray:
    """int64[channels, 288, 5] of the readings that stand."""
    channels, slots = stands.shape
    out = np.zeros((channels, 288, 5), np.int64)
    if seconds <= 300:
        window = stands.reshape(channels, 288, slots // 288).astype(np.int64)
        out[:, :, 0] = window.shape[2]
        for i, made in enumerate((window.sum(2), window.min(2), window.max(2), window[:, :, -1]), 1):
            out[:, :, i] = made
    else:
        out[:, :: seconds // 300, 0] = 1
        for i in range(1, 5):
            out[:, :: seconds // 300, i] = stands
    return out


def write_lake(folder: Path, channels: int, days: int, seconds: int) -> tuple[int, list[np.ndarray]]:
    """(rows, the truth of each day)."""
    lake = plugins.implementation("lake", "delta").open(folder / "lake")
    rows, truths, offset = 0, [], 0
    for day in range(DAY, DAY + days):
        pieces, truth = [], []
        for first in range(0, channels, ROUND):
            columns, stands = rows_of_channels(first, min(ROUND, channels - first), day, seconds)
            order = np.arange(len(columns[0]))
            shuffle(order, first + day)
            pieces.append(tuple(c[order] for c in columns))
            truth.append(truth_of(stands, seconds))
        truths.append(np.concatenate(truth))
        total = sum(len(p[0]) for p in pieces)
        commits = -(-total // COMMIT_ROWS)
        for k in range(commits):
            own = [tuple(c[len(p[0]) * k // commits : len(p[0]) * (k + 1) // commits] for c in p) for p in pieces]
            channel, slot, quantity, revision = (np.concatenate(c) for c in zip(*own, strict=True))
            order = np.arange(len(channel))
            shuffle(order, k + 7)
            start = slot[order].astype(np.int64) * (seconds * 1000) + day * DAY_MS
            batch = Readings.of(channel[order], start, seconds, quantity[order], revision[order])
            lake.write(iter([batch]), offset, offset + 1)
            offset += 1
        rows += total
    lake.close()
    return rows, truths


class Peak:
    """The largest resident memory of this process and its children while it is watched."""

    def __enter__(self) -> Peak:
        self.bytes, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.05):
            self.bytes = max(
                self.bytes, sum(p.memory_info().rss for p in [me, *me.children(recursive=True)] if p.is_running())
            )

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def city(folder: Path, channels: int, days: int, seconds: int) -> Pipeline:
    """The data opened as the server does, its days past the boundary."""
    config = load({"data": str(folder), "batch": {"quiet_seconds": 3600}, "demo": {"enabled": False}})
    p = Pipeline.open(config, clock=lambda: (DAY + days + 30) * DAY_MS)
    i = np.arange(channels)
    shapes = {
        "id": pa.array([f"E-{k:08d}" for k in range(channels)]),
        "utility": pa.array(["electricity"] * channels),
        "unit": pa.array(["kWh"] * channels),
        "interval_seconds": pa.array(np.full(channels, seconds, np.int32)),
        "area": pa.array([f"{k:05d}" for k in (i // 100 % 200).tolist()]),
    }
    p.registry.register(pa.table(shapes))
    p.lake.started.wait(60)
    p.engine.retire((DAY + days) * DAY_MS)
    while (
        p.keeper.boundary_ms < (DAY + days) * DAY_MS or p.engine.marks
    ):  # the first rebuild comes by itself, and compiles
        time.sleep(0.01)
    return p


def wrong_answers(p: Pipeline, day: int, truth: np.ndarray, seconds: int) -> int:
    """Windows of channels, minutes of areas, hours and days that are not what the generator says."""
    wrong, channels = 0, len(truth)
    for block in range(-(-channels // BLOCK)):
        want = truth[block * BLOCK : (block + 1) * BLOCK]
        got, _ = day_rows(p.store, "usage_5m", block, day, len(want), 5)
        wrong += want.size if got is None else int((got != want).any(axis=2).sum())
        for view, steps in (("usage_1h", 24), ("usage_1d", 1)):
            chunk = p.store.chunk(view, block, day * DAY_MS)
            sums = want[:, :, 1].reshape(len(want), steps, -1).sum(axis=2)
            wrong += sums.size if chunk is None else int((chunk.rows[: len(want), :steps, 1] != sums).sum())
    group_of = p.keys.group_of()
    by_group = np.zeros((p.keys.group_count(), 24), np.int64)
    np.add.at(by_group, group_of, truth[:, :, 1].reshape(channels, 24, 12).sum(axis=2))
    for block in range(-(-len(by_group) // BLOCK)):
        got, _ = day_rows(p.store, "area_1m", block, day, len(by_group[block * BLOCK : (block + 1) * BLOCK]), 4)
        want = by_group[block * BLOCK : (block + 1) * BLOCK]
        wrong += want.size if got is None else int((got[:, :, 1].reshape(len(want), 24, 60).sum(axis=2) != want).sum())
    return wrong


PEER_SQL = """
with stands as (select channel, start, max_by(quantity, revision) as q from read_parquet(?) group by channel, start)
select channel, epoch_ms(start) // 300000 as win, count(*) as count, sum(q)::bigint as sum, min(q) as min, max(q) as max,
       max_by(q, start) as last
from stands group by channel, win
"""


def wrong_windows(table: pa.Table, day: int, truth: np.ndarray) -> int:
    """Windows of a peer's answer that are not what the generator says."""
    got = np.zeros_like(truth)
    columns = {name: table.column(name).to_numpy().astype(np.int64) for name in table.column_names}
    at = columns["channel"], columns["win"] - day * 288
    for i, name in enumerate(("count", "sum", "min", "max", "last")):
        got[(*at, i)] = columns[name]
    return int((got != truth).any(axis=2).sum())


def with_duckdb(folder: Path, day: int, truth: np.ndarray, runs: int) -> tuple[list[float], int]:
    """(seconds of each run, windows that are wrong): the result in memory."""
    files = sorted(map(str, (folder / "lake" / "readings" / f"day={day_text(day)}").glob("*.parquet")))
    seconds = []
    with duckdb.connect(
        config={"threads": 2, "memory_limit": "8GB", "temp_directory": str(folder / "spill")}
    ) as connection:
        for _ in range(runs):
            began = time.perf_counter()
            table = connection.sql(PEER_SQL, params=[files]).to_arrow_table()
            seconds.append(time.perf_counter() - began)
    return seconds, wrong_windows(table, day, truth)


def with_spark(folder: Path, day: int, truth: np.ndarray, runs: int) -> tuple[list[float], int, str]:
    """As `with_duckdb`; no seconds and the reason where there is no Spark."""
    python, reason = spark_python()
    if python is None:
        return [], 0, reason
    files, out = folder / "lake" / "readings" / f"day={day_text(day)}", folder / "spark.parquet"
    command = [str(python), str(Path(__file__).with_name("_spark_rebuild.py")), str(files), str(runs), str(out)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        return [], 0, f"failed: {ended.stderr.strip()[-200:]}"
    told = json.loads(ended.stdout.splitlines()[-1])
    return told["seconds"], wrong_windows(pq.read_table(out), day, truth), f"Spark {told['version']}"


def peers(
    folder: Path, rows: int, truth: np.ndarray, runs: int
) -> tuple[list[tuple[str, str, str]], dict[str, Any], int]:
    """(lines of the table, what to keep, wrong windows), each on the first day's files."""
    duck, wrong_duck = with_duckdb(folder, DAY, truth, runs)
    spark, wrong_spark, name = with_spark(folder, DAY, truth, runs)
    lines = [(f"  DuckDB {duckdb.__version__}, the windows only", _rate(rows, duck), "in memory, nothing kept")]
    if spark:
        lines.append((f"  {name}, the windows only", _rate(rows, spark), "in memory, nothing kept"))
    else:
        lines.append(("  Spark", name, ""))
    return lines, {"duckdb_seconds": duck, "spark_seconds": spark, "spark": name}, wrong_duck + wrong_spark


def _rate(rows: int, seconds: list[float]) -> str:
    rates = sorted(rows / s / 1e6 for s in seconds)
    return f"{statistics.median(rates):.1f} M ({rates[0]:.1f} .. {rates[-1]:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, help="default 8192, or 500000 where readings are 5 minutes or longer")
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=5, help="from one reading to the next")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--small", action="store_true", help="300 channels, one run, without peers")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    channels = arguments.channels or (8_192 if arguments.seconds < 300 else 500_000)
    if arguments.small:
        channels, arguments.runs, arguments.without_peers = min(channels, 300), 1, True
    folder = Path(tempfile.mkdtemp(prefix="meterpulse-bench-"))
    try:
        rows, truths = write_lake(folder, channels, arguments.days, arguments.seconds)
        size = sum(f.stat().st_size for f in (folder / "lake").rglob("*.parquet"))
        seconds, wrong, busy = [], 0, []
        with city(folder, channels, arguments.days, arguments.seconds) as p, Peak() as peak:
            for _ in range(arguments.runs):
                began, cpu = time.perf_counter(), time.process_time()
                for day in range(DAY, DAY + arguments.days):
                    p.rebuilder.rebuild(day)
                seconds.append(time.perf_counter() - began)
                busy.append(time.process_time() - cpu)
            for day, truth in enumerate(truths, DAY):
                wrong += wrong_answers(p, day, truth, arguments.seconds)
        others, kept, wrong_peers = [], {}, 0
        if not arguments.without_peers:
            others, kept, wrong_peers = peers(folder, rows // arguments.days, truths[0], min(arguments.runs, 2))
        result: dict[str, Any] = {
            "rows": rows,
            "seconds": seconds,
            "cpu_seconds": busy,
            "peak_bytes": peak.bytes,
        } | kept
        table = [
            ("readings, channels, days, runs", f"{rows:,}, {channels:,}, {arguments.days}, {arguments.runs}", ""),
            (
                "rebuilt, readings/s",
                _rate(rows, seconds),
                "must 15 M, aim 30 M",
            ),
            *others,
            ("  processor time a reading", f"{statistics.median(busy) / rows * 1e9:.0f} ns", ""),
            ("bytes a reading in the lake", f"{size / rows:.1f}", ""),
            ("memory at the peak", f"{peak.bytes / 2**30:.2f} GiB", "must 8, aim 4"),
            ("answers that differ", f"{wrong}", "must 0"),
            *([("answers of the others that differ", f"{wrong_peers}", "must 0")] if others else []),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report("rebuild" if arguments.seconds == 5 else f"rebuild_{arguments.seconds}s", table, result, arguments.save)
    if wrong or wrong_peers:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
