"""Readings as NDJSON or as one JSON array (also: one object). RFC 8259, strictly.

Plain records go through the compiled scanner; any other goes through Python's parser with everything closed that it
leaves open: NaN, Infinity, duplicate keys (at any depth), numbers that are not representable, deep nesting, lone
surrogates. Unknown fields are ignored, but must be JSON. A refused Arrow row is kept as such a record too: instead of
`channel` it may have `index` (dense), and instead of `quantity` it may have `thousandths` (of the base unit), so that
it can be replayed.

>>> body = b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 0.125}'
>>> decode_ndjson(body, table, now_ms).readings.quantity
array([125000])
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from meterpulse.ingest import json_scan
from meterpulse.ingest.checks import THOUSANDTHS, Limits
from meterpulse.ingest.contract import BodyError, Decoded, Rejected, RowError
from meterpulse.ingest.few import SMALL_BYTES, columns_of, decode_few, judged
from meterpulse.ingest.layout import CANONICAL, Layout
from meterpulse.ingest.media import JSON, NDJSON, with_parameters
from meterpulse.ingest.record import NumberText, Record, read, whole
from meterpulse.ingest.scanned import UNIT_NAMES, UNIT_OFFSETS, Scanned
from meterpulse.ingest.vector import WIDTH, padded
from meterpulse.model.channel import ChannelTable

NESTING_MAX = 64
_ARGUMENTS = ("channel", "start", "quantity", "seconds", "end", "unit", "revision", "quality")
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


def decode_ndjson(body: bytes, table: ChannelTable, now_ms: int, layout: Layout = CANONICAL) -> Decoded:
    """One record per line; blank lines are skipped."""
    body = bytes(body).removeprefix(_BOM)
    if len(body) <= SMALL_BYTES:
        lines = [line.removesuffix(b"\r") for line in body.split(b"\n") if line.strip(_BLANK)]
        return decode_few(lines, lambda row: parsed(row, layout), table, now_ms, _kept_as(NDJSON, layout))
    return _large(padded(body), 0, body.count(b"\n") + 1, table, now_ms, layout, NDJSON)


def decode_array(body: bytes, table: ChannelTable, now_ms: int, layout: Layout = CANONICAL) -> Decoded:
    """The elements of one array, or one object; raises BodyError 400 where the body is neither."""
    body = bytes(body).removeprefix(_BOM)
    text = body.lstrip(_BLANK)
    if text[:1] == b"{":
        row = text.rstrip(_BLANK)
        return decode_few([row], lambda row: parsed(row, layout), table, now_ms, _kept_as(JSON, layout))
    if text[:1] != b"[":
        raise BodyError(400, "the body is not a JSON array of readings; begin with [ or send one object")
    if len(text) <= SMALL_BYTES and (decoded := _small_array(text, table, now_ms, layout)) is not None:
        return decoded
    return _large(padded(body), len(body) - len(text) + 1, body.count(b",") + 2, table, now_ms, layout, JSON)


def _kept_as(media_type: str, layout: Layout) -> str:
    return media_type if layout is CANONICAL else with_parameters(media_type, layout=layout.name)


def _large(
    data: np.ndarray, at: int, rows_max: int, table: ChannelTable, now_ms: int, layout: Layout, media_type: str
) -> Decoded:
    size, rows = len(data) - WIDTH, Scanned(data, rows_max)
    is_array = media_type == JSON
    rows.rows, end = json_scan.scan(
        data, at, size, is_array, *layout.names, UNIT_OFFSETS, UNIT_NAMES, layout.unit, *rows.room
    )
    done = rows.decoded(lambda row: parsed(row, layout), table, now_ms, _kept_as(media_type, layout))
    return _closed(done, data[:size], end) if is_array else done


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


def _small_array(text: bytes, table: ChannelTable, now_ms: int, layout: Layout) -> Decoded | None:
    """A short array in which every element is good; else None."""
    columns = Limits.of(table).columns
    if text.count(b"{") + text.count(b"[") > NESTING_MAX:
        return None
    try:
        elements = _DECODER.decode(text.decode())
        return Decoded(columns_of([judged(recorded(e, layout), table, columns, now_ms) for e in elements]), [])
    except (ValueError, RowError):
        return None


def parsed(row: bytes, layout: Layout = CANONICAL) -> Record:
    """One JSON object, strictly; raises RowError."""
    return recorded(value_of(row), layout)


def value_of(text: bytes) -> Any:
    """Any JSON value, strictly, its numbers as they were written (NumberText); raises RowError bad_json or bad_utf8."""
    if text.count(b"{") + text.count(b"[") > NESTING_MAX:
        if json_scan.deepest(padded(text), 0, len(text)) > NESTING_MAX:
            raise RowError("bad_json", f"nested deeper than {NESTING_MAX}")
    try:
        return _DECODER.decode(text.decode())
    except UnicodeDecodeError as error:
        raise RowError("bad_utf8", f"byte {error.start} is not valid UTF-8") from None
    except ValueError as error:
        raise RowError("bad_json", str(error)) from None


def recorded(fields: Any, layout: Layout) -> Record:
    """The record of a parsed JSON object; raises RowError."""
    if type(fields) is not dict:
        raise RowError("bad_json", "not a JSON object")
    get = fields.get
    if layout is CANONICAL:
        if "index" in fields or "thousandths" in fields:
            return _kept(fields)
        return read(
            get("channel"),
            get("start"),
            get("quantity"),
            get("seconds"),
            None,
            get("unit"),
            get("revision"),
            get("quality"),
        )
    values = dict(zip(_ARGUMENTS, (get(name) if name else None for name in layout.read_order), strict=True))
    return read(**values, default_unit=layout.unit)


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
        get("quality"),
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
