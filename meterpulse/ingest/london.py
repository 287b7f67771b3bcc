"""Low Carbon London, half hours: `LCLid,tstp,energy(kWh/hh)`, raw `LCLid,stdorToU,DateTime,KWH/hh (per half hour)`, and
a row a day `LCLid,day,hh_0,...,hh_47`.

- The channel's id is the LCLid: electricity in kWh, delivered, intervals of 1,800 seconds. Other columns are ignored.
- Stamps are GMT all year (31 March and 27 October have 48 of them), so they are read as UTC, and the channel's days are
  UTC's. A stamp is taken as the start of its half hour. The source does not say which end it means; the file's own
  days, 00:00 to 23:30, are whole days only this way.
- Values are padded with spaces. `Null` (or nothing) is no reading: the row is refused as `missing`.
- A stamp off the half-hour grid stays at its exact instant where it carries a value.
- Exact duplicates (one a month at midnight, where files were joined) are passed on: (channel, start) counts once
  downstream.
- In a row a day, hh_0 is the half hour from 00:00. An empty half hour is no reading; a row of them is refused as `missing`.
- A value finer than a thousandth of a Wh (kWh with more than 6 decimals: 1.0039999) is rounded half to even, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from meterpulse.ingest import ARROW, CSV, FileBatch, Format, tabular
from meterpulse.ingest.checks import PARSED, REFUSED, thousandths
from meterpulse.ingest.contract import BodyError, Rejected, RowError
from meterpulse.ingest.csv import fields_of
from meterpulse.ingest.files import chunks, header_of
from meterpulse.ingest.media import with_parameters
from meterpulse.ingest.record import decimal, instant
from meterpulse.ingest.scalars import clock, number
from meterpulse.ingest.scanned import Scanned
from meterpulse.ingest.streams import Stream
from meterpulse.ingest.vector import csv_end, line_end, padded
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quantity import QUANTITY_MAX, UNITS

SECONDS = 1_800
_KWH = UNITS["kWh"]
_NAMES = {"lclid": 0, "tstp": 1, "datetime": 1, "energy(kwh/hh)": 2, "kwh/hh (per half hour)": 2}
_IGNORED = 3
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{1,9})?)", re.ASCII)


class London(Format):
    """The London half-hour layouts."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By its header."""
        header = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
        return columns_of(header) is not None or _is_daily(header)

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """Batches of Arrow; positions are bytes."""
        header, begin = header_of(path)
        if _is_daily(header):
            yield from tabular.read(path, after, begin, _DAILY)
            return
        columns = columns_of(header)
        if columns is None:
            raise BodyError(
                422, f"{path.name} lacks the header LCLid,tstp,energy(kWh/hh); it begins with {header[:60]!r}"
            )
        seen: set[str] = set()
        for lines, position in chunks(path, max(after, begin)):
            yield _batch(lines, columns, position, seen)


def columns_of(header: bytes) -> np.ndarray | None:
    """What each column is (0 id, 1 stamp, 2 kWh, 3 ignored), or None if this is not the layout.

    >>> columns_of(b"LCLid,stdorToU,DateTime,KWH/hh (per half hour) ").tolist()
    [0, 3, 1, 2]
    """
    try:
        names = fields_of(header.rstrip(b"\r\n"))
    except RowError:
        return None
    columns = [_NAMES.get(name.strip().lower(), _IGNORED) for name in names]
    return np.array(columns, np.uint8) if sorted(c for c in columns if c != _IGNORED) == [0, 1, 2] else None


def _is_daily(header: bytes) -> bool:
    return [name.strip().lower() for name in header.decode("latin-1").split(",")] == _DAILY_NAMES


def _batch(lines: bytes, columns: np.ndarray, position: int, seen: set[str]) -> FileBatch:
    rows = Scanned(padded(lines), lines.count(b"\n") + 1)
    rows.rows = _scan(
        rows.data,
        len(lines),
        columns,
        rows.span,
        rows.code,
        rows.offsets,
        rows.ids,
        rows.start,
        rows.mantissa,
        rows.exponent,
    )
    n = rows.rows
    offsets, ids = pa.py_buffer(rows.offsets[: n + 1]), pa.py_buffer(rows.ids)
    words = pa.LargeStringArray.from_buffers(n, offsets, ids).cast(pa.string()).dictionary_encode()
    names, index = words.dictionary.to_pylist(), words.indices.to_numpy().copy()
    names_of = ("channel", "start", "quantity", "")
    kept_as = with_parameters(CSV, header="absent", columns=",".join(names_of[c] for c in columns.tolist()))
    quantity, good, rejected = _scaled(rows, n), rows.code[:n] == PARSED, []
    for row in np.flatnonzero(~good).tolist():
        try:
            id, rows.start[row], quantity[row] = _parsed(rows.original(row), columns)
        except RowError as error:
            rejected.append(Rejected(error.reason, error.detail, rows.original(row), kept_as))
            continue
        if id not in names:
            names.append(id)
        index[row], good[row] = names.index(id), True
    taken = sorted(set(index[good].tolist()))
    batch = pa.record_batch(
        {
            "channel": pa.DictionaryArray.from_arrays(pa.array(index[good], pa.int32()), pa.array(names, pa.string())),
            "start": pa.array(rows.start[:n][good], pa.timestamp("ms", "UTC")),
            "seconds": pa.array(np.full(int(good.sum()), SECONDS, np.int32)),
            "quantity": quantity[good],
            "revision": np.zeros(int(good.sum()), np.int64),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    channels = _channels([names[i] for i in taken], seen)
    return FileBatch(sink.getvalue().to_pybytes(), ARROW, batch.num_rows, position, channels, rejected)


def _channels(ids: list[str], seen: set[str]) -> list[Channel]:
    out = []
    for id in ids:
        if id not in seen:
            seen.add(id)
            try:
                out.append(_channel(id))
            except ChannelError:
                continue  # its rows are refused as unknown when they are decoded
    return out


def _channel(id: str) -> Channel:
    return Channel(id, "electricity", _KWH.name, usage_point=id, interval_seconds=SECONDS)


_DAILY_NAMES = ["lclid", "day", *(f"hh_{k}" for k in range(48))]
_DAILY = tabular.Table(
    "london",
    columns=50,
    keys=(0,),
    stamp=(1,),
    pattern=("%Y-%m-%d",),
    values=tuple(range(2, 50)),
    offsets_ms=tuple(k * SECONDS * 1_000 for k in range(48)),
    missing=("null",),
    titles=tuple(_DAILY_NAMES[2:]),
    define=lambda key, k: Stream(_channel(key[0]), _KWH.scale),
)


def _scaled(rows: Scanned, n: int) -> np.ndarray:
    """int64[n] mWh, rounded half to even; a row that does not fit is left to `_parsed`."""
    decimals, mantissa = -rows.exponent[:n].astype(np.int64), rows.mantissa[:n]
    plain = (rows.code[:n] == PARSED) & (np.abs(mantissa) < 10**12)
    rows.code[:n][~plain] = REFUSED
    grown = mantissa * 10 ** np.where(plain, np.clip(6 - decimals, 0, 6), 0)
    divisor = 10 ** np.where(plain, np.clip(decimals - 6, 0, 12), 0)
    quotient, rest = np.divmod(grown, divisor)
    return quotient + ((2 * rest > divisor) | ((2 * rest == divisor) & (quotient & 1 == 1)))


def _parsed(line: bytes, columns: np.ndarray) -> tuple[str, int, int]:
    """(id, start ms, mWh) of one line, in plain Python; raises RowError."""
    fields = fields_of(line)
    if len(fields) != len(columns):
        raise RowError("bad_csv", f"{len(fields)} fields where the header has {len(columns)}")
    id, stamp, value = (fields[int(np.flatnonzero(columns == c)[0])].strip() for c in (0, 1, 2))
    if not id:
        raise RowError("missing_field", "the row has no LCLid")
    match = _STAMP.fullmatch(stamp)
    if match is None:
        raise RowError("bad_time", f"{stamp[:40]!r} is not a stamp such as 2013-01-01 00:30:00")
    start = instant(f"{match[1]}T{match[2]}Z")
    if value.lower() in ("", "null"):
        raise RowError("missing", f"the row has no value ({value or 'nothing'})")
    quantity = thousandths(*decimal(value), _KWH.code)
    if abs(quantity) > QUANTITY_MAX:
        raise RowError("overflow", f"{value[:40]} kWh is more than a meter measures")
    return id, start, quantity


@njit(nogil=True, inline="always")
def _spaces(data, at):  # type: ignore[no-untyped-def]
    while data[at] == 0x20:
        at += 1
    return at


@njit(nogil=True, cache=True)
def _scan(data, stop, columns, span, code, offsets, ids, start, mantissa, exponent):  # type: ignore[no-untyped-def]
    """Lines of [0, stop) into the arrays of `Scanned`; returns how many. What is not plain is left to `_parsed`."""
    at, rows, written = 0, 0, 0
    offsets[0] = 0
    while at < stop:
        begin, plain, before = at, True, written
        last = line_end(data, at, stop)
        end = last - 1 if last > begin and data[last - 1] == 0x0D else last
        if _spaces(data, begin) >= end:
            at = last + 1
            continue
        for k in range(len(columns)):
            field = _spaces(data, at)
            stop_of_field = csv_end(data, at)
            read = stop_of_field
            if columns[k] == 0:
                while read > field and data[read - 1] == 0x20:
                    read -= 1
                plain = plain and read > field
                for j in range(field, read):
                    ids[written] = data[j]
                    written += 1
                read = stop_of_field
            elif columns[k] == 1:
                read, start[rows] = clock(data, field, 0x20)
            elif columns[k] == 2:
                read, mantissa[rows], exponent[rows] = number(data, field, False)
            if not plain or read < 0 or _spaces(data, read) != stop_of_field and columns[k] != 3:
                plain = False
                break
            at = stop_of_field + 1
            if k + 1 < len(columns) and data[stop_of_field] != 0x2C or k + 1 == len(columns) and stop_of_field != end:
                plain = False
                break
        if not plain:
            written = before
        code[rows] = PARSED if plain else REFUSED
        span[0, rows], span[1, rows] = begin, end
        offsets[rows + 1] = written
        rows += 1
        at = last + 1
    return rows
