"""A few rows, each by itself in plain Python: where the set-up of columns would cost more than it saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from meterpulse.ingest.checks import EXACT, PARSED, REASON_CODES, Limits, judge
from meterpulse.ingest.contract import Decoded, Rejected, RowError
from meterpulse.ingest.layout import NO_UNIT
from meterpulse.ingest.record import Record
from meterpulse.ingest.rows import judge_exactly, shortest, told
from meterpulse.ingest.scanned import index_of
from meterpulse.model.channel import ChannelTable, Kind
from meterpulse.model.reading import Readings

SMALL_BYTES = 1024


def decode_few(
    rows: Sequence[bytes], parsed: Callable[[bytes], Record], table: ChannelTable, now_ms: int, kept_as: str
) -> Decoded:
    """The rows in order; `kept_as` is the media type of refused ones."""
    good, rejected, columns = [], [], Limits.of(table).columns
    for row in rows:
        try:
            good.append(judged(parsed(row), table, columns, now_ms))
        except RowError as error:
            rejected.append(Rejected(error.reason, error.detail, row, kept_as))
    return Decoded(columns_of(good), rejected)


def judged(record: Record, table: ChannelTable, columns: tuple[Any, ...], now_ms: int) -> tuple[int, ...]:
    """(channel, start, seconds, quantity, revision, quality) of a record that holds; raises RowError."""
    channel, mantissa, exponent = index_of(record.channel, table), record.mantissa, record.exponent
    if not -(2**63) < mantissa < 2**63:
        mantissa, exponent = 1, 1  # an exponent above 0 asks for wide integers
    _, start, seconds, _, _, unit, revision, quality = record
    values = (channel, start, seconds, mantissa, exponent, unit, revision, *columns, now_ms)
    code, quantity, seconds = judge(*values)
    if code == EXACT:
        _, profile_of, kind_of, unit_of, _ = columns
        profile = profile_of[channel]
        own = int(unit_of[profile]) if unit == NO_UNIT else unit
        code, quantity = judge_exactly(
            record.mantissa, record.exponent, own, start, bool(kind_of[profile] == Kind.gauge), now_ms
        )
    if code != PARSED:
        raise RowError(REASON_CODES[code], told(code, start, now_ms))
    return channel, start, seconds, quantity, revision, quality


def columns_of(rows: list[tuple[int, ...]]) -> Readings:
    if not rows:
        return Readings.empty()
    if len(rows) == 1:
        row = np.array(rows[0], np.int64)
        channel, start, seconds, quantity, revision, quality = (row[i : i + 1] for i in range(6))
    else:
        channel, start, seconds, quantity, revision, quality = np.array(rows, np.int64).T.copy()
        start, seconds, revision, quality = map(shortest, (start, seconds, revision, quality))
    return Readings(
        channel.astype(np.uint32), start, seconds.astype(np.int32), quantity, revision, quality.astype(np.int32)
    )
