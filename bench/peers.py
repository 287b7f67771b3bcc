"""The same input and the same tumbling sum with the engines that one would otherwise pick.

python bench/peers.py                      20 million readings of 1 million channels
python bench/peers.py --small              200,000 readings, without Spark

Input: Parquet files made beforehand (channel, start, quantity; one file a sweep). Task: count and sum per channel and 5-minute
window. All answers are compared, window by window. What each side gives:

    meterpulse    reads the files, posts Arrow over HTTP; each body fsynced before it is acknowledged, duplicates dropped,
                  min, max, last and the areas' minutes besides, readable at once while it runs, all readings in the lake
    DuckDB        one query over the files, its result in memory: nothing kept, nothing incremental, no duplicates dropped
    Spark batch   the same as DuckDB, its result collected as Arrow; pip's pyspark in a venv of its own, local[2]
    Spark stream  Structured Streaming over the same files with a watermark and a checkpoint on disk, window by window
                  appended to Parquet: what an incremental answer that survives a crash costs there
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _client import Generator
from _common import Server, report
from fleet import BODY_ROWS, body_of, register, values

START_MS = 1_767_268_800_000  # 2026-01-01 12:00 UTC
WINDOW_MS = 300_000
SPARK = "pyspark>=4,<5"
TASK = """select channel, start // 300000 as win, count(*) as n, sum(quantity) as total
from read_parquet('{files}') group by channel, win"""


def make_input(folder: Path, channels: int, sweeps: int) -> None:
    """One file a sweep, 15 seconds apart."""
    channel = np.arange(channels, dtype=np.uint32)
    for sweep in range(sweeps):
        quantity = np.empty(channels, np.int64)
        values(channel, sweep, quantity)
        start = np.full(channels, START_MS + sweep * 15_000, np.int64)
        table = pa.table(
            {"channel": pa.array(channel, pa.uint32()).cast(pa.int64()), "start": start, "quantity": quantity}
        )
        pq.write_table(table, folder / f"{sweep:05d}.parquet", compression="zstd")


def digest(channel: np.ndarray, window: np.ndarray, count: np.ndarray, total: np.ndarray) -> list[int]:
    """Rows and sums that each value of each row goes into."""
    mixed = channel.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ window.astype(np.uint64) * np.uint64(
        0xC2B2AE3D27D4EB4F
    )
    mixed ^= count.astype(np.uint64) * np.uint64(0x165667B19E3779F9) ^ total.astype(np.uint64) * np.uint64(
        0x27D4EB2F165667C5
    )
    return [
        len(channel),
        int(count.sum()),
        int(total.sum()),
        int(mixed.sum(dtype=np.uint64)),
        int((mixed * mixed).sum(dtype=np.uint64)),
    ]


def with_duckdb(files: Path) -> tuple[float, list[int]]:
    """(seconds, digest)."""
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    began = time.perf_counter()
    answer = connection.execute(TASK.format(files=f"{files}/*.parquet")).to_arrow_table()
    seconds = time.perf_counter() - began
    columns = [answer[c].cast(pa.int64()).to_numpy() for c in ("channel", "win", "n", "total")]
    return seconds, digest(*columns)


def read_and_post(port: int, files: str, connections: int) -> Any:
    """See Generator: reads the files and posts them; yields the rows that were acknowledged."""
    import queue

    from fleet import Sender

    yield None
    waiting: queue.Queue = queue.Queue(2)
    senders = [Sender(port, waiting) for _ in range(connections)]
    for sender in senders:
        sender.start()
    for file in sorted(Path(files).glob("*.parquet")):
        table = pq.read_table(file)
        columns = [table[c].to_numpy() for c in ("channel", "start", "quantity")]
        channel = columns[0].astype(np.uint32)
        for first in range(0, len(channel), BODY_ROWS):
            part = slice(first, first + BODY_ROWS)
            waiting.put(body_of(channel[part], columns[1][part], columns[2][part]))
    for _ in senders:
        waiting.put(None)
    for sender in senders:
        sender.join()
    yield sum(sender.accepted for sender in senders)


def with_meterpulse(files: Path, channels: int) -> tuple[float, float, list[int]]:
    """(seconds until acknowledged and counted in every view, seconds until in the lake too, digest)."""
    server = Server()
    try:
        server.start()
        register(server, channels)
        generator = Generator(read_and_post, server.port, str(files), 2)
        began = time.perf_counter()
        generator.start()
        accepted = generator.result()
        while server.status()["lag"]["readings"]:
            time.sleep(0.002)
        counted = time.perf_counter() - began
        while server.status()["lake"]["behind"]:
            time.sleep(0.02)
        in_lake = time.perf_counter() - began
        sweeps = len(list(files.glob("*.parquet")))
        parts = []
        for start in range(START_MS, START_MS + sweeps * 15_000, WINDOW_MS):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start / 1000))
            for first in range(0, channels, 1 << 20):
                body = server.get(
                    f"/v1/window.arrow?start={stamp}&first={first}&count={min(1 << 20, channels - first)}"
                )
                table = pa.ipc.open_stream(body).read_all()
                channel = table["channel"].to_numpy().astype(np.int64)
                window = np.full(len(channel), start // WINDOW_MS)
                parts.append((channel, window, table["count"].to_numpy(), table["sum"].to_numpy()))
        if accepted != channels * sweeps:
            raise SystemExit(f"{accepted} of {channels * sweeps} readings were accepted")
        return counted, in_lake, digest(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    finally:
        server.stop()


def spark_python() -> tuple[Path | None, str]:
    """A Python that has pyspark, in a venv of its own which is kept for the next run; or why there is none."""
    if shutil.which("java") is None:
        return None, "no java on this machine"
    folder = Path(tempfile.gettempdir()) / f"meterpulse-bench-spark-{os.getuid()}"
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        print("installing pyspark into a venv of its own", file=sys.stderr, flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
            install = [str(python), "-m", "pip", "install", "--quiet", SPARK, "pyarrow", "pandas", "numpy"]
            subprocess.run(install, check=True, capture_output=True, timeout=900)
            (folder / "done").touch()
        except (subprocess.SubprocessError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            return None, f"pyspark could not be installed ({type(error).__name__})"
    return python, ""


def with_spark(python: Path, files: Path, runs: int, scratch: Path) -> tuple[dict[str, Any] | None, str]:
    """Figures and digests of both ways, or why there are none."""
    script = Path(__file__).with_name("_spark.py")
    command = [str(python), str(script), str(files), str(runs), str(scratch)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=3600, env={**os.environ, "PYSPARK_PYTHON": str(python)}
    )
    if done.returncode:
        return (
            None,
            f"Spark failed: {done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else done.returncode}",
        )
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=1_000_000)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--without-spark", action="store_true")
    parser.add_argument("--small", action="store_true", help="20,000 channels, 10 sweeps, one run, without Spark")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.channels, arguments.sweeps, arguments.runs, arguments.without_spark = (
            min(arguments.channels, 20_000),
            10,
            1,
            True,
        )
    values(np.zeros(1, np.uint32), 0, np.zeros(1, np.int64))
    folder = Path(tempfile.mkdtemp(prefix="meterpulse-bench-"))
    spark, reason = None, "left out"
    try:
        files = folder / "input"
        files.mkdir()
        make_input(files, arguments.channels, arguments.sweeps)
        rows_in = arguments.channels * arguments.sweeps
        duck = [with_duckdb(files) for _ in range(arguments.runs)]
        ours = [with_meterpulse(files, arguments.channels) for _ in range(arguments.runs)]
        if not arguments.without_spark:
            python, reason = spark_python()
            if python is not None:
                spark, reason = with_spark(python, files, arguments.runs, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    wanted = duck[0][1]
    wrong = sum(
        d != wanted for d in [*(d for _, d in duck), *(d for _, _, d in ours), *(spark["digests"] if spark else [])]
    )

    def figure(seconds: list[float]) -> str:
        rates = sorted(rows_in / s / 1e6 for s in seconds)
        return f"{statistics.median(rates):.2f} M ({rates[0]:.2f} .. {rates[-1]:.2f})"

    rows = [
        ("readings, channels, runs", f"{rows_in:,}, {arguments.channels:,}, {arguments.runs}", ""),
        (
            "meterpulse, counted in every view, readings/s",
            figure([s for s, _, _ in ours]),
            "fsynced, deduplicated, queryable",
        ),
        ("  in the lake as well", figure([s for _, s, _ in ours]), "and kept for ever"),
        ("DuckDB, one query over the files", figure([s for s, _ in duck]), "nothing kept"),
    ]
    if spark:
        rows += [
            (f"Spark {spark['version']}, one query over the files", figure(spark["batch_seconds"]), "nothing kept"),
            (
                f"Spark {spark['version']}, Structured Streaming",
                figure(spark["stream_seconds"]),
                "checkpointed, once per window",
            ),
        ]
    else:
        rows.append(("Spark", "none", reason))
    rows.append(("answers that differ", f"{wrong}", "must 0"))
    ours_seconds, duck_seconds = (
        [list(x) for x in zip(*((a, b) for a, b, _ in ours), strict=True)],
        [s for s, _ in duck],
    )
    result = {
        "readings": rows_in,
        "meterpulse_seconds": ours_seconds,
        "duckdb_seconds": duck_seconds,
        "spark": spark,
        "spark_reason": reason,
    }
    report("peers", rows, result, arguments.save)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
