"""Readings as NDJSON or as one JSON array (also: one object). RFC 8259, strictly.

Plain records go through the compiled scanner; any other goes through Python's parser with everything closed that it leaves
open: NaN, Infinity, duplicate keys (at any depth), numbers that are not representable, deep nesting, lone surrogates.
Unknown fields are ignored, but must be JSON. A refused Arrow row is kept as such a record too: instead of `channel` it may
have `index` (dense), and instead of `quantity` it may have `thousandths` (of the base unit), so that it can be replayed.

>>> decode_ndjson(b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 0.125}', table, now_ms).readings.quantity
array([125000])
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from meterpulse.ingest import json_scan
from meterpulse.ingest.checks import (
    EXACT,
    PARSED,
    REASON_CODES,
    REFUSED,
    THOUSANDTHS,
    Columns,
    Limits,
    finish,
    judge,
    judge_exactly,
    told,
)
from meterpulse.ingest.contract import BodyError, Decoded, Rejected, RowError
from meterpulse.ingest.layout import CANONICAL, NO_UNIT, Layout, packed
from meterpulse.ingest.record import NumberText, Record, read, whole
from meterpulse.ingest.vector import padded
from meterpulse.model.channel import NOT_FOUND, ChannelTable
from meterpulse.model.quantity import UNITS
from meterpulse.model.reading import Readings

NDJSON, JSON = "application/x-ndjson", "application/json"
SMALL_BYTES = 1024  # below this the set-up of the columns costs more than Python's parser
NESTING_MAX = 64
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_UNIT_OFFSETS, _UNIT_NAMES = packed(list(UNITS))


def decode_ndjson(body: bytes, table: ChannelTable, now_ms: int, layout: Layout = CANONICAL) -> Decoded:
    """One record per line; blank lines are skipped."""
    body = bytes(body).removeprefix(_BOM)
    if len(body) <= SMALL_BYTES:
        lines = [line.removesuffix(b"\r") for line in body.split(b"\n")]
        return _small([line for line in lines if line.strip(_BLANK)], table, now_ms, layout, NDJSON)
    return _large(padded(body), 0, body.count(b"\n") + 1, table, now_ms, layout, NDJSON)


def decode_array(body: bytes, table: ChannelTable, now_ms: int, layout: Layout = CANONICAL) -> Decoded:
    """The elements of one array, or one object; raises BodyError 400 where the body is neither."""
    body = bytes(body).removeprefix(_BOM)
    text = body.lstrip(_BLANK)
    if text[:1] == b"{":
        return _small([text.rstrip(_BLANK)], table, now_ms, layout, JSON)
    if text[:1] != b"[":
        raise BodyError(400, "the body is not a JSON array of readings; begin with [ or send one object")
    return _large(padded(body), len(body) - len(text) + 1, body.count(b",") + 2, table, now_ms, layout, JSON)


def _large(
    data: np.ndarray, at: int, rows_max: int, table: ChannelTable, now_ms: int, layout: Layout, media_type: str
) -> Decoded:
    size = len(data) - 64
    span, code, offsets = (
        np.empty((2, rows_max), np.int64),
        np.empty(rows_max, np.uint8),
        np.empty(rows_max + 1, np.int64),
    )
    start, seconds, mantissa, revision = (np.empty(rows_max, np.int64) for _ in range(4))
    exponent, unit, ids = np.empty(rows_max, np.int16), np.empty(rows_max, np.uint8), np.empty(size, np.uint8)
    n, end = json_scan.scan(
        data, at, size, media_type == JSON, *layout.names, _UNIT_OFFSETS, _UNIT_NAMES, layout.unit,
        span, code, offsets, ids, start, seconds, mantissa, exponent, unit, revision,
    )  # fmt: skip
    limits = Limits.of(table)
    channel = table.lookup(offsets[: n + 1], ids[: offsets[n]])
    columns = Columns(code[:n], channel, start[:n], seconds[:n], mantissa[:n], exponent[:n], unit[:n], revision[:n], {})
    wide: dict[int, tuple[int, int]] = {}

    def original(row: int) -> bytes:
        return data[span[0, row] : span[1, row]].tobytes()

    for row in np.flatnonzero(columns.code == REFUSED).tolist():
        try:
            record = parsed(original(row), layout)
        except RowError as error:
            columns.refused[row] = (error.reason, error.detail)
        else:
            place(columns, row, record, table, wide)
    done = finish(columns, limits, now_ms, original, media_type, wide=wide)
    return _closed(done, data[:size], end) if media_type == JSON else done


def place(columns: Columns, row: int, record: Record, table: ChannelTable, wide: dict[int, tuple[int, int]]) -> None:
    """Puts a record that Python read among the columns."""
    columns.code[row], columns.channel[row] = PARSED, index_of(record.channel, table)
    columns.start[row], columns.seconds[row], columns.revision[row] = record.start, record.seconds, record.revision
    columns.exponent[row], columns.unit[row] = record.exponent, record.unit
    if -(2**63) < record.mantissa < 2**63:
        columns.mantissa[row] = record.mantissa
    else:
        columns.mantissa[row], columns.exponent[row] = (
            (1 if record.mantissa > 0 else -1),
            1,
        )  # an exponent above 0 asks for wide integers
        wide[row] = record.mantissa, record.exponent


def index_of(channel: str | int, table: ChannelTable) -> int:
    """The dense index, or NOT_FOUND."""
    if isinstance(channel, int):
        return channel if 0 <= channel < table.count else NOT_FOUND
    return table.lookup_one(channel)


def _closed(done: Decoded, data: np.ndarray, end: int) -> Decoded:
    """What stands behind the array's bracket, or that there is none, is one more refused row."""
    rest = data[end + 1 :].tobytes().strip(_BLANK)
    if end >= len(data):
        done.rejected.append(
            Rejected("bad_json", "the array is not closed: rows behind this point did not arrive", b"", JSON)
        )
    elif rest:
        done.rejected.append(Rejected("bad_json", "there is more behind the array", rest, JSON))
    return done


def _small(rows: list[bytes], table: ChannelTable, now_ms: int, layout: Layout, media_type: str) -> Decoded:
    """A few rows, each by itself."""
    good, rejected = [], []
    columns = Limits.of(table).columns
    for row in rows:
        try:
            record = parsed(row, layout)
        except RowError as error:
            rejected.append(Rejected(error.reason, error.detail, row, media_type))
            continue
        channel = index_of(record.channel, table)
        small = -(2**63) < record.mantissa < 2**63
        code, quantity, seconds = judge(
            channel,
            record.start,
            record.seconds,
            record.mantissa if small else 1,
            record.exponent if small else 1,
            record.unit,
            record.revision,
            *columns,
            now_ms,
        )
        if code == EXACT:
            profile = columns[1][channel]
            unit = int(columns[3][profile]) if record.unit == NO_UNIT else record.unit
            code, quantity = judge_exactly(
                record.mantissa, record.exponent, unit, record.start, bool(columns[2][profile] == 2), now_ms
            )
        if code == PARSED:
            good.append((channel, record.start, seconds, quantity, record.revision))
        else:
            rejected.append(Rejected(REASON_CODES[code], told(code, record.start, now_ms), row, media_type))
    if not good:
        return Decoded(Readings.empty(), rejected)
    channel, start, seconds, quantity, revision = zip(*good, strict=True)
    same = [c[:1] if c.count(c[0]) == len(c) else c for c in (start, seconds, revision)]
    return Decoded(Readings.of(channel, same[0], same[1], quantity, same[2]), rejected)


def parsed(row: bytes, layout: Layout = CANONICAL) -> Record:
    """One JSON object, strictly; raises RowError."""
    if row.count(b"{") + row.count(b"[") > NESTING_MAX and json_scan.deepest(padded(row), 0, len(row)) > NESTING_MAX:
        raise RowError("bad_json", f"nested deeper than {NESTING_MAX}")
    try:
        fields = _DECODER.decode(row.decode())
    except UnicodeDecodeError as error:
        raise RowError("bad_utf8", f"byte {error.start} is not valid UTF-8") from None
    except ValueError as error:
        raise RowError("bad_json", str(error)) from None
    if type(fields) is not dict:
        raise RowError("bad_json", "not a JSON object")
    get = fields.get
    if layout is CANONICAL:
        if "index" in fields or "thousandths" in fields:
            return _kept(fields)
        return read(get("channel"), get("start"), get("quantity"), get("seconds"), None, get("unit"), get("revision"))
    values = [get(name) if name else None for name in layout.read_order]
    return read(*values, default_unit=layout.unit)


def _kept(fields: dict[str, Any]) -> Record:
    """A refused Arrow row that comes back."""
    get, dense, exact = fields.get, "channel" not in fields, "quantity" not in fields
    record = read(
        "" if dense else get("channel"),
        get("start"),
        NumberText("0") if exact else get("quantity"),
        get("seconds"),
        None,
        get("unit"),
        get("revision"),
    )
    if dense:
        record = record._replace(channel=whole(get("index"), "wrong_type", "index"))
    if exact:
        record = record._replace(
            mantissa=whole(get("thousandths"), "not_a_number", "thousandths"), exponent=0, unit=THOUSANDTHS
        )
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RowError("duplicate_key", f"the key {twice[:40]!r} stands twice")
    return fields


def _constant(name: str) -> None:
    raise RowError("not_a_number", f"{name} is not JSON and not a quantity")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=NumberText, parse_int=NumberText, parse_constant=_constant
)
