"""The registry at the size of a big city: bulk registration, start, look-ups, memory. Checks every id.

python bench/registry.py --channels 26230887

Three channels per home (E-, G-, W-0000001, ...), each with its own usage point and meter. "random" asks in a shuffled
order, "gaps" for every third id in order, "long" for ids of 23 bytes. The peer is what one would write without the
registry: a Python dict, with the ids already decoded to str.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterpulse.registry import Registry

UTILITIES = (("E", "electricity", "kWh"), ("G", "gas", "m3"), ("W", "water", "m3"))
MUST_REGISTER_SECONDS, MUST_OPEN_SECONDS, MUST_LOOKUPS, MUST_RESIDENT_BYTES = 120, 5, 20e6, 1e9
CHUNK = 1 << 20
SAMPLE = 4_000_000


def numbered(prefix: str, numbers: np.ndarray, digits: int = 7) -> pa.Array:
    """prefix and a zero-padded number, as an Arrow string column."""
    head = np.frombuffer(prefix.encode(), np.uint8)
    out = np.empty((len(numbers), len(head) + digits), np.uint8)
    out[:, : len(head)] = head
    rest = numbers.astype(np.int64)
    for place in range(out.shape[1] - 1, len(head) - 1, -1):
        rest, digit = np.divmod(rest, 10)
        out[:, place] = digit + 48
    ends = np.arange(len(numbers) + 1, dtype=np.int32) * np.int32(out.shape[1])
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(ends), pa.py_buffer(out.reshape(-1))])


def write_channels(path: Path, channels: int) -> None:
    """The Parquet file of all channels, utility by utility."""
    homes = -(-channels // 3)
    writer = None
    for first in range(0, channels, CHUNK):
        row = np.arange(first, min(first + CHUNK, channels))
        utility, home = row // homes, row % homes + 1
        parts = []
        for number, (letter, name, unit) in enumerate(UTILITIES):
            own = home[utility == number]
            words = {"utility": name, "unit": unit, "class": "household", "time_zone": "America/New_York"}
            columns = {
                "id": numbered(f"{letter}-", own),
                "usage_point": numbered(f"UP-{letter}", own),
                "meter": numbered(f"M-{letter}", own),
                "customer": numbered("H-", own),
                "area": numbered("1", own % 246, 4),
                "interval_seconds": pa.array(np.full(len(own), 300, np.int32)),
            }
            parts.append(pa.table(columns | {key: pa.repeat(value, len(own)) for key, value in words.items()}))
        table = pa.concat_tables(parts)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def ids_of(channels: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of rows of that file, in Arrow's layout."""
    homes = -(-channels // 3)
    letters = np.frombuffer(b"EGW", np.uint8)[rows // homes]
    column = numbered("E-", rows % homes + 1)
    data = np.frombuffer(column.buffers()[2], np.uint8).copy()
    data[::9] = letters
    return np.frombuffer(column.buffers()[1], np.int32), data


def resident() -> dict[str, int]:
    """Bytes of this process in memory: its own, without what was freed, and mapped from files."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
    return {"own": sizes["RssAnon:"], "files": sizes["RssFile:"]}


def in_own_process(work: Callable[..., dict], *arguments: object) -> dict:
    """Run work in a fresh process, so that its memory and its start can be measured."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_report, args=(there, work, arguments))
    process.start()
    there.close()
    result = here.recv()
    process.join()
    return result


def _report(pipe, work, arguments) -> None:
    pipe.send(work(*arguments))


def register(directory: Path, source: Path) -> dict:
    """Bulk registration from Parquet."""
    start = time.perf_counter()
    with Registry.open(directory) as registry:
        out = registry.register(source)
        seconds = time.perf_counter() - start
        assert (out.created, out.refused) == (len(out.indices), 0)
    closed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "with close": closed, "peak": peak, "own": resident()["own"]}


def start(directory: Path, channels: int) -> dict:
    """From nothing to the first answer."""
    before = time.perf_counter()
    registry = Registry.open(directory)
    last = registry.table.lookup(*ids_of(channels, np.array([channels - 1])))
    seconds = time.perf_counter() - before
    assert last.tolist() == [channels - 1]
    return {"seconds": seconds}


def look_up(directory: Path, channels: int, order: str) -> dict:
    """Look-ups on one core; every answer is checked."""
    before = resident()
    registry = Registry.open(directory)
    table = registry.table
    table.lookup(*ids_of(channels, np.arange(min(1000, channels))))  # loads the compiled loop
    generator = np.random.default_rng(1)
    rates, asked = [], 0
    shuffled = generator.permutation(channels) if order in ("random", "unknown") else None
    for first in range(0, channels, SAMPLE):
        after = min(first + SAMPLE, channels)
        rows = np.arange(first, after) if shuffled is None else shuffled[first:after]
        rows = rows[::3] if order == "gaps" else rows
        offsets, data = ids_of(channels, rows)
        if order == "unknown":
            data[::9] = ord("X")
        begin = time.perf_counter()
        found = table.lookup(offsets, data)
        rates.append(len(rows) / (time.perf_counter() - begin))
        assert (found == (0xFFFFFFFF if order == "unknown" else rows)).all(), "an id does not map back"
        asked += len(rows)
    del shuffled, offsets, data, found, rows
    now = resident()
    return {"rates": rates, "asked": asked, "files": now["files"] - before["files"], "own": now["own"] - before["own"]}


def texts_back(directory: Path, channels: int) -> dict:
    """Dense index to text, for all; then the profile and area of every channel, which is what the hot path reads."""
    registry = Registry.open(directory)
    table = registry.table
    seconds = 0.0
    for first in range(0, channels, SAMPLE):
        rows = np.arange(first, min(first + SAMPLE, channels), dtype=np.uint32)
        begin = time.perf_counter()
        texts = table.ids(rows)
        seconds += time.perf_counter() - begin
        assert bytes(texts.buffers()[2]) == ids_of(channels, rows.astype(np.int64))[1].tobytes()
    assert table.area.max() < 246 and table.profile.max() < 3
    begin = time.perf_counter()
    home = registry.channels(customer="H-0000007")
    first_home = time.perf_counter() - begin
    begin = time.perf_counter()
    assert home == registry.channels(customer="H-0000007")
    second_home = time.perf_counter() - begin
    assert pc.count_distinct(home["utility"].cast(pa.string())).as_py() == min(3, home.num_rows)
    return {"rate": channels / seconds, "home": first_home, "home again": second_home}


def long_ids(directory: Path, channels: int) -> dict:
    """Ids of 23 bytes, of which the table keeps the hash and the heap the text."""
    column = numbered("METER-POINT-", np.arange(channels), 11)
    words = {"utility": "electricity", "unit": "kWh"}
    with Registry.open(directory) as registry:
        registry.register(pa.table({"id": column} | {key: pa.repeat(value, channels) for key, value in words.items()}))
        order = np.random.default_rng(2).permutation(channels)
        result = {}
        for name, rows in (("in order", np.arange(channels)), ("random", order)):
            asked = numbered("METER-POINT-", rows, 11)
            offsets, data = np.frombuffer(asked.buffers()[1], np.int32), np.frombuffer(asked.buffers()[2], np.uint8)
            registry.table.lookup(offsets[:9], data[: 8 * 23])
            begin = time.perf_counter()
            found = registry.table.lookup(offsets, data)
            result[name] = channels / (time.perf_counter() - begin)
            assert (found == rows).all()
    return result


def peer(channels: int) -> dict:
    """A dict of str, in random order."""
    ids = numbered("E-", np.arange(channels)).to_pylist()
    index = {id: number for number, id in enumerate(ids)}
    order = np.random.default_rng(3).permutation(channels).tolist()
    asked = [ids[row] for row in order]
    begin = time.perf_counter()
    found = [index[id] for id in asked]
    seconds = time.perf_counter() - begin
    assert found == order
    return {"rate": channels / seconds, "own": resident()["own"]}


def main() -> None:
    """Print the table; exit 1 if a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--channels", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="where the files go for the time of the run")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true", help="200,000 channels")
    options = parser.parse_args()
    if options.small:
        options.channels = min(options.channels, 200_000)
    channels, directory = options.channels, Path(tempfile.mkdtemp(prefix="registry-bench-", dir=options.directory))
    lines: list[dict] = []

    def line(
        what: str, value: float, unit: str, must: float | None = None, *, least: bool = False, note: str = ""
    ) -> None:
        met = must is None or (value >= must if least else value <= must)
        lines.append({"what": what, "value": value, "unit": unit, "must": must, "met": met, "note": note})
        if not options.json:
            bound = "" if must is None else f"{'≥' if least else '≤'} {must:,.0f} {'' if met else 'MISSED'}"
            print(f"{what:34} {value:14,.2f} {unit:10} {bound:18} {note}", flush=True)

    try:
        if not options.json:
            machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
            print(f"{channels:,} channels; {machine}")
        source = directory / "channels.parquet"
        write_channels(source, channels)
        registry = directory / "registry"
        one = in_own_process(register, registry, source)
        line(
            "register from Parquet",
            one["seconds"],
            "s",
            MUST_REGISTER_SECONDS,
            note=f"{channels / one['seconds']:,.0f}/s",
        )
        line(
            "register, peak resident", one["peak"] / 1e6, "MB", note=f"own memory at the end {one['own'] / 1e6:,.0f} MB"
        )
        sizes = {path.name: path.stat().st_blocks * 512 for path in registry.iterdir()}
        line("files", sum(sizes.values()) / channels, "B/channel")
        ids = sum(size for name, size in sizes.items() if name.startswith("id."))
        line("id files", ids / channels, "B/channel", note="text of 9 bytes included")
        line("start", in_own_process(start, registry, channels)["seconds"], "s", MUST_OPEN_SECONDS)
        (registry / "id.slots").rename(directory / "slots")
        line(
            "start after a kill (no hash table)",
            in_own_process(start, registry, channels)["seconds"],
            "s",
            MUST_OPEN_SECONDS,
        )
        (directory / "slots").rename(registry / "id.slots")
        for order in ("in order", "random", "gaps", "unknown"):
            got = in_own_process(look_up, registry, channels, order)
            rate, low, high = statistics.median(got["rates"]), min(got["rates"]), max(got["rates"])
            least = MUST_LOOKUPS if order == "in order" else None
            note = f"{low / 1e6:.1f}-{high / 1e6:.1f}, touched {(got['files'] + got['own']) / 1e6:,.0f} MB"
            line(f"look-up, {order}", rate / 1e6, "M/s", least and least / 1e6, least=True, note=note)
            if order == "random":
                line("resident for the registry", (got["files"] + got["own"]) / 1e6, "MB", MUST_RESIDENT_BYTES / 1e6)
        back = in_own_process(texts_back, registry, channels)
        line("index to text", back["rate"] / 1e6, "M/s")
        line("channels of a customer", back["home again"] * 1e3, "ms", note=f"first time {back['home'] * 1e3:.1f} ms")
        few = min(channels, SAMPLE)
        long = in_own_process(long_ids, directory / "long", few)
        line("long ids, in order", long["in order"] / 1e6, "M/s", note=f"{few:,} channels")
        line("long ids, random", long["random"] / 1e6, "M/s")
        other = in_own_process(peer, few)
        line(
            "peer: dict of str, random",
            other["rate"] / 1e6,
            "M/s",
            note=f"{few:,} channels, {other['own'] / few:.0f} B each",
        )
    finally:
        shutil.rmtree(directory)
    if options.json:
        print(json.dumps({"channels": channels, "lines": lines}))
    raise SystemExit(not all(entry["met"] for entry in lines))


if __name__ == "__main__":
    main()
