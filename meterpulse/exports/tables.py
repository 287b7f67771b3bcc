"""Tables as CSV, Parquet and Arrow, batch by batch; readings as the columns that `meterpulse ingest` takes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from meterpulse.model.channel import Channel
from meterpulse.model.quality import text_of
from meterpulse.model.quantity import Unit, decimal_text, unit_of
from meterpulse.model.reading import Readings

PLACES = 9  # what the finest of units needs
DECIMAL = pa.decimal128(38, PLACES)
MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
READINGS = pa.schema(
    [
        ("channel", pa.string()),
        ("start", pa.timestamp("ms", "UTC")),
        ("seconds", pa.int32()),
        ("quantity", DECIMAL),
        ("unit", pa.string()),
        ("revision", pa.int64()),
        ("quality", pa.string()),
    ]
)


def readings_table(readings: Readings, channels: Mapping[int, Channel]) -> pa.Table:
    """In READINGS, quantities as exact decimals in the unit of their channel."""
    own, at = np.unique(readings.channel, return_inverse=True)
    defined = [channels[index] for index in own.tolist()]
    qualities, which = np.unique(readings.full("quality"), return_inverse=True)
    units = sorted({channel.unit for channel in defined})
    unit_at = np.array([units.index(channel.unit) for channel in defined], np.int64)[at]
    quantity = readings.quantity
    if len(units) == 1:
        exact = decimals(quantity, unit_of(units[0]))
    else:
        order = np.argsort(unit_at, kind="stable")
        sorted_parts = [decimals(quantity[unit_at == n], unit_of(unit)) for n, unit in enumerate(units)]
        exact = pa.chunked_array(sorted_parts, DECIMAL).combine_chunks().take(pa.array(np.argsort(order)))
    columns = [
        pa.array([channel.id for channel in defined], pa.string()).take(pa.array(at)),
        pa.array(readings.full("start"), READINGS.field("start").type),
        pa.array(readings.full("seconds")),
        exact,
        pa.array(units, pa.string()).take(pa.array(unit_at)),
        pa.array(readings.full("revision")),
        pa.array([text_of(int(quality)) for quality in qualities], pa.string()).take(pa.array(which)),
    ]
    return pa.table(columns, schema=READINGS)


def decimals(quantity: np.ndarray, unit: Unit) -> pa.Array:
    """Thousandths of the base unit as exact decimals in `unit`."""
    if unit.scale != 10**unit.places:
        return pa.array([decimal_text(int(q), unit) for q in quantity.tolist()], pa.string()).cast(DECIMAL)
    quantity = np.ascontiguousarray(quantity, np.int64)
    wide = np.stack([quantity, quantity >> 63], axis=1)  # 128 bits: the number, and its sign
    made = pa.Array.from_buffers(pa.decimal128(38, unit.places), len(quantity), [None, pa.py_buffer(wide.tobytes())])
    return made.cast(DECIMAL)


def stream(form: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[bytes]:
    """The pieces of one file of these tables; `form` is one of MEDIA."""
    if form == "csv":
        yield (",".join(schema.names) + "\n").encode()
        for table in tables:
            yield _csv(table)
        return
    sink = _Sink()
    if form == "arrow":
        writer = pa.ipc.new_stream(sink, schema)
    else:
        writer = pa.parquet.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True)
    for table in tables:
        writer.write_table(table)
        yield sink.taken()
    writer.close()
    yield sink.taken()


def _csv(table: pa.Table) -> bytes:
    """Times as ISO 8601 with Z, decimals without zeros at their end, texts in quotes only where they need them."""
    columns = []
    for column, field in zip(table.columns, table.schema, strict=True):
        if pa.types.is_timestamp(field.type):
            whole = column.cast(pa.int64()).to_numpy() % 1_000 == 0
            told = column.cast(pa.timestamp("s", "UTC")) if whole.all() else column
            column = pc.strftime(told, format="%Y-%m-%dT%H:%M:%SZ")
        elif pa.types.is_decimal(field.type):
            column = pc.utf8_rtrim(pc.utf8_rtrim(column.cast(pa.string()), characters="0"), characters=".")
        columns.append(column)
    sink = io.BytesIO()
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
    pyarrow.csv.write_csv(pa.table(columns, names=table.schema.names), sink, options)
    return sink.getvalue()


class _Sink(io.RawIOBase):
    """What a writer has written since it was last taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._parts.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
