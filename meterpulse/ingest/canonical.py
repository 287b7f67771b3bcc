"""meterpulse's own columns in a file: CSV, NDJSON, a JSON array, Parquet, an Arrow file or stream.

Columns and fields are those of the public face (channel, start, seconds, quantity, unit, revision), under the same
rules: a time needs its offset. Positions are bytes in text, rows in Parquet, batches in Arrow; a JSON array is one
batch.

Such a file does not say what a channel is. Where its rows carry a unit of electricity, an unknown channel can be
registered from it; a volume may be gas or water, so those channels are registered beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meterpulse.ingest import ARROW, CSV, JSON, NDJSON, FileBatch, Format, csv, csv_scan, json, json_scan
from meterpulse.ingest.arrow import COLUMNS, check_schema
from meterpulse.ingest.checks import PARSED, SECONDS_MAX
from meterpulse.ingest.contract import BodyError, RowError
from meterpulse.ingest.csv import header_roles
from meterpulse.ingest.files import chunks, header_of
from meterpulse.ingest.layout import CANONICAL, CHANNEL, NO_UNIT, QUANTITY, START
from meterpulse.ingest.record import Record
from meterpulse.ingest.scanned import UNIT_NAMES, UNIT_OFFSETS, Scanned
from meterpulse.ingest.vector import WIDTH, padded
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quantity import BY_CODE

BATCH_ROWS = 2**17
JSON_BYTES_MAX = 256 * 2**20
_UNREADABLE_MAX = 10_000  # rows of one batch; behind them nothing more is learnt
_BOM = b"\xef\xbb\xbf"
_ELECTRIC = {"energy", "reactive energy", "apparent energy", "power", "voltage", "current"}


class Canonical(Format):
    """The columns of the public face, in any of its containers."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By the magic bytes, records of JSON with a channel, or a header with channel, start and quantity."""
        return _container(head) is not None

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """See `Format.read`."""
        with open(path, "rb") as file:
            container = _container(file.read(64 * 1024))
        if container is None:
            raise BodyError(422, f"{path.name} has neither the columns nor the container of a canonical file")
        try:
            yield from _READERS[container](path, after)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise BodyError(422, f"{path.name} cannot be read as {container}: {str(error)[:200]}") from None


def _container(head: bytes) -> str | None:
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"ARROW1":
        return "arrow-file"
    if head[:4] == b"\xff\xff\xff\xff":
        return "arrow-stream"
    text = head.removeprefix(_BOM).lstrip()
    if text[:1] in (b"[", b"{"):
        if b'"channel"' not in text:
            return None
        return "json" if text[:1] == b"[" else "ndjson"
    try:
        roles = header_roles(text.partition(b"\n")[0]).tolist()
    except BodyError:
        return None
    return "csv" if {CHANNEL, START, QUANTITY} <= set(roles) else None


def _csv(path: Path, after: int) -> Iterator[FileBatch]:
    header, begin = header_of(path)
    roles, seen = header_roles(header), set[str]()
    for lines, position in chunks(path, max(after, begin)):
        rows = Scanned(padded(lines), lines.count(b"\n") + 1)
        rows.rows = csv_scan.scan(rows.data, 0, len(lines), roles, UNIT_OFFSETS, UNIT_NAMES, NO_UNIT, *rows.room)
        yield FileBatch(
            header + b"\n" + lines, CSV, rows.rows, position, _implied(rows, seen, lambda row: csv.parsed(row, roles))
        )


def _ndjson(path: Path, after: int) -> Iterator[FileBatch]:
    seen = set[str]()
    for lines, position in chunks(path, after):
        rows = _scanned(lines.removeprefix(_BOM), 0, lines.count(b"\n") + 1, False)
        yield FileBatch(lines, NDJSON, rows.rows, position, _implied(rows, seen, json.parsed))


def _json(path: Path, after: int) -> Iterator[FileBatch]:
    size = path.stat().st_size
    if size > JSON_BYTES_MAX:
        raise BodyError(
            413, f"{path.name} is one JSON array of {size} bytes; write one record per line (NDJSON) instead"
        )
    if after < size:
        body = path.read_bytes()
        rows = _scanned(body, body.find(b"[") + 1, body.count(b",") + 2, True)
        yield FileBatch(body, JSON, body.count(b"{"), size, _implied(rows, set(), json.parsed))


def _scanned(body: bytes, at: int, rows_max: int, is_array: bool) -> Scanned:
    rows = Scanned(padded(body), rows_max)
    size = len(rows.data) - WIDTH
    rows.rows, _ = json_scan.scan(
        rows.data, at, size, is_array, *CANONICAL.names, UNIT_OFFSETS, UNIT_NAMES, NO_UNIT, *rows.room
    )
    return rows


def _parquet(path: Path, after: int) -> Iterator[FileBatch]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        check_schema(file.schema_arrow)
        names = [name for name in file.schema_arrow.names if name in COLUMNS]
        position = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
            position += batch.num_rows
            if position > after:
                rest = batch.slice(max(0, batch.num_rows - (position - after)))
                yield FileBatch(_body(rest), ARROW, rest.num_rows, position)


def _arrow_file(path: Path, after: int) -> Iterator[FileBatch]:
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        for number in range(after, file.num_record_batches):
            batch = file.get_batch(number)
            yield FileBatch(_body(batch), ARROW, batch.num_rows, number + 1)


def _arrow_stream(path: Path, after: int) -> Iterator[FileBatch]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        for number, batch in enumerate(stream):
            if number >= after:
                yield FileBatch(_body(batch), ARROW, batch.num_rows, number + 1)


def _body(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _implied(rows: Scanned, seen: set[str], parsed: Callable[[bytes], Record]) -> list[Channel]:
    """Definitions of ids not in `seen` whose first row has a unit of electricity; `parsed` reads what the scanner left."""
    n, out = rows.rows, list[Channel]()
    told = np.flatnonzero((rows.code[:n] == PARSED) & (rows.unit[:n] != NO_UNIT))
    if len(told):
        offsets = pa.py_buffer(rows.offsets[: n + 1])
        ids = pa.LargeBinaryArray.from_buffers(pa.large_binary(), n, [None, offsets, pa.py_buffer(rows.ids)])
        words = ids.take(pa.array(told)).dictionary_encode()
        _, first = np.unique(words.indices.to_numpy(), return_index=True)
        for id, row in zip(words.dictionary.to_pylist(), told[first].tolist(), strict=True):
            out += _defined(id.decode(errors="replace"), int(rows.unit[row]), int(rows.seconds[row]), seen)
    unreadable = 0
    for row in np.flatnonzero(rows.code[:n] != PARSED).tolist():
        try:
            record = parsed(rows.original(row))
        except RowError:  # refused when it is decoded
            unreadable += 1
            if unreadable > _UNREADABLE_MAX:
                break
            continue
        if isinstance(record.channel, str) and record.unit != NO_UNIT:
            out += _defined(record.channel, record.unit, record.seconds, seen)
    return out


def _defined(id: str, unit_code: int, seconds: int, seen: set[str]) -> list[Channel]:
    unit = BY_CODE[unit_code]
    if id in seen or unit.dimension not in _ELECTRIC:
        return []
    seen.add(id)
    kind = "interval" if "energy" in unit.dimension else "gauge"
    try:
        return [
            Channel(
                id, "electricity", unit.name, kind=kind, interval_seconds=seconds if 0 < seconds <= SECONDS_MAX else 300
            )
        ]
    except ChannelError:
        return []  # the row itself is refused when it is decoded


_READERS = {
    "csv": _csv,
    "ndjson": _ndjson,
    "json": _json,
    "parquet": _parquet,
    "arrow-file": _arrow_file,
    "arrow-stream": _arrow_stream,
}
