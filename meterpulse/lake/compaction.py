"""Sorting a day by (channel, start), in bounded memory, stable in log order.

The day is cut into ranges of channels that fit into memory; each range is read from all files, sorted and handed on.
Where the files are not ordered by channel (every row group holds every channel) that would read everything once per
range, so the rows are first rewritten as sorted runs in a directory of their own, which take the place of the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numba import njit

from meterpulse.lake import LakeFile
from meterpulse.lake.parts import PartWriter, table_of
from meterpulse.lake.reader import Group, groups_of, read
from meterpulse.model.reading import Readings

ROWS_IN_MEMORY = 2 << 20
_READS_AT_MOST = 3.0  # times that a row may be read before sorted runs are cheaper
_RUNS_AT_MOST = 128
_RUN_GROUP_ROWS = (4096, 1 << 17)


def in_channel_order(
    files: Sequence[LakeFile], scratch: Path, rows_in_memory: int = ROWS_IN_MEMORY
) -> Iterator[Readings]:
    """All rows of `files` (one day) by channel and start, equal ones in log order; raises CorruptFile.

    `scratch` is an empty directory for the sorted runs; the caller removes it. About `rows_in_memory` rows (100 bytes
    each) are held at once, up to four times as many where a day would otherwise fall into more than 128 runs.
    """
    rows_in_memory = min(max(rows_in_memory, sum(file.rows for file in files) // _RUNS_AT_MOST), 4 * rows_in_memory)
    groups = [group for file in files for group in groups_of(file)]
    ranges = channel_ranges(groups, rows_in_memory)
    if _times_read(groups, ranges) > _READS_AT_MOST:
        files = sorted_runs(files, scratch, rows_in_memory)
        ranges = channel_ranges([group for file in files for group in groups_of(file)], rows_in_memory)
    for low, high in ranges:
        yield from _range_in_order(files, low, high, rows_in_memory)


def by_channel_and_start(rows: Readings) -> Readings:
    """Sorted by (channel, start), stable."""
    if len(rows) < 2:
        return rows
    start = rows.start
    order = None
    if len(start) > 1 and bool((start[1:] < start[:-1]).any()):
        order = np.argsort(start, kind="stable")
    channel = rows.channel if order is None else rows.channel[order]
    if not bool((channel[1:] < channel[:-1]).any()):
        return rows if order is None else rows.take(order)
    low, high = int(channel.min()), int(channel.max())
    if high - low > 4 * len(rows) + 65_536:
        by_channel = np.argsort(channel, kind="stable")
    else:
        by_channel = _counting_order(channel, low, high)
    return rows.take(by_channel if order is None else order[by_channel])


@njit(nogil=True, cache=True)
def _counting_order(channel, low, high):  # type: ignore[no-untyped-def]
    """The stable order by channel. A loop, because numpy has no counting sort and its stable sort takes 10 x longer."""
    begin = np.zeros(high - low + 2, np.int64)
    for i in range(len(channel)):
        begin[channel[i] - low + 1] += 1
    for c in range(1, len(begin)):
        begin[c] += begin[c - 1]
    order = np.empty(len(channel), np.int64)
    for i in range(len(channel)):
        c = channel[i] - low
        order[begin[c]] = i
        begin[c] += 1
    return order


def channel_ranges(groups: Sequence[Group], rows_in_memory: int) -> list[tuple[int, int]]:
    """[lo, hi) ranges of channels with about so many rows each, taking a group's rows as even between its channels."""
    if not groups:
        return []
    points = 16
    at = np.concatenate([np.linspace(g.low, g.high, points) for g in groups])
    weight = np.repeat([g.rows / points for g in groups], points)
    order = np.argsort(at, kind="stable")
    total = np.cumsum(weight[order])
    wanted = max(1, -(-int(total[-1]) // rows_in_memory))
    inner = np.searchsorted(total, total[-1] * np.arange(1, wanted) / wanted)
    low, high = min(g.low for g in groups), max(g.high for g in groups) + 1
    cuts = sorted({low, high, *(int(at[order[i]]) + 1 for i in inner)})
    return [(a, b) for a, b in zip(cuts, cuts[1:], strict=False) if a < b]


def sorted_runs(files: Sequence[LakeFile], scratch: Path, rows_in_memory: int) -> list[LakeFile]:
    """The rows again as files that are sorted each, numbered in log order; nothing of this is synced."""
    rows = sum(file.rows for file in files)
    runs_expected = max(1, rows // rows_in_memory)
    group_rows = min(max(rows_in_memory // (2 * runs_expected), _RUN_GROUP_ROWS[0]), _RUN_GROUP_ROWS[1])
    runs: list[LakeFile] = []
    for piece in _pieces(read(files), rows_in_memory):
        number = len(runs)
        writer = PartWriter(scratch, files[0].day)
        piece = by_channel_and_start(piece)  # under the same name, so that the unsorted rows go away
        for at in range(0, len(piece), group_rows):
            writer.write(table_of([piece.take(slice(at, at + group_rows))]))
        writer.finish()
        part = writer.publish("w", number, number + 1, 0, 0)
        runs.append(part.name.lake_file(scratch, part.rows, part.bytes))
    return runs


def _pieces(batches: Iterable[Readings], rows: int) -> Iterator[Readings]:
    held: list[Readings] = []
    for batch in batches:
        if held and sum(map(len, held)) + len(batch) > rows:
            piece, held = Readings.concat(held), []
            yield piece
            del piece
        held.append(batch)
    if held:
        yield Readings.concat(held)


def _range_in_order(files: Sequence[LakeFile], low: int, high: int, rows_in_memory: int) -> Iterator[Readings]:
    """One range; in halves where it holds many more rows than expected (one channel alone is never divided)."""
    held, rows = [], 0
    for batch in read(files, (low, high)):
        held.append(batch)
        rows += len(batch)
        if rows > 2 * rows_in_memory and high - low > 1:
            del held, batch
            middle = (low + high) // 2
            yield from _range_in_order(files, low, middle, rows_in_memory)
            yield from _range_in_order(files, middle, high, rows_in_memory)
            return
    if rows:
        whole, held = Readings.concat(held), []
        del batch
        yield by_channel_and_start(whole)


def _times_read(groups: Sequence[Group], ranges: Sequence[tuple[int, int]]) -> float:
    low = np.array([g.low for g in groups])
    high = np.array([g.high for g in groups])
    rows = np.array([g.rows for g in groups])
    read_rows = sum(int(rows[(low < b) & (high >= a)].sum()) for a, b in ranges)
    return read_rows / max(1, int(rows.sum()))
