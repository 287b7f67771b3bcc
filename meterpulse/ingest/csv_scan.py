"""Plain CSV rows into columns, compiled. Rows with quotes, control characters or bytes above 127 are left to `csv`."""

from __future__ import annotations

import numpy as np
from numba import njit

from meterpulse.ingest.checks import PARSED, REFUSED
from meterpulse.ingest.json_scan import _which
from meterpulse.ingest.layout import CHANNEL, END, NO_ROLE, QUALITY, QUANTITY, SECONDS, START, UNIT
from meterpulse.ingest.record import ABSENT_SECONDS
from meterpulse.ingest.scalars import instant, number
from meterpulse.ingest.vector import csv_end, line_end

QUOTED_MAX = 4096  # bytes that a quoted field may span; a stray quote costs its own line only
_CHANNEL_AT, _CHANNEL_END, _START, _END, _SECONDS, _MANTISSA, _EXPONENT, _UNIT, _REVISION = range(9)


@njit(nogil=True)
def _field(data, role, at, end, row, unit_offsets, units):  # type: ignore[no-untyped-def]
    """A plain field in [at, end), stored by its role; False if it is not plain."""
    if role == CHANNEL:
        row[_CHANNEL_AT], row[_CHANNEL_END] = at, end
        return end > at
    if role == START or (role == END and end > at):
        stop, ms = instant(data, at)
        row[_START if role == START else _END] = ms
        return stop == end
    if role == QUANTITY:
        stop, row[_MANTISSA], row[_EXPONENT] = number(data, at, False)
        return stop == end
    if at == end:  # the others may be left empty
        return True
    if role == QUALITY:  # rare: left to plain Python
        return False
    if role == UNIT:
        row[_UNIT] = _which(data, at, end - at, unit_offsets, units)
        return row[_UNIT] >= 0
    stop, mantissa, exponent = number(data, at, False)
    row[_SECONDS if role == SECONDS else _REVISION] = mantissa
    return stop == end and exponent == 0


@njit(nogil=True)
def _row(data, at, stop, roles, row, unit_offsets, units):  # type: ignore[no-untyped-def]
    """One row's fields: its end (of line), or -1."""
    last = len(roles) - 1
    for k in range(last + 1):
        end = csv_end(data, at)
        if roles[k] != NO_ROLE and not _field(data, roles[k], at, end, row, unit_offsets, units):
            return -1
        if k < last:
            if data[end] != 0x2C:
                return -1
            at = end + 1
        else:
            at = end
    if data[at] == 0x0D:
        at += 1
    return at if at >= stop or data[at] == 0x0A else -1


@njit(nogil=True)
def row_end(data, at, stop):  # type: ignore[no-untyped-def]
    """The end of a row that may hold newlines in well-formed quotes; else the end of the line."""
    line = line_end(data, at, stop)
    while True:
        if at < stop and data[at] == 0x22:
            limit = min(stop, at + QUOTED_MAX)
            at += 1
            while at < limit and (data[at] != 0x22 or data[at + 1] == 0x22):
                at += 2 if data[at] == 0x22 else 1
            after = at + 1
            if after < stop and data[after] == 0x0D:
                after += 1
            if at >= limit or (after < stop and data[after] != 0x2C and data[after] != 0x0A):
                return line
            at = after
        while at < stop and data[at] != 0x2C and data[at] != 0x0A:
            at += 1
        if at >= stop or data[at] == 0x0A:
            return max(min(at, stop), line)
        at += 1


@njit(nogil=True, cache=True)
def scan(  # type: ignore[no-untyped-def]
    data, at, stop, roles, unit_offsets, units, default_unit,
    span, code, channel_offsets, channel_bytes, start, seconds, mantissa, exponent, unit, revision,
):  # fmt: skip
    """Rows of [at, stop); `roles` uint8 by column. Outputs as in `json_scan.scan`; returns the number of rows."""
    row = np.zeros(9, np.int64)
    rows, written = 0, 0
    channel_offsets[0] = 0
    while at < stop:
        begin = at
        while data[at] == 0x20 or data[at] == 0x0D or data[at] == 0x09:
            at += 1
        if at >= stop:
            break
        if data[at] == 0x0A:
            at += 1
            continue
        row[_UNIT], row[_REVISION], row[_SECONDS], row[_END] = default_unit, 0, ABSENT_SECONDS, ABSENT_SECONDS
        end = _row(data, begin, stop, roles, row, unit_offsets, units)
        if end >= 0 and row[_END] != ABSENT_SECONDS:
            row[_SECONDS] = (row[_END] - row[_START]) // 1000
            if row[_SECONDS] * 1000 != row[_END] - row[_START]:
                end = -1
        if end >= 0:
            code[rows] = PARSED
            for j in range(row[_CHANNEL_AT], row[_CHANNEL_END]):
                channel_bytes[written] = data[j]
                written += 1
            start[rows], seconds[rows], revision[rows] = row[_START], row[_SECONDS], row[_REVISION]
            mantissa[rows], exponent[rows], unit[rows] = row[_MANTISSA], row[_EXPONENT], row[_UNIT]
        else:
            code[rows] = REFUSED
            end = row_end(data, begin, stop)
        last = end
        if last > begin and data[last - 1] == 0x0D:
            last -= 1
        span[0, rows], span[1, rows] = begin, last
        channel_offsets[rows + 1] = written
        rows += 1
        at = end + 1
    return rows
