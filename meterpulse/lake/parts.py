"""Data files: Parquet whose every byte is covered by a checksum, in the cheapest encoding, synced before it counts.

Pages carry Parquet's own checksums, for any reader. Those leave page headers and the footer uncovered, so each row
group is also hashed as a whole (the hashes are in the footer) and the hash of the footer is in the file's name:

    day=2026-03-08/w-<first>-<after>-<part>-v<version>-<footer hash>.parquet

`w` was written from the log; `c` (compacted) and `r` (refilled) replace all older files of the day within
[first, after). With the version of the commit that added it, a damaged commit can be rebuilt from names alone.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from meterpulse.lake import LakeBroken, LakeFile, LakeFull
from meterpulse.model.reading import Readings
from meterpulse.model.window import day_of_text, day_text

ROW_GROUP_ROWS = 1 << 20
SCHEMA = pa.schema(
    [
        pa.field("channel", pa.int32(), nullable=False),
        pa.field("start", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("seconds", pa.int32(), nullable=False),
        pa.field("quantity", pa.int64(), nullable=False),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("quality", pa.int32()),  # not in files that were written before there was one
    ]
)
GROUP_HASHES = b"meterpulse.groups"
TEMPORARY = ".new-"
_NAME = re.compile(r"day=(\d{4,}-\d\d-\d\d)/([wcr])-(\d+)-(\d+)-(\d+)-v(\d+)-([0-9a-f]{16})\.parquet")
_ENCODINGS = ("BYTE_STREAM_SPLIT", "DELTA_BINARY_PACKED")
_SAMPLE_ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class Name:
    """What a data file's path (relative to its table) says."""

    day: int
    kind: str
    first: int
    after: int
    part: int
    version: int
    footer: str

    @property
    def path(self) -> str:
        return (
            f"day={day_text(self.day)}/{self.kind}-{self.first:020d}-{self.after:020d}-{self.part:04d}"
            f"-v{self.version}-{self.footer}.parquet"
        )

    def lake_file(self, root: Path, rows: int, size: int) -> LakeFile:
        return LakeFile(self.day, self.first, self.after, str(root / self.path), rows, size)


def name_of(path: str) -> Name:
    """Parse the last two parts of a path; raises ValueError where it is not a data file of ours."""
    match = _NAME.fullmatch("/".join(Path(path).parts[-2:]))
    if match is None:
        raise ValueError(f"{path} is not a data file of the lake")
    day, kind, first, after, part, version, footer = match.groups()
    return Name(day_of_text(day), kind, int(first), int(after), int(part), int(version), footer)


@dataclass(frozen=True, slots=True)
class Part:
    """A finished, synced file. `channels` are the smallest and the largest in it."""

    name: Name
    rows: int
    bytes: int
    channels: tuple[int, int]
    modified_ms: int


class PartWriter:
    """One data file of one day; row groups go in one by one, then `finish` and `publish`; `abandon` leaves no trace."""

    def __init__(self, root: Path, day: int):
        self.rows, self.day = 0, day
        self._root, self._directory = root, root / f"day={day_text(day)}"
        self._sink: _Sink | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._groups: list[str] = []
        self._footer = ""
        self._channels = (1 << 32, -1)

    def write(self, table: pa.Table) -> None:
        """One row group."""
        if self._sink is None or self._parquet is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._sink = _Sink(_temporary(self._directory))
            self._parquet = _parquet_writer(self._sink, table)
        self._parquet.write_table(table, row_group_size=table.num_rows)
        self._groups.append(self._sink.cut())
        self.rows += table.num_rows
        self._channels = _widened(self._channels, table.column("channel"))

    def finish(self) -> None:
        """Close the file; its bytes are on disk on return."""
        assert self._sink is not None and self._parquet is not None, "a file without rows has no place in the lake"
        self._parquet.add_key_value_metadata({GROUP_HASHES: json.dumps(self._groups)})
        self._parquet.close()
        self._footer = self._sink.cut().split(":")[1]
        self._sink.sync()
        self._sink.close()

    def publish(self, kind: str, first: int, after: int, part: int, version: int) -> Part:
        """The finished file under its name; the directory entry is the caller's to sync."""
        assert self._sink is not None
        name = Name(self.day, kind, first, after, part, version, self._footer)
        os.rename(self._sink.path, self._root / name.path)
        self._sink.path = self._root / name.path
        modified_ms = os.stat(self._sink.path).st_mtime_ns // 1_000_000
        return Part(name, self.rows, self._sink.size, self._channels, modified_ms)

    def abandon(self) -> None:
        """Remove the file, finished or not."""
        if self._sink is not None:
            self._sink.abandon()


class _Sink:
    """A file that hashes what passes: between two `cut`s Parquet writes one row group, at last the footer."""

    closed = False

    def __init__(self, path: Path):
        self.path, self.size = path, 0
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._hash = xxhash.xxh3_64()

    def write(self, data: bytes) -> int:
        view, at = memoryview(data), 0
        if self._file is None:
            return len(view)  # abandoned: Parquet's destructor may still want to write its footer
        self._hash.update(view)
        while at < len(view):
            at += os.write(self._file, view[at:])
        self.size += len(view)
        return len(view)

    def cut(self) -> str:
        """`end:hash` of everything since the last cut."""
        text = f"{self.size}:{self._hash.hexdigest()}"
        self._hash.reset()
        return text

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Nothing is held back here."""

    def sync(self) -> None:
        assert self._file is not None
        fsync(self._file, self.path)

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def abandon(self) -> None:
        with suppress(OSError):
            self.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)


def _temporary(directory: Path) -> Path:
    return directory / f"{TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}"


def _parquet_writer(sink: _Sink, table: pa.Table) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        sink,
        table.schema,
        use_dictionary=False,
        column_encoding=cheapest_encodings(table),
        compression="zstd",
        compression_level=1,
        write_statistics=["channel"],
        write_batch_size=1 << 14,
        write_page_checksum=True,
        store_schema=False,
    )


def cheapest_encodings(table: pa.Table) -> dict[str, str]:
    """Per column of numbers the encoding that makes the fewest bytes of a sample of `table`; the faster if they are close."""
    table = table.select([field.name for field in table.schema if not pa.types.is_string(field.type)])
    rows = table.num_rows
    if rows < _SAMPLE_ROWS // 4:
        return dict.fromkeys(table.column_names, "DELTA_BINARY_PACKED")
    at = {0, max(0, rows // 2 - _SAMPLE_ROWS // 2), max(0, rows - _SAMPLE_ROWS)}
    sample = pa.concat_tables([table.slice(start, _SAMPLE_ROWS) for start in sorted(at)]).combine_chunks()
    sizes = {encoding: _encoded_sizes(sample, encoding) for encoding in _ENCODINGS}
    split, delta = (sizes[encoding] for encoding in _ENCODINGS)
    # Byte planes encode 1.3-2 times as fast as deltas, which is worth a twentieth of a byte.
    slack = sample.num_rows // 20
    return {c: _ENCODINGS[0] if split[c] <= delta[c] + slack else _ENCODINGS[1] for c in table.column_names}


def _encoded_sizes(sample: pa.Table, encoding: str) -> dict[str, int]:
    sink = pa.BufferOutputStream()
    options = {"use_dictionary": False, "column_encoding": encoding, "compression": "zstd", "compression_level": 1}
    pq.write_table(sample, sink, write_statistics=False, store_schema=False, **options)
    group = pq.read_metadata(pa.BufferReader(sink.getvalue())).row_group(0)
    return {n: group.column(i).total_compressed_size for i, n in enumerate(sample.column_names)}


def _widened(channels: tuple[int, int], column: pa.ChunkedArray) -> tuple[int, int]:
    chunks = [np.asarray(c) for c in column.chunks if len(c)]
    low, high = min(int(c.min()) for c in chunks), max(int(c.max()) for c in chunks)
    return min(channels[0], low), max(channels[1], high)


def table_of(pieces: Sequence[Readings]) -> pa.Table:
    """The rows of `pieces`, without copying channels and quantities; raises ValueError beyond 2^31 channels."""
    columns: list[list[pa.Array]] = [[] for _ in SCHEMA]
    for piece in pieces:
        n, channel = len(piece), np.ascontiguousarray(piece.channel).view(np.int32)
        if n and channel.min() < 0:
            raise ValueError(f"channel {int(piece.channel.max())}: the lake holds channels below 2^31; register fewer")
        columns[0].append(_array(channel, SCHEMA.field(0).type))
        start = piece.start
        if len(start) == n != 1:
            columns[1].append(_array(start * 1000, SCHEMA.field(1).type))
        else:
            columns[1].append(_array(np.full(n, start[0] * 1000), SCHEMA.field(1).type))
        for i, column in ((2, piece.seconds), (3, piece.quantity), (4, piece.revision), (5, piece.quality)):
            if len(column) == n:
                columns[i].append(_array(np.ascontiguousarray(column), SCHEMA.field(i).type))
            else:
                columns[i].append(_constant(int(column[0]), SCHEMA.field(i).type, n))
    return pa.Table.from_arrays(
        [pa.chunked_array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _array(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _constant(value: int, kind: pa.DataType, n: int) -> pa.Array:
    if n > ROW_GROUP_ROWS:
        return _array(np.full(n, value, kind.to_pandas_dtype()), kind)
    return _million(value, kind)[:n]


@lru_cache(maxsize=8)
def _million(value: int, kind: pa.DataType) -> pa.Array:
    return _array(np.full(ROW_GROUP_ROWS, value, kind.to_pandas_dtype()), kind)


def fsync(file: int, path: Path) -> None:
    """fsync that says what to do: after a failure other than a full disk the object must not be used any more."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise LakeBroken(
            error.errno, f"fsync failed on {path}: {error.strerror}; check the disk and open the lake anew"
        ) from error


def fsync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(file, path)
    finally:
        os.close(file)


@contextmanager
def full_disk_says_so(root: Path) -> Iterator[None]:
    """ENOSPC and EDQUOT become LakeFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LakeFull(
                error.errno, f"no room for the lake in {root}: free disk space; nothing of this was taken"
            ) from error
        raise
