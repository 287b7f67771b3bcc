"""Any table of text: lines with a stamp, and numbers in columns that are channels, times of the day, or both.

A format says in a `Table` what its columns are; the work is done here for all of them, a few million cells at a time:

- Cells become whole thousandths exactly, rounded half to even once, whatever the column counts in.
- A row without any value is refused as `missing`. One that lacks some values gives the others; what lacks is counted.
- A line with another number of fields, or whose stamp is no time, costs that line.
- Local times become instants. The hour that comes twice a year is told apart by the order of the rows, or as the format
  says; a time that the clock skipped is refused.

>>> batches = list(read(path, 0, begin, table))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from meterpulse.ingest import delimited
from meterpulse.ingest.clocks import Clock, SecondPass
from meterpulse.ingest.contract import BodyError, FileBatch, Rejected, RowError
from meterpulse.ingest.delimited import FIELDS, MISSING, NUMBER, ODD, PLAIN, QUOTES
from meterpulse.ingest.files import chunks
from meterpulse.ingest.layout import packed
from meterpulse.ingest.media import ARROW, CSV, with_parameters
from meterpulse.ingest.record import decimal
from meterpulse.ingest.stamps import ABSOLUTE, BAD_STAMP, pattern_of, stamps
from meterpulse.ingest.streams import Define, Streams
from meterpulse.ingest.vector import padded
from meterpulse.model.quality import RAW, Quality, packed_of
from meterpulse.model.quantity import QUANTITY_MAX

CELLS_MAX = 2_000_000  # fields held at once


@dataclass(frozen=True)
class Table:
    """What stands in which column, counted from 0."""

    name: str  # of the format
    columns: int  # fields of a line
    stamp: tuple[int, ...]  # a time, or a date and a time
    pattern: tuple[str, ...]  # see `pattern_of`
    values: tuple[int, ...]
    define: Define
    keys: tuple[int, ...] = ()
    offsets_ms: tuple[int, ...] = ()  # added to a row's stamp for each of its values: 0 where left out
    delimiter: str = ","
    point: str = "."
    missing: tuple[str, ...] = ()  # markers of no value, besides an empty cell
    clock: str = "UTC"
    stamps: Literal["start", "end"] = "start"
    # The hour that comes twice: told apart by the rows' order; all of it the first or the second; both in one row.
    repeated: Literal["order", "first", "second", "merged"] = "order"
    skipped: Literal["refuse", "zeros"] = "refuse"  # times that the clock skipped: refused, or padding where zero
    interval_seconds: int = 300  # for telling the repeated hour's rows apart; channels have their own
    titles: tuple[str, ...] = ()  # of the value columns, for messages
    quality: int | None = None  # the column of the row's quality
    quality_of: Callable[[str], int] = packed_of  # its words to qualities, packed; raises ValueError

    @cached_property
    def kept_as(self) -> str:
        """The media type that a refused line is kept as."""
        return with_parameters(CSV, layout=self.name, header="absent")


def read(path: Path, after: int, begin: int, table: Table) -> Iterator[FileBatch]:
    """The batches of the lines from byte `begin` on that end behind position `after`; raises BodyError."""
    reader = _Reader(table)
    # What came before tells the passes of a repeated hour apart, so it is read again.
    resume = begin if reader.remembers else max(begin, after)
    for lines, position in chunks(path, resume):
        base = position - len(lines)
        for part in reader.parts(lines):
            part = replace(part, position=base + part.position)
            if part.position > after:
                yield part


class _Reader:
    """Turns chunks of lines into batches; it knows the streams and the clock."""

    def __init__(self, table: Table):
        self._t = table
        self._pattern = pattern_of(*table.pattern)
        # A stamp that says its offset, or counts from 1970, needs no clock.
        self._clock = Clock("UTC" if np.isin(self._pattern, ABSOLUTE).any() else table.clock)
        self._streams = Streams(table.define, len(table.values), len(table.keys))
        self._second = SecondPass(table.interval_seconds)
        self._markers = packed([marker.lower() for marker in table.missing])
        self._rows_max = max(1, CELLS_MAX // table.columns)
        self._offsets = np.array(table.offsets_ms or (0,) * len(table.values), np.int64)
        self._values, self._keys, self._stamp = (np.array(c, np.int64) for c in (table.values, table.keys, table.stamp))

    @property
    def remembers(self) -> bool:
        """Whether rows mean something else depending on those before them."""
        return self._clock.moves and self._t.repeated == "order"

    def parts(self, lines: bytes) -> Iterator[FileBatch]:
        """Batches of whole lines; positions count from the beginning of `lines`."""
        data, at = padded(lines), 0
        room = min(self._rows_max, lines.count(b"\n") + 1)
        while at < len(lines):
            begins, ends = (np.zeros((room, self._t.columns), np.int32) for _ in range(2))
            span, code = np.empty((2, room), np.int64), np.zeros(room, np.uint8)
            rows, at = delimited.split(data, at, len(lines), ord(self._t.delimiter), begins, ends, span, code)
            yield replace(self._batch(data, rows, begins, ends, span, code), position=at)

    def _batch(self, data, rows, begins, ends, span, code) -> FileBatch:  # type: ignore[no-untyped-def]
        table, width = self._t, len(self._t.values)
        local, shift = np.empty(rows, np.int64), np.empty(rows, np.int64)
        stamps(data, rows, begins, ends, self._stamp, code, self._pattern, local, shift)
        mantissa, places = np.zeros((rows, width), np.int64), np.zeros((rows, width), np.int8)
        cell = np.full((rows, width), MISSING, np.uint8)
        offsets, texts = self._markers
        delimited.numbers(
            data, rows, begins, ends, self._values, code, ord(table.point), offsets, texts, mantissa, places, cell
        )
        refused = _Refused(data, span, table)
        refused.add(np.flatnonzero(code[:rows] == FIELDS), "bad_csv", f"the line has not {table.columns} fields")
        refused.add(np.flatnonzero(code[:rows] == QUOTES), "bad_csv", "a quote is not closed, or text follows it")
        refused.add(
            np.flatnonzero((code[:rows] == PLAIN) & (local == BAD_STAMP)),
            "bad_time",
            f"the stamp is no time such as {' '.join(table.pattern)}",
        )
        usable = (code[:rows] == PLAIN) & (local != BAD_STAMP)
        stream, names = self._streams_of(data, rows, begins, ends, code, usable, refused)
        cell[~usable] = MISSING
        cell[stream < 0] = MISSING
        start = self._starts(local, shift, stream, names, mantissa, cell, usable, refused)
        if table.quality is not None:
            self._qualities(data, rows, begins, ends, code, usable, refused, start.shape)
        early = (start < 0) & (cell != MISSING)
        refused.add(np.flatnonzero(early.any(axis=1)), "bad_time", "the stamp is before 1970")
        cell[early | ~usable[:, None]] = MISSING
        flat = np.where(stream.ravel() < 0, 0, stream.ravel())
        self._scale(data, begins, ends, mantissa, places, cell, flat, refused)
        lacking = (cell == MISSING) & (stream >= 0) & usable[:, None] & ~early
        nothing = lacking.any(axis=1) & (lacking | (stream < 0)).all(axis=1)
        refused.add(np.flatnonzero(nothing), "missing", "the row has no value")
        return replace(
            self._assembled(start, mantissa, cell, flat, refused),
            ignored={"missing value": int(lacking.sum())} if lacking.any() else {},
        )

    def _streams_of(self, data, rows, begins, ends, code, usable, refused):  # type: ignore[no-untyped-def]
        """int32[rows, values]: the number of each cell's stream, -1 for none; and each row's key."""
        if not len(self._keys):
            numbers, why = self._streams.of(b"")
            if why is not None:
                raise BodyError(422, f"{self._t.name}: {why[1]}")
            return np.broadcast_to(numbers, (rows, len(numbers))).copy(), None
        index, uniques = _words(data, rows, begins, ends, self._keys, code)
        table = np.full((max(1, len(uniques)), len(self._values)), -1, np.int32)
        needed = np.unique(index[usable]).tolist()
        for u in needed:
            table[u], why = self._streams.of(uniques[u])
            if why is not None:
                bad = np.flatnonzero((index == u) & usable)
                refused.add(bad, *why)
                usable[bad] = False
        return table[index], (index, uniques)

    def _starts(self, local, shift, stream, names, mantissa, cell, usable, refused):  # type: ignore[no-untyped-def]
        """int64[rows, values] ms of the cells' beginnings. Sets `cell` to MISSING where the clock skipped the time."""
        table = self._t
        seconds = np.array(self._streams.seconds or [0], np.int64)
        interval = np.array(self._streams.interval or [False])
        stands_for = np.where(stream < 0, 0, stream)
        back = np.where(interval[stands_for], seconds[stands_for] * 1_000, 0) if table.stamps == "end" else 0
        self._quality = None
        at = local[:, None] + self._offsets[None, :]
        if not self._clock.moves:
            return at - shift[:, None] - back - self._clock.offsets(np.zeros(1, np.int64))[0]
        slots = table.repeated == "merged"  # the file's rows are slots of the clock on the wall, each once
        at = np.where(usable[:, None], at - back if slots else at, 0)
        first, second = (o.reshape(at.shape) for o in self._clock.offsets(at.ravel()))
        twice, skipped = first > second, (first < second) & usable[:, None]
        offset = first.copy()
        if table.repeated == "second":
            offset[twice] = second[twice]
        elif table.repeated == "order" and twice.any():
            rows = np.flatnonzero(twice.any(axis=1) & usable)
            keys = [""] * len(rows) if names is None else [names[1][i].decode() for i in names[0][rows].tolist()]
            later = np.array(self._second.of(keys, local[rows].tolist()))
            offset[rows[later]] = second[rows[later]]
        elif slots and twice.any():
            self._quality = np.where(twice, np.int32(Quality.MIXED), np.int32(RAW))
        if skipped.any():
            if table.stamps == "end" and not slots:
                skipped &= self._is_skipped(
                    at - 1
                )  # the instant of the change by its old name ends the interval before
            padding = (
                skipped & (mantissa == 0) & (cell == NUMBER) if table.skipped == "zeros" else np.zeros_like(skipped)
            )
            bad = skipped & ~padding & (cell != MISSING)
            refused.add(np.flatnonzero(bad.any(axis=1)), "bad_time", f"the clock of {table.clock} skipped this time")
            usable[skipped.all(axis=1)] = False
            cell[skipped] = MISSING
            stream[skipped] = -1
        return at - offset - (0 if slots else back)

    def _qualities(self, data, rows, begins, ends, code, usable, refused, shape) -> None:  # type: ignore[no-untyped-def]
        index, uniques = _words(data, rows, begins, ends, np.array([self._t.quality]), code)
        packed = np.full(max(1, len(uniques)), RAW, np.int32)
        for u, text in enumerate(uniques):
            try:
                packed[u] = self._t.quality_of(text.decode())
            except ValueError as error:
                bad = np.flatnonzero((index == u) & usable)
                refused.add(bad, "bad_quality", str(error))
                usable[bad] = False
        self._quality = np.broadcast_to(packed[index][:, None], shape)

    def _is_skipped(self, local: np.ndarray) -> np.ndarray:
        first, second = self._clock.offsets(local.ravel())
        return (first < second).reshape(local.shape)

    def _scale(self, data, begins, ends, mantissa, places, cell, flat, refused) -> None:  # type: ignore[no-untyped-def]
        """Mantissas become thousandths in place; what the compiled loops left is done in Python's integers."""
        if not self._streams.names:
            cell[:] = MISSING
            return
        factor = np.array(self._streams.factor_of, np.int32)[flat]
        delimited.scaled(mantissa.ravel(), places.ravel(), factor, *self._streams.factor_tables(), cell.ravel())
        large = np.abs(mantissa) > QUANTITY_MAX
        cell[large & (cell == NUMBER)] = ODD
        width = cell.shape[1]
        for at in np.flatnonzero(cell.ravel() == ODD).tolist():
            row, k = divmod(at, width)
            column = self._values[k]
            text = data[begins[row, column] : ends[row, column]].tobytes()
            try:
                mantissa[row, k] = self._exactly(text, self._streams.factors[factor[at]])
                cell[row, k] = NUMBER
            except RowError as error:
                cell[row, k] = ODD
                title = f"{self._t.titles[k]}: " if self._t.titles else ""
                refused.add(np.array([row]), error.reason, title + error.detail)

    def _exactly(self, text: bytes, factor: Fraction) -> int:
        try:
            words = text.decode()
        except UnicodeDecodeError:
            raise RowError("bad_utf8", "a number is not valid UTF-8") from None
        if self._t.point != ".":
            words = words.replace(".", "?").replace(self._t.point, ".")  # a point is no part of such a number
        digits, exponent = decimal(words)
        product = Fraction(digits) * factor * (Fraction(10) ** exponent)
        quantity = round(product)
        if abs(quantity) > QUANTITY_MAX:
            raise RowError("overflow", f"{words[:40]} is more than a meter measures")
        return quantity

    def _assembled(self, start, mantissa, cell, flat, refused) -> FileBatch:  # type: ignore[no-untyped-def]
        good = np.flatnonzero(cell.ravel() == NUMBER)
        numbers = flat[good]
        used, index = np.unique(numbers, return_inverse=True)
        seconds = np.array(self._streams.seconds or [0], np.int32)
        columns = {
            "channel": pa.DictionaryArray.from_arrays(
                pa.array(index.astype(np.int32)), pa.array([self._streams.names[u] for u in used.tolist()], pa.string())
            ),
            "start": pa.array(np.ascontiguousarray(start).ravel()[good], pa.timestamp("ms", "UTC")),
            "seconds": pa.array(seconds[numbers]),
            "quantity": pa.array(mantissa.ravel()[good]),
            "revision": pa.array(np.zeros(len(good), np.int64)),
        }
        if self._quality is not None:
            columns["quality"] = pa.array(self._quality.ravel()[good])
        channels, self._streams.new = self._streams.new, []
        return FileBatch(body_of(pa.record_batch(columns)), ARROW, len(good), 0, channels, refused.rows)


def _words(data, rows, begins, ends, columns, code) -> tuple[np.ndarray, list[bytes]]:  # type: ignore[no-untyped-def]
    """The texts of these columns together: int32[rows] into the different ones."""
    total = int((ends[:rows][:, columns] - begins[:rows][:, columns]).sum()) + rows * len(columns)
    offsets, out = np.empty(rows + 1, np.int64), np.empty(total + 1, np.uint8)
    delimited.keys(data, rows, begins, ends, columns, code, offsets, out)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(out)]
    words = pa.LargeBinaryArray.from_buffers(pa.large_binary(), rows, buffers).dictionary_encode()
    return words.indices.to_numpy(), words.dictionary.to_pylist()


class _Refused:
    """The refused lines of a batch."""

    def __init__(self, data: np.ndarray, span: np.ndarray, table: Table):
        self._data, self._span, self._table = data, span, table
        self._found: list[tuple[int, Rejected]] = []

    @property
    def rows(self) -> list[Rejected]:
        """In the order of the file."""
        return [rejected for _, rejected in sorted(self._found, key=lambda found: found[0])]

    def add(self, rows: np.ndarray, reason: str, detail: str) -> None:
        """Refuses these lines."""
        for row in rows.tolist():
            original = self._data[self._span[0, row] : self._span[1, row]].tobytes()
            self._found.append((row, Rejected(reason, detail, original, self._table.kept_as)))


def body_of(batch: pa.RecordBatch) -> bytes:
    """One record batch as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()
