"""Where simulated readings go: a running server, or files in the containers that `meterpulse ingest` reads.

A file of readings has its channels beside it (`day.parquet` and `day.channels.parquet`, `day.csv` and
`day.channels.ndjson`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from meterpulse.model.reading import Readings
from meterpulse.simulator import Target
from meterpulse.simulator.city import BLOCKS, City

READINGS = pa.schema(
    [("channel", pa.string()), ("start", pa.timestamp("ms", "UTC")), ("seconds", pa.int32()), ("quantity", pa.int64())]
)
_ROW_GROUP = 1 << 20


class DeliveryError(Exception):
    """The readings cannot go there; the message says what to do."""


def target_of(to: str) -> Target:
    """`http://host:port`, a file that ends in .parquet, .ndjson, .jsonl or .csv, or `-` for NDJSON on standard
    output.
    """
    if to.startswith(("http://", "https://")):
        from meterpulse.simulator.deliver_http import HttpTarget

        return HttpTarget(to)
    if to == "-":
        return NdjsonTarget(None)
    kinds = {".parquet": ParquetTarget, ".ndjson": NdjsonTarget, ".jsonl": NdjsonTarget, ".csv": CsvTarget}
    path = Path(to)
    if path.suffix not in kinds:
        raise DeliveryError(f"{to!r} is no target; give a URL, a file that ends in {', '.join(kinds)}, or - for NDJSON")
    if not path.absolute().parent.is_dir():
        raise DeliveryError(f"there is no folder {str(path.parent)!r}; make it first")
    return kinds[path.suffix](path)


class ParquetTarget:
    """Integers in thousandths of the base unit, channels by their text ids."""

    def __init__(self, path: Path):
        self._path = path
        self._writer = pq.ParquetWriter(path, READINGS, compression="zstd", write_page_checksum=True)

    def prepare(self, city: City) -> None:
        """Write the channels beside the readings."""
        self._city = city
        with pq.ParquetWriter(
            self._path.with_suffix(".channels.parquet"), _plain(next(city.tables(1))).schema
        ) as writer:
            for table in city.tables():
                writer.write_table(_plain(table))

    def send(self, readings: Readings) -> None:
        """Append the readings."""
        columns = (readings.full("start"), readings.full("seconds"), readings.quantity)
        arrays = [pa.array(c).cast(f.type) for c, f in zip(columns, list(READINGS)[1:], strict=True)]
        table = pa.table([self._city.ids(readings.channel), *arrays], schema=READINGS)
        self._writer.write_table(table, row_group_size=_ROW_GROUP)

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class CsvTarget:
    """channel,start,seconds,quantity,unit with exact decimals in the channel's unit."""

    def __init__(self, path: Path):
        self._path, self._file = path, path.open("wb")
        self._file.write(b"channel,start,seconds,quantity,unit\n")

    def prepare(self, city: City) -> None:
        """Write the channels beside the readings."""
        self._city = city
        _channels_ndjson(city, self._path)

    def send(self, readings: Readings) -> None:
        """Append the readings."""
        options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
        pa.csv.write_csv(_texts(self._city, readings), self._file, options)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class NdjsonTarget:
    """One JSON reading a line; to standard output where there is no path."""

    def __init__(self, path: Path | None):
        self._path = path
        self._file: IO[bytes] = sys.stdout.buffer if path is None else path.open("wb")

    def prepare(self, city: City) -> None:
        """Write the channels beside the readings."""
        self._city = city
        if self._path is not None:
            _channels_ndjson(city, self._path)

    def send(self, readings: Readings) -> None:
        """Append the readings."""
        rows = _texts(self._city, readings)
        parts = [
            '{"channel":"',
            rows["channel"],
            '","start":"',
            rows["start"],
            '","seconds":',
            rows["seconds"].cast(pa.string()),
        ]
        parts += [',"quantity":', rows["quantity"], ',"unit":"', rows["unit"].cast(pa.string()), '"}\n']
        lines = pc.binary_join_element_wise(*parts, "").combine_chunks() if len(rows) else pa.array([], pa.string())
        for chunk in lines.chunks if isinstance(lines, pa.ChunkedArray) else [lines]:
            offsets, texts = np.frombuffer(chunk.buffers()[1], np.int32), chunk.buffers()[2]
            if len(chunk):
                self._file.write(texts[int(offsets[chunk.offset]) : int(offsets[chunk.offset + len(chunk)])])
        self._file.flush()

    def close(self) -> None:
        """Finish the file; standard output stays open."""
        if self._path is not None:
            self._file.close()


def decimals(quantity: np.ndarray, scale: int) -> pa.Array:
    """Exact decimal texts of int64 thousandths; `scale` (a power of ten) of them are one unit."""
    words = np.empty((len(quantity), 2), np.int64)
    words[:, 0], words[:, 1] = quantity, quantity >> 63
    exponent = len(str(scale)) - 1
    wide = pa.Array.from_buffers(pa.decimal128(38, exponent), len(quantity), [None, pa.py_buffer(words)])
    return wide.cast(pa.string())


def _texts(city: City, readings: Readings) -> pa.Table:
    """channel, start, seconds, quantity, unit as they stand in CSV and JSON."""
    block = city.block_of(readings.channel)
    start = pa.array(readings.full("start")).cast(pa.timestamp("ms", "UTC"))
    quantity = pa.nulls(len(readings), pa.string())
    for scale in sorted({b.scale for b in BLOCKS}):
        mine = np.isin(block, [i for i, b in enumerate(BLOCKS) if b.scale == scale])
        if mine.any():
            quantity = pc.replace_with_mask(quantity, pa.array(mine), decimals(readings.quantity[mine], scale))
    unit = pa.DictionaryArray.from_arrays(pa.array(block.astype(np.int8)), pa.array([b.unit for b in BLOCKS]))
    columns = {
        "channel": city.ids(readings.channel),
        "start": pc.strftime(start, "%Y-%m-%dT%H:%M:%SZ"),
        "seconds": pa.array(readings.full("seconds")),
        "quantity": quantity,
        "unit": unit.cast(pa.string()),
    }
    return pa.table(columns)


def _plain(table: pa.Table) -> pa.Table:
    """Dictionaries as texts."""
    fields = [pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(fields))


def _channels_ndjson(city: City, beside: Path) -> None:
    with beside.with_suffix(".channels.ndjson").open("wb") as file:
        for table in city.tables(1 << 16):
            file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in table.to_pylist())
