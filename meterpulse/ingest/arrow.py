"""Readings as an Arrow IPC stream: columns in, columns out, without a copy where they are as ours.

- channel: text (string, large_string, view), or the dense index (any integer).
- start: a timestamp with a time zone, in any unit.
- seconds, revision: any integer; may be left out or null.
- quality: a text such as raw, edited or S17, or the packed integer of model/quality.py; may be left out or null.
- quantity: an integer counts thousandths of the base unit; a float (by its shortest decimal), a decimal or a decimal
  text is in the channel's unit.

Dictionary and run-end encoded columns are decoded; other columns are neither read nor unpacked. A refused row is kept
as JSON (see `arrow_kept`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from meterpulse.ingest import arrow_quantity
from meterpulse.ingest.arrow_columns import channels, decoded, integers, is_text, nulls, qualities, starts, whole
from meterpulse.ingest.arrow_kept import rendered
from meterpulse.ingest.arrow_limits import check_size
from meterpulse.ingest.checks import AHEAD_MS_MAX, PARSED, REFUSED, SECONDS_MAX, Limits
from meterpulse.ingest.contract import BodyError, Decoded
from meterpulse.ingest.media import JSON
from meterpulse.ingest.record import ABSENT_SECONDS
from meterpulse.ingest.rows import Columns, finish, refuse_all_if_too_many, shortest
from meterpulse.model.channel import ChannelTable
from meterpulse.model.quality import RAW
from meterpulse.model.reading import Readings

COLUMNS = ("channel", "start", "seconds", "quantity", "revision", "quality")


def decode_arrow(body: bytes, table: ChannelTable, now_ms: int, max_bytes: int) -> Decoded:
    """All batches of the stream. Raises BodyError: 400 for no such stream, 413 where it unpacks to more than
    `max_bytes`, 422 where a column lacks or has a wrong type."""
    buffer = pa.py_buffer(body)
    check_size(buffer, max_bytes)
    limits, parts, rejected = Limits.of(table), [], []
    for batch in batches(buffer):
        done = _batch(batch, table, limits, now_ms)
        parts.append(done.readings)
        rejected += done.rejected
        refuse_all_if_too_many(len(rejected), [r.reason for r in rejected[:1]])
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
            if not _TAKES[name][0](kind) or (pa.types.is_decimal(kind) and abs(kind.scale) > 76):
                raise BodyError(422, f"the column {name} is {kind}; it takes {_TAKES[name][1]}")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values inside of dictionary and run-end encoding."""
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    return kind


_TAKES: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "channel": (lambda t: is_text(t) or pa.types.is_integer(t), "text, or the dense index as an integer"),
    "start": (
        lambda t: pa.types.is_timestamp(t) and t.tz is not None,
        "a timestamp with a time zone, such as timestamp[ms, UTC]",
    ),
    "seconds": (pa.types.is_integer, "an integer"),
    "quantity": (
        lambda t: pa.types.is_integer(t) or t in (pa.float32(), pa.float64()) or pa.types.is_decimal(t) or is_text(t),
        "an integer (thousandths of the base unit), or a float64, float32 or decimal in the channel's unit",
    ),
    "revision": (pa.types.is_integer, "an integer"),
    "quality": (lambda t: is_text(t) or pa.types.is_integer(t), "text such as raw or S17, or an integer"),
}


def _batch(batch: pa.RecordBatch, table: ChannelTable, limits: Limits, now_ms: int) -> Decoded:
    n = batch.num_rows
    if n == 0:
        return Decoded(Readings.empty(), [])
    given = {name: decoded(batch.column(name)) for name in batch.schema.names}
    refused: dict[int, tuple[str, str]] = {}

    def refuse(rows: np.ndarray, reason: str, detail: str) -> None:
        refuse_all_if_too_many(len(rows), [reason])
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
    quality = qualities(given["quality"], refuse) if "quality" in given else np.full(1, RAW, np.int32)
    if not refused and pa.types.is_integer(given["quantity"].type):
        if (clean := _clean(channel, start, seconds, given["quantity"], revision, quality, limits, now_ms)) is not None:
            return Decoded(clean, [])
    columns_of_quantity = arrow_quantity.read(given["quantity"], channel, limits, refuse)
    code = np.full(n, PARSED, np.uint8)
    code[list(refused)] = REFUSED
    columns = Columns(
        code, channel, start, seconds.astype(np.int64), *columns_of_quantity.columns, revision, quality, refused,
        columns_of_quantity.wide,
    )  # fmt: skip

    def original(row: int) -> bytes:
        return rendered({name: column[row] for name, column in given.items()}, int(channel[row]), limits)

    return finish(columns, limits, now_ms, original, JSON)


def _clean(
    channel: np.ndarray,
    start: np.ndarray,
    seconds: np.ndarray,
    quantity: pa.Array,
    revision: np.ndarray,
    quality: np.ndarray,
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
    return Readings(channel, start, seconds.astype(np.int32, copy=False), quantities, revision, shortest(quality))
