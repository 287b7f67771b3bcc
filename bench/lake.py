"""The lake by itself: bytes a reading as it arrives and when it is sorted, and how fast it is written and read.

python bench/lake.py                       a simulated city: 20 minutes of 5-second heartbeats, 10 million readings
python bench/lake.py --small               a village

The readings are the simulator's, with its faults (duplicates, late, out of order, missing), in batches as the log hands them
over. "As arrived" and "sorted" are the same rows before and after `compact`; complete sweeps in order are the best case,
rows in random order of channels the worst. Every row is read back and compared.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _common import report

from meterpulse import plugins
from meterpulse.lake import Lake
from meterpulse.model.reading import Readings
from meterpulse.simulator import City, Faults, heartbeats, parse, sweeps

START_MS = 1_767_268_800_000  # 2026-01-01 12:00 UTC
FAULTS = "duplicate=0.001,late=0.01,out_of_order=0.01,missing=0.005,sentinel=0.00001"
COMMIT_ROWS = 4 << 20


def arrivals(city: City, minutes: float, order: str) -> list[Readings]:
    """What the log holds: `simulated` with faults, `sweeps` complete and in order, or `random` in order of channels."""
    end = START_MS + int(minutes * 60_000)
    if order == "simulated":
        return list(sweeps(city, START_MS, end, 5, Faults(city, parse(FAULTS), START_MS, end, 5, None)))
    made = [heartbeats(city, at) for at in range(START_MS, end, 5_000)]
    if order == "random":
        rows = Readings.concat(made)
        shuffled = np.random.default_rng(1).permutation(len(rows))
        made = [rows.take(shuffled[first : first + (1 << 18)]) for first in range(0, len(rows), 1 << 18)]
    return made


def groups(batches: list[Readings]) -> Iterator[tuple[int, int]]:
    """Log offsets [first, after) of a commit."""
    first = rows = 0
    for offset, batch in enumerate(batches, 1):
        rows += len(batch)
        if rows >= COMMIT_ROWS or offset == len(batches):
            yield first, offset
            first, rows = offset, 0


def size(lake: Lake) -> tuple[int, int]:
    """(bytes, rows) of the files that count."""
    files = [file for day in lake.days() for file in lake.files(day)]
    return sum(f.bytes for f in files), sum(f.rows for f in files)


def digest(batches: Iterator[Readings] | list[Readings]) -> tuple[int, ...]:
    """(rows, and sums that every value of every row goes into): equal for the same rows in any order."""
    rows, sums = 0, np.zeros(3, np.uint64)
    for r in batches:
        rows += len(r)
        channel, start = r.channel.astype(np.uint64), r.full("start").astype(np.uint64)
        quantity, seconds = r.quantity.astype(np.uint64), r.full("seconds").astype(np.uint64)
        mixed = (channel * np.uint64(0x9E3779B97F4A7C15)) ^ (start * np.uint64(0xC2B2AE3D27D4EB4F))
        mixed ^= (
            (quantity * np.uint64(0x165667B19E3779F9))
            ^ (seconds << np.uint64(7))
            ^ r.full("revision").astype(np.uint64)
        )
        sums += np.array([mixed.sum(), (mixed * mixed).sum(), quantity.sum()], np.uint64)
    return rows, *sums.tolist()


def run(batches: list[Readings]) -> dict[str, Any]:
    """Writes, reads, compacts and reads again, in a lake of its own."""
    folder = Path(tempfile.mkdtemp(prefix="meterpulse-bench-"))
    try:
        lake: Lake = plugins.implementation("lake", "delta").open(folder / "lake")
        began = time.perf_counter()
        for first, after in groups(batches):
            lake.write(iter(batches[first:after]), first, after)
        written = time.perf_counter() - began
        arrived, rows = size(lake)
        began = time.perf_counter()
        found = [digest(lake.read(lake.files(day))) for day in lake.days()]
        read = time.perf_counter() - began
        began = time.perf_counter()
        for day in lake.days():
            lake.compact(day)
        compacted = time.perf_counter() - began
        sorted_bytes, sorted_rows = size(lake)
        again = [digest(lake.read(lake.files(day))) for day in lake.days()]
        want = digest(batches)
        lake.close()
        return {
            "rows": rows, "bytes_as_arrived": arrived / rows, "bytes_sorted": sorted_bytes / sorted_rows,
            "write_per_second": rows / written, "read_per_second": rows / read, "compact_per_second": rows / compacted,
            "right": len(found) == 1 and found[0] == want and again[0] == want,
        }  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--households", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="300 households, 5 minutes, one run")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.households, arguments.minutes, arguments.runs = (
            min(arguments.households, 300),
            min(arguments.minutes, 5),
            1,
        )
    city = City(arguments.households, seed=1)
    result: dict[str, Any] = {"channels": city.count, "minutes": arguments.minutes}
    rows = [("channels, minutes of 5-second heartbeats", f"{city.count:,}, {arguments.minutes:g}", "")]
    for order in ("simulated", "sweeps", "random"):
        batches = arrivals(city, arguments.minutes, order)
        runs = [run(batches) for _ in range(arguments.runs)]
        result[order] = runs
        must = "must 5, aim 4.1" if order == "simulated" else ""
        rows += [
            (f"{order}: readings", f"{runs[0]['rows']:,}", ""),
            ("  bytes a reading, sorted", f"{runs[0]['bytes_sorted']:.2f}", must),
            ("  bytes a reading, as arrived", f"{runs[0]['bytes_as_arrived']:.2f}", ""),
        ]
        for name in ("write", "read", "compact"):
            rates = sorted(r[f"{name}_per_second"] / 1e6 for r in runs)
            rows.append(
                (f"  {name}, readings/s", f"{statistics.median(rates):.1f} M ({rates[0]:.1f} .. {rates[-1]:.1f})", "")
            )
    wrong = sum(not r["right"] for order in ("simulated", "sweeps", "random") for r in result[order])
    rows.append(("runs in which a row was not as written", f"{wrong}", "must 0"))
    report("lake", rows, result, arguments.save)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
