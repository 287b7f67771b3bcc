"""UtilityAPI: intervals as its API gives them in JSON, and as CSV downloads.

- JSON of meters with their readings: `{"intervals": [{"meter_uid": ..., "readings": [{"start", "end", "kwh",
  "datapoints": [{"type", "unit", "value"}]}]}]}`, and of single intervals: `{"intervals": [{"meter_uid", "start", "end",
  "kwh"}]}`. The channel's id is the meter_uid. Where datapoints tell directions apart, fwd and rev are `<meter_uid>:fwd`
  (delivered) and `<meter_uid>:rev` (received), and their difference `kwh` is left out.
- Records `service_uid, interval_start, interval_end, interval_kWh`, as CSV with a header, a JSON array, or one a line. The
  channel's id is the service_uid; other fields are ignored.
- Times carry their offset. UtilityAPI does not say the zone of a meter, so --register makes its days UTC's; give --channels
  beforehand for others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from meterpulse.ingest import ARROW, CSV, JSON, NDJSON, FileBatch, Format, csv_scan, json_scan
from meterpulse.ingest.checks import thousandths
from meterpulse.ingest.contract import BodyError, Rejected, RowError
from meterpulse.ingest.csv import header_roles
from meterpulse.ingest.files import chunks, header_of
from meterpulse.ingest.layout import UTILITYAPI
from meterpulse.ingest.media import with_parameters
from meterpulse.ingest.record import NumberText, decimal, instant
from meterpulse.ingest.scanned import UNIT_NAMES, UNIT_OFFSETS, Scanned
from meterpulse.ingest.tabular import body_of
from meterpulse.ingest.vector import WIDTH, padded
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quantity import QUANTITY_MAX, UNITS

_KWH = UNITS["kWh"]

DOCUMENT_BYTES_MAX = 64 * 2**20
_BOM = b"\xef\xbb\xbf"
_RECORD = (b'"service_uid"', b'"interval_start"', b'"interval_kWh"')
_DOCUMENT = re.compile(rb'\{\s*"[^"]{1,40}"\s*:')
_DIRECTION = {"fwd": "delivered", "rev": "received"}


class UtilityApi(Format):
    """UtilityAPI's intervals."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By the header's columns, or the keys of its JSON."""
        return _container(head) is not None

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """Positions are bytes; a JSON document is one batch."""
        with open(path, "rb") as file:
            container = _container(file.read(64 * 1024))
        if container is None:
            raise BodyError(422, f"{path.name} has neither UtilityAPI's columns nor its JSON")
        yield from _READERS[container](path, after)


def _container(head: bytes) -> str | None:
    text = head.removeprefix(_BOM).lstrip()
    if text[:1] in (b"[", b"{"):
        if b'"channel"' in text:
            return None
        if all(key in text for key in _RECORD):
            return "array" if text[:1] == b"[" else "ndjson"
        is_document = _DOCUMENT.match(text) and b'"intervals"' in text and (b'"readings"' in text or b'"kwh"' in text)
        return "document" if is_document else None
    try:
        header_roles(text.partition(b"\n")[0], UTILITYAPI)
    except BodyError:
        return None
    return "csv"


def _csv(path: Path, after: int) -> Iterator[FileBatch]:
    header, begin = header_of(path)
    roles, seen = header_roles(header, UTILITYAPI), set[str]()
    kept_as = with_parameters(CSV, layout=UTILITYAPI.name)
    for lines, position in chunks(path, max(after, begin)):
        rows = Scanned(padded(lines), lines.count(b"\n") + 1)
        rows.rows = csv_scan.scan(
            rows.data, 0, len(lines), roles, UNIT_OFFSETS, UNIT_NAMES, UTILITYAPI.unit, *rows.room
        )
        yield FileBatch(header + b"\n" + lines, kept_as, rows.rows, position, _channels(rows, seen))


def _ndjson(path: Path, after: int) -> Iterator[FileBatch]:
    seen = set[str]()
    for lines, position in chunks(path, after):
        rows = _scanned(lines.removeprefix(_BOM), 0, lines.count(b"\n") + 1, NDJSON)
        kept_as = with_parameters(NDJSON, layout=UTILITYAPI.name)
        yield FileBatch(lines, kept_as, rows.rows, position, _channels(rows, seen))


def _array(path: Path, after: int) -> Iterator[FileBatch]:
    body = _whole(path, after)
    if body:
        begin = body.index(b"[") + 1
        rows = _scanned(body, begin, body.count(b",") + 2, JSON)
        yield FileBatch(
            body, with_parameters(JSON, layout=UTILITYAPI.name), rows.rows, len(body), _channels(rows, set())
        )


def _scanned(body: bytes, at: int, rows_max: int, kind: str) -> Scanned:
    data = padded(body)
    rows = Scanned(data, rows_max)
    rows.rows, _ = json_scan.scan(
        data,
        at,
        len(data) - WIDTH,
        kind == JSON,
        *UTILITYAPI.names,
        UNIT_OFFSETS,
        UNIT_NAMES,
        UTILITYAPI.unit,
        *rows.room,
    )
    return rows


def _channels(rows: Scanned, seen: set[str]) -> list[Channel]:
    """Definitions of the ids that are new; the first row's interval is the channel's."""
    n = rows.rows
    ids = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), n, [None, pa.py_buffer(rows.offsets[: n + 1]), pa.py_buffer(rows.ids)]
    ).dictionary_encode()
    _, first = np.unique(ids.indices.to_numpy(), return_index=True)
    out = []
    for id, row in zip(ids.dictionary.to_pylist(), first.tolist(), strict=True):
        try:
            name = id.decode()
            if name in seen or not name:
                continue
            seen.add(name)
            out.append(_channel(name, name, int(rows.seconds[row]) if rows.code[row] == 0 else 900))
        except (UnicodeDecodeError, ChannelError):
            continue  # its rows are refused when they are decoded
    return out


def _channel(id: str, meter: str, seconds: int, direction: str = "delivered") -> Channel:
    return Channel(
        id,
        "electricity",
        "kWh",
        usage_point=meter,
        meter=meter,
        direction=direction,
        interval_seconds=seconds if 1 <= seconds <= 31_622_400 else 900,
    )


def _whole(path: Path, after: int) -> bytes:
    size = path.stat().st_size
    if size > DOCUMENT_BYTES_MAX:
        raise BodyError(
            413,
            f"{path.name} is one JSON document of {size} bytes, and {DOCUMENT_BYTES_MAX} are taken; ask for fewer meters",
        )
    return path.read_bytes() if after < size else b""


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


_DECODER = json.JSONDecoder(parse_float=NumberText, parse_int=NumberText, parse_constant=_no_number)


def _document(path: Path, after: int) -> Iterator[FileBatch]:
    body = _whole(path, after)
    if not body:
        return
    try:
        found = _DECODER.decode(body.removeprefix(_BOM).decode())
    except (ValueError, RecursionError) as error:
        raise BodyError(422, f"{path.name} is no JSON document: {str(error)[:200]}") from None
    intervals = found.get("intervals")
    if not isinstance(intervals, list):
        raise BodyError(422, f"{path.name}: intervals takes a list")
    made = _Readings()
    for interval in intervals:
        made.add_meter(interval)
    yield made.batch(len(body))


class _Readings:
    """The readings of a document in columns."""

    def __init__(self) -> None:
        self._id: list[str] = []
        self._start: list[int] = []
        self._seconds: list[int] = []
        self._quantity: list[int] = []
        self._channels: dict[str, Channel] = {}
        self._rejected: list[Rejected] = []

    def add_meter(self, interval: Any) -> None:
        """A meter with its readings, or one reading that names its meter."""
        if not isinstance(interval, dict):
            self._refuse(interval, RowError("bad_json", "an interval is a JSON object"))
            return
        meter = interval.get("meter_uid")
        readings = interval.get("readings", [interval])
        if not isinstance(meter, str) or isinstance(meter, NumberText) or not isinstance(readings, list):
            self._refuse(interval, RowError("missing_field", "an interval has a meter_uid, a text"))
            return
        for reading in readings:
            try:
                self._add(meter, reading)
            except (RowError, ChannelError) as error:
                self._refuse({"meter_uid": meter, "reading": reading}, error)

    def _add(self, meter: str, reading: Any) -> None:
        if not isinstance(reading, dict):
            raise RowError("bad_json", "a reading is a JSON object")
        start = instant(reading.get("start"))
        seconds, rest = divmod(instant(reading.get("end")) - start, 1_000)
        if rest or not 1 <= seconds <= 31_622_400:
            raise RowError("bad_seconds", "the end is not 1 to 31622400 whole seconds after the start")
        points = reading.get("datapoints")
        told = {
            point["type"]: point.get("value")
            for point in (points if isinstance(points, list) else [])
            if isinstance(point, dict) and point.get("type") in _DIRECTION and _is_kwh(point.get("unit"))
        }
        values = {f"{meter}:{name}": (value, _DIRECTION[name]) for name, value in told.items()}
        for id, (value, direction) in (values or {meter: (reading.get("kwh"), "delivered")}).items():
            if value is None:
                raise RowError("missing", "the reading has no kwh")
            if not isinstance(value, str):
                raise RowError("not_a_number", "kwh takes a number")
            quantity = thousandths(*decimal(value), _KWH.code)
            if abs(quantity) > QUANTITY_MAX:
                raise RowError("overflow", f"{value[:40]} kWh is more than a meter measures")
            if id not in self._channels:
                self._channels[id] = _channel(id, meter, seconds, direction)
            self._id.append(id)
            self._start.append(start)
            self._seconds.append(seconds)
            self._quantity.append(quantity)

    def _refuse(self, row: Any, error: Exception) -> None:
        reason, detail = (error.reason, error.detail) if isinstance(error, RowError) else ("wrong_type", str(error))
        self._rejected.append(Rejected(reason, detail, json.dumps(row).encode(), JSON))

    def batch(self, position: int) -> FileBatch:
        """All of them."""
        columns = {
            "channel": pa.array(self._id, pa.string()).dictionary_encode(),
            "start": pa.array(self._start, pa.timestamp("ms", "UTC")),
            "seconds": pa.array(self._seconds, pa.int32()),
            "quantity": pa.array(self._quantity, pa.int64()),
        }
        body = body_of(pa.record_batch(columns))
        return FileBatch(body, ARROW, len(self._id), position, list(self._channels.values()), self._rejected)


def _is_kwh(unit: Any) -> bool:
    return isinstance(unit, str) and unit.lower() == "kwh"


_READERS = {"csv": _csv, "ndjson": _ndjson, "array": _array, "document": _document}
