"""Reading data files: pyarrow only, every byte checked before a row is served.

The footer is hashed against the file's name, and each row group against the footer, pages and their headers included. Row
groups that hold none of the wanted channels are not read.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from meterpulse.lake import CorruptFile, LakeFile
from meterpulse.lake.parts import GROUP_HASHES, name_of
from meterpulse.model.reading import Readings

_TAIL_BYTES = 1 << 16
_NO_SECONDS = np.zeros(1, np.int32)


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its place in the file, its hash, and its smallest and largest channel."""

    index: int
    begin: int
    end: int
    hash: str
    rows: int
    low: int
    high: int


def log_order(file: LakeFile) -> tuple[int, int, int]:
    """The sort key of a day's files: by offsets, then by part."""
    return file.first, file.after, name_of(file.path).part


def read(files: Iterable[LakeFile], channels: tuple[int, int] | None = None) -> Iterator[Readings]:
    """The rows of `files` in log order, those with lo <= channel < hi; about a million rows at a time.

    Raises CorruptFile for a file that is missing, cut short or changed, before any of the damaged rows is given out.
    """
    for file in sorted(files, key=log_order):
        yield from _read_file(file, channels)


def deferred(files: Iterable[LakeFile], channels: tuple[int, int], rows: int = 1 << 20) -> list[Callable[[], Readings]]:
    """What `read` gives but for the seconds, in parts of about so many rows that are read when they are called, by any
    thread. Rows of other channels may be among them."""
    parts: list[list[tuple[LakeFile, Group]]] = []
    waiting = rows
    for file in sorted(files, key=log_order):
        for group in groups_of(file):
            if group.high >= channels[0] and group.low < channels[1]:
                if waiting + group.rows > rows:
                    parts.append([])
                    waiting = 0
                parts[-1].append((file, group))
                waiting += group.rows
    return [partial(_rows_of, part) for part in parts]


def _rows_of(groups: list[tuple[LakeFile, Group]]) -> Readings:
    found = []
    for _, own in groupby(groups, key=lambda pair: pair[0].path):
        pairs = list(own)
        with _opened(pairs[0][0]) as part:
            found += [part.values(group) for _, group in pairs]
    return Readings.concat(found)


def groups_of(file: LakeFile) -> list[Group]:
    """The row groups of a file, from its checked footer."""
    with _opened(file) as part:
        return part.groups


def check(file: LakeFile) -> None:
    """Compare every byte of a file with its hashes; raises CorruptFile."""
    with _opened(file) as part:
        for group in part.groups:
            part.load(group)


def _read_file(file: LakeFile, channels: tuple[int, int] | None) -> Iterator[Readings]:
    with _opened(file) as part:
        for group in part.groups:
            if channels is None or (group.high >= channels[0] and group.low < channels[1]):
                rows = part.rows(group)
                if channels is not None:
                    rows = _within(rows, group, channels)
                if len(rows):
                    yield rows


def _within(rows: Readings, group: Group, channels: tuple[int, int]) -> Readings:
    low, high = channels
    if group.low >= low and group.high < high:
        return rows
    return rows.take((rows.channel >= low) & (rows.channel < high))


@contextmanager
def _opened(file: LakeFile) -> Iterator[_OpenPart]:
    try:
        descriptor = os.open(file.path, os.O_RDONLY)
    except FileNotFoundError:
        raise CorruptFile(file.path, "it is missing") from None
    except OSError as error:
        raise CorruptFile(file.path, f"it cannot be opened ({error.strerror})") from error
    try:
        yield _OpenPart(file, descriptor)
    finally:
        os.close(descriptor)


class _OpenPart:
    def __init__(self, file: LakeFile, descriptor: int):
        self._file, self._descriptor = file, descriptor
        size = os.fstat(descriptor).st_size
        if size != file.bytes:
            raise CorruptFile(file.path, f"it has {size} bytes instead of {file.bytes}")
        footer = self._footer(size)
        self._window = _Window(size)
        with self._decoding():
            metadata = pq.read_metadata(pa.BufferReader(b"PAR1" + footer))
            source = pa.PythonFile(self._window, mode="r")
            # The hash of a row group covers its pages; their own checksums are for other readers.
            self._parquet = pq.ParquetFile(source, metadata=metadata, pre_buffer=False)
            self.groups = _groups(metadata)

    def load(self, group: Group) -> None:
        """Bring the bytes of a row group into memory and check them."""
        data = self._bytes(group.begin, group.end - group.begin)
        if xxhash.xxh3_64_hexdigest(data) != group.hash:
            raise CorruptFile(self._file.path, f"row group {group.index} does not match its hash")
        self._window.hold(group.begin, data)

    def rows(self, group: Group) -> Readings:
        channel, start, seconds, quantity, revision, *quality = (_numpy(c) for c in self.table(group).columns)
        start = _constant_or_whole(start.view(np.int64))
        return Readings(
            channel.view(np.uint32),
            start // 1000,
            _constant_or_whole(seconds),
            quantity,
            _constant_or_whole(revision),
            *map(_constant_or_whole, quality),
        )

    def values(self, group: Group) -> Readings:
        """`rows` without their seconds, which are 0."""
        table = self.table(group, ["channel", "start", "quantity", "revision", "quality"])
        channel, start, quantity, revision, *quality = (_numpy(c) for c in table.columns)
        start = _constant_or_whole(start.view(np.int64))
        return Readings(
            channel.view(np.uint32),
            start // 1000,
            _NO_SECONDS,
            quantity,
            _constant_or_whole(revision),
            *map(_constant_or_whole, quality),
        )

    def table(self, group: Group, columns: list[str] | None = None) -> pa.Table:
        """A row group's columns, of these those that the file has, checked."""
        self.load(group)
        with self._decoding():
            if columns is not None:
                there = self._parquet.schema_arrow.names
                columns = [name for name in columns if name in there]
            table = self._parquet.read_row_group(group.index, columns=columns, use_threads=False)
        if table.num_rows != group.rows:
            raise CorruptFile(
                self._file.path, f"row group {group.index} has {table.num_rows} rows instead of {group.rows}"
            )
        return table

    def _footer(self, size: int) -> bytes:
        tail = self._bytes(max(0, size - _TAIL_BYTES), min(size, _TAIL_BYTES))
        length = int.from_bytes(tail[-8:-4], "little") + 8 if len(tail) >= 12 else size + 1
        if length > size:
            raise CorruptFile(self._file.path, "its end is not that of a data file")
        footer = tail[-length:] if length <= len(tail) else self._bytes(size - length, length)
        if xxhash.xxh3_64_hexdigest(footer) != name_of(self._file.path).footer:
            raise CorruptFile(self._file.path, "its footer does not match its name")
        return footer

    def _bytes(self, begin: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, begin)
            while len(data) < length and (more := os.pread(self._descriptor, length - len(data), begin + len(data))):
                data += more
        except OSError as error:
            raise CorruptFile(self._file.path, f"it cannot be read ({error.strerror})") from error
        if len(data) != length:
            raise CorruptFile(self._file.path, "it is shorter than it was")
        return data

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise CorruptFile(self._file.path, f"it cannot be decoded ({error})") from error


class _Window(io.RawIOBase):
    """A file of which only the row group that was checked last can be read."""

    def __init__(self, size: int):
        self._size, self._at = size, 0
        self._begin, self._data = 0, memoryview(b"")

    def hold(self, begin: int, data: bytes) -> None:
        self._begin, self._data = begin, memoryview(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> memoryview:
        low = self._at - self._begin
        if low < 0 or size < 0 or low + size > len(self._data):
            raise OSError("a read outside of the row group")
        self._at += size
        return self._data[low : low + size]


def _groups(metadata: pq.FileMetaData) -> list[Group]:
    cuts = json.loads((metadata.metadata or {})[GROUP_HASHES])
    if len(cuts) != metadata.num_row_groups:
        raise ValueError("row groups and their hashes differ in number")
    groups, begin = [], 0
    for index, cut in enumerate(cuts):
        end, hash_ = cut.split(":")
        group = metadata.row_group(index)
        channel = group.column(0).statistics
        groups.append(Group(index, begin, int(end), hash_, group.num_rows, channel.min, channel.max))
        begin = int(end)
    return groups


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    if column.num_chunks == 1:
        return column.chunk(0).to_numpy(zero_copy_only=True)
    return column.to_numpy()


def _constant_or_whole(column: np.ndarray) -> np.ndarray:
    if column[0] == column[-1] and bool((column == column[0]).all()):
        return column[:1].copy()
    return column
