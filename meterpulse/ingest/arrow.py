"""Readings as an Arrow IPC stream: columns in, columns out, without a copy where they are as ours.

channel: text (string, large_string, view) or the dense index (any integer). start: a timestamp with a time zone, any unit.
seconds, revision: any integer; may be left out or null. quantity: an integer counts thousandths of the base unit; a float
(by its shortest decimal), a decimal or a decimal text is in the channel's unit. Dictionary and run-end encoded columns are
decoded; other columns are neither read nor unpacked. A refused row is kept as JSON (see `json`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterpulse.ingest import arrow_quantity
from meterpulse.ingest.arrow_limits import check_size
from meterpulse.ingest.checks import AHEAD_MS_MAX, PARSED, REFUSED, SECONDS_MAX, Columns, Limits, finish, shortest
from meterpulse.ingest.contract import BodyError, Decoded
from meterpulse.ingest.record import ABSENT_SECONDS
from meterpulse.ingest.scalars import MS_MAX
from meterpulse.model.channel import NOT_FOUND, ChannelTable
from meterpulse.model.quantity import BY_CODE, decimal_text
from meterpulse.model.reading import Readings
from meterpulse.model.window import iso

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
COLUMNS = ("channel", "start", "seconds", "quantity", "revision")
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def decode_arrow(body: bytes, table: ChannelTable, now_ms: int, max_bytes: int) -> Decoded:
    """All batches of the stream; raises BodyError 400 (no such stream), 413 (too large unpacked), 422 (a column lacks or has a wrong type)."""
    buffer = pa.py_buffer(body)
    check_size(buffer, max_bytes)
    limits, parts, rejected = Limits.of(table), [], []
    for batch in batches(buffer):
        decoded = _batch(batch, table, limits, now_ms)
        parts.append(decoded.readings)
        rejected += decoded.rejected
    return Decoded(Readings.concat(parts), rejected)


def batches(buffer: pa.Buffer) -> list[pa.RecordBatch]:
    """The record batches with the columns of a reading only, fully validated; raises BodyError."""
    try:
        with pa.ipc.open_stream(buffer) as stream:
            schema = stream.schema
        check_schema(schema)
        wanted = [schema.get_field_index(name) for name in COLUMNS if name in schema.names]
        with pa.ipc.open_stream(
            buffer, options=pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
        ) as stream:
            found = list(stream)
        for batch in found:
            batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, NotImplementedError, MemoryError) as error:
        raise BodyError(400, f"not an Arrow IPC stream: {str(error)[:200]}") from None
    return found


def check_schema(schema: pa.Schema) -> None:
    """Raises BodyError 422 that says which column is wrong and what it takes."""
    for name in COLUMNS:
        count = schema.names.count(name)
        if count > 1:
            raise BodyError(422, f"the column {name} stands {count} times")
        if count == 0 and name in ("channel", "start", "quantity"):
            raise BodyError(422, f"the column {name} lacks; a reading has {', '.join(COLUMNS)}")
        if count:
            kind = plain_type(schema.field(name).type)
            if not _TAKES[name][0](kind):
                raise BodyError(422, f"the column {name} is {kind}; it takes {_TAKES[name][1]}")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values inside of dictionary and run-end encoding."""
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    return kind


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


_TAKES: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "channel": (lambda t: _is_text(t) or pa.types.is_integer(t), "text, or the dense index as an integer"),
    "start": (
        lambda t: pa.types.is_timestamp(t) and t.tz is not None,
        "a timestamp with a time zone, such as timestamp[ms, UTC]",
    ),
    "seconds": (pa.types.is_integer, "an integer"),
    "quantity": (
        lambda t: pa.types.is_integer(t) or t in (pa.float32(), pa.float64()) or pa.types.is_decimal(t) or _is_text(t),
        "an integer (thousandths of the base unit), or a float64, float32 or decimal in the channel's unit",
    ),
    "revision": (pa.types.is_integer, "an integer"),
}


def _batch(batch: pa.RecordBatch, table: ChannelTable, limits: Limits, now_ms: int) -> Decoded:
    n = batch.num_rows
    if n == 0:
        return Decoded(Readings.empty(), [])
    given = {name: decoded(batch.column(name)) for name in batch.schema.names}
    refused: dict[int, tuple[str, str]] = {}

    def refuse(rows: np.ndarray, reason: str, detail: str) -> None:
        for row in rows.tolist():
            refused.setdefault(row, (reason, detail))

    for name in ("channel", "start", "quantity"):
        if given[name].null_count:
            refuse(
                np.flatnonzero(nulls(given[name])),
                "missing_field",
                f"{name} is null; a reading needs channel, start and quantity",
            )
    channel = channels(given["channel"], table)
    start = starts(given["start"], refuse)
    seconds = whole(given["seconds"], ABSENT_SECONDS, -1) if "seconds" in given else np.array([ABSENT_SECONDS])
    revision = whole(given["revision"], 0, -1) if "revision" in given else np.zeros(1, np.int64)
    if not refused and pa.types.is_integer(given["quantity"].type):
        if (clean := _clean(channel, start, seconds, given["quantity"], revision, limits, now_ms)) is not None:
            return Decoded(clean, [])
    quantity = arrow_quantity.read(given["quantity"], channel, limits, refuse)
    code = np.full(n, PARSED, np.uint8)
    code[list(refused)] = REFUSED
    columns = Columns(code, channel, start, seconds.astype(np.int64), *quantity.columns, revision, refused)

    def original(row: int) -> bytes:
        return rendered({name: column[row] for name, column in given.items()}, int(channel[row]), limits)

    return finish(columns, limits, now_ms, original, JSON, wide=quantity.wide)


def _clean(
    channel: np.ndarray,
    start: np.ndarray,
    seconds: np.ndarray,
    quantity: pa.Array,
    revision: np.ndarray,
    limits: Limits,
    now_ms: int,
) -> Readings | None:
    """The readings where no row can be bad, seen from the columns' extremes alone; else None."""
    quantities = integers(quantity, 0)
    if quantities is None or quantities.min() < 0 or channel.max() >= limits.count:
        return None
    if start.max() > now_ms + AHEAD_MS_MAX:
        return None
    seconds, revision = shortest(seconds), shortest(revision)
    if seconds.min() < 1 or seconds.max() > SECONDS_MAX or revision.min() < 0:
        return None
    return Readings(channel, start, seconds.astype(np.int32, copy=False), quantities, revision)


def decoded(column: pa.Array) -> pa.Array:
    """Without run-end and dictionary encoding (a dictionary of texts stays: it is looked up once per word)."""
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_dictionary(column.type):
        if _is_text(column.type.value_type) and not column.dictionary.null_count:
            return column
        return decoded(column.dictionary_decode())
    return column


def nulls(column: pa.Array) -> np.ndarray:
    """bool[n]."""
    return column.is_null().to_numpy(zero_copy_only=False)


def channels(column: pa.Array, table: ChannelTable) -> np.ndarray:
    """uint32[n]: the dense indices, NOT_FOUND where there is no such channel or none is given."""
    if pa.types.is_dictionary(column.type):
        words = channels(column.dictionary, table)
        if not len(words):
            return np.full(len(column), NOT_FOUND, np.uint32)
        found = words[column.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    elif _is_text(column.type):
        found = _looked_up(column, table)
    elif column.type == pa.uint32():
        found = (column.fill_null(NOT_FOUND) if column.null_count else column).to_numpy()
    else:
        wide = (column.fill_null(0) if column.null_count else column).to_numpy()
        found = np.where((wide >= 0) & (wide < NOT_FOUND), wide, NOT_FOUND).astype(np.uint32)
    if column.null_count:
        found = np.where(nulls(column), np.uint32(NOT_FOUND), found)
    return found


def _looked_up(column: pa.Array, table: ChannelTable) -> np.ndarray:
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    wide = pa.types.is_large_string(column.type)
    _, offsets, data = column.buffers()
    if offsets is None or not len(column):
        return np.full(len(column), NOT_FOUND, np.uint32)
    offsets = np.frombuffer(offsets, np.int64 if wide else np.int32)[column.offset : column.offset + len(column) + 1]
    texts = np.frombuffer(data, np.uint8) if data is not None and len(data) else np.zeros(1, np.uint8)
    return table.lookup(offsets, texts)


def starts(column: pa.Array, refuse: Callable[[np.ndarray, str, str], None]) -> np.ndarray:
    """int64[n or 1] ms since the epoch; rows that are finer than a millisecond or out of the years 1970 to 2200 are refused."""
    unit = _PER_SECOND[column.type.unit]
    raw = integers(column.cast(pa.int64()), 0)
    low, high = int(raw.min()), int(raw.max())
    if low < 0 or high >= MS_MAX * unit // 1_000:
        outside = (raw < 0) | (raw >= min(MS_MAX * unit // 1_000, 2**63 - 1))
        refuse(np.flatnonzero(outside), "bad_time", "start is not in the years 1970 to 2200")
        raw = np.where(outside, 0, raw)
    if low == high:
        raw = raw[:1]
    if unit == 1:
        return raw * 1_000
    if unit == 1_000:
        return raw
    ms, finer = np.divmod(raw, unit // 1_000)
    if finer.any():
        refuse(np.flatnonzero(finer), "bad_time", "start is finer than a millisecond")
    return ms


def whole(column: pa.Array, absent: int, too_large: int) -> np.ndarray:
    """int32 or int64[n]; `absent` for null, `too_large` for what int64 does not hold."""
    if column.type == pa.int32() and not column.null_count:
        return column.to_numpy()
    found = integers(column, 0)
    if found is None:
        raw = column.fill_null(0).to_numpy()
        found = np.where(raw > np.uint64(2**63 - 1), np.int64(too_large), raw.astype(np.int64))
    return np.where(nulls(column), np.int64(absent), found) if column.null_count else found


def integers(column: pa.Array, null: int) -> np.ndarray | None:
    """int64[n] with `null` in place of nulls, without a copy where it can be; None where a value does not fit."""
    if column.null_count:
        column = column.fill_null(null)
    values = column.to_numpy()
    if values.dtype == np.uint64:
        if len(values) and values.max() > 2**63 - 1:
            return None
        return values.view(np.int64)
    return values.astype(np.int64, copy=False)


def rendered(row: dict[str, pa.Scalar], channel: int, limits: Limits) -> bytes:
    """A refused row as a JSON record that can be replayed."""
    out: dict[str, Any] = {}
    for name, scalar in row.items():
        if name == "start":
            out[name] = _time_text(scalar)
        elif name == "channel" and not isinstance(scalar.as_py(), str | None):
            out["index"] = scalar.as_py()
        elif name == "quantity" and pa.types.is_integer(scalar.type) and scalar.is_valid:
            out |= _quantity(scalar.as_py(), channel, limits)
        elif name == "quantity":
            value = scalar.cast(pa.string()).as_py() if pa.types.is_floating(scalar.type) else scalar.as_py()
            out[name] = None if value is None else str(value)
        else:
            out[name] = scalar.as_py()
    return json.dumps({k: v for k, v in out.items() if v is not None}, ensure_ascii=False).encode()


def _quantity(value: int, channel: int, limits: Limits) -> dict[str, Any]:
    if channel >= limits.count:
        return {"thousandths": value}
    unit = BY_CODE[int(limits.unit[limits.profile[channel]])]
    base = {"Wh": 1000, "W": 1000, "V": 1000}.get(unit.name)
    return (
        {"quantity": decimal_text(value, unit), "unit": unit.name}
        if base or unit.scale.denominator == 1
        else {"thousandths": value}
    )


def _time_text(scalar: pa.Scalar) -> str | None:
    """RFC 3339, or the bare count where no calendar holds it."""
    value, unit = scalar.value, _PER_SECOND[scalar.type.unit]
    if value is None:
        return None
    seconds, fraction = divmod(value, unit)
    if not 0 <= seconds < MS_MAX // 1_000:
        return f"{value} {scalar.type.unit} since 1970"
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return iso(seconds * 1_000)[:-1] + (f".{digits}" if digits else "") + "Z"
