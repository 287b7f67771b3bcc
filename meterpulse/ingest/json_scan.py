"""Flat JSON records into columns, compiled: NDJSON lines or the elements of one array.

A producer repeats its layout. The first record is parsed in full (`_learn`): its text between the values becomes a
template, and a later record whose text between the values is the same, byte for byte, has the same keys in the same
places, so only its values are read (`_repeat`). A record that neither understands in full (escapes in a field that
counts, nesting, duplicate keys, ...) is left to `record`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from meterpulse.ingest.checks import PARSED, REFUSED
from meterpulse.ingest.layout import CHANNEL, END, NO_ROLE, QUANTITY, REVISION, SECONDS, START, UNIT
from meterpulse.ingest.record import ABSENT_SECONDS
from meterpulse.ingest.scalars import instant, number, skip_number, text_end
from meterpulse.ingest.vector import line_end, same_bytes

FIELDS_MAX = 48
_KEY_AT, _KEY_LEN, _GAP_AT, _GAP_LEN, _ROLE, _IS_TEXT = range(6)
_CHANNEL_AT, _CHANNEL_END, _START, _END, _SECONDS, _MANTISSA, _EXPONENT, _UNIT, _REVISION = range(9)
_REQUIRED = 1 << CHANNEL | 1 << START | 1 << QUANTITY


@njit(nogil=True, inline="always")
def _same(data, at, other, length):  # type: ignore[no-untyped-def]
    while length > 64:
        if same_bytes(data, at, other) < 64:
            return False
        at, other, length = at + 64, other + 64, length - 64
    return same_bytes(data, at, other) >= length


@njit(nogil=True, inline="always")
def _blank(data, at, newline):  # type: ignore[no-untyped-def]
    """Past JSON's whitespace; `newline` is 10 where newlines are whitespace, 32 where they end the record."""
    while data[at] == 0x20 or data[at] == newline or data[at] == 0x0D or data[at] == 0x09:
        at += 1
    return at


@njit(nogil=True, inline="always")
def _which(data, at, length, offsets, names):  # type: ignore[no-untyped-def]
    """The index of these bytes among `names`, or -1."""
    for k in range(len(offsets) - 1):
        if offsets[k + 1] - offsets[k] == length:
            j = 0
            while j < length and data[at + j] == names[offsets[k] + j]:
                j += 1
            if j == length:
                return k
    return -1


@njit(nogil=True)
def _text_value(data, role, at, end, row, unit_offsets, units):  # type: ignore[no-untyped-def]
    """A value in quotes without escapes in [at, end): stored by its role; False if it is not plain."""
    if role == CHANNEL:
        row[_CHANNEL_AT], row[_CHANNEL_END] = at, end
        return True
    if role == START or role == END:
        stop, ms = instant(data, at)
        row[_START if role == START else _END] = ms
        return stop == end
    if role == QUANTITY:
        stop, row[_MANTISSA], row[_EXPONENT] = number(data, at, False)
        return stop == end
    if role == UNIT:
        row[_UNIT] = _which(data, at, end - at, unit_offsets, units)
        return row[_UNIT] >= 0
    return False


@njit(nogil=True)
def _bare_value(data, role, at, row):  # type: ignore[no-untyped-def]
    """A number or a literal: stored by its role; its end, or -1 if it is not plain."""
    if role == NO_ROLE:
        c = data[at]
        if c == 0x74 and data[at + 1] == 0x72 and data[at + 2] == 0x75 and data[at + 3] == 0x65:
            return at + 4
        if c == 0x6E and data[at + 1] == 0x75 and data[at + 2] == 0x6C and data[at + 3] == 0x6C:
            return at + 4
        if (
            c == 0x66
            and data[at + 1] == 0x61
            and data[at + 2] == 0x6C
            and data[at + 3] == 0x73
            and data[at + 4] == 0x65
        ):
            return at + 5
        return skip_number(data, at)
    end, mantissa, exponent = number(data, at, True)
    if role == QUANTITY:
        row[_MANTISSA], row[_EXPONENT] = mantissa, exponent
        return end
    if (role == SECONDS or role == REVISION) and exponent == 0:
        row[_SECONDS if role == SECONDS else _REVISION] = mantissa
        return end
    return -1


@njit(nogil=True)
def _learn(data, at, newline, offsets, names, roles, unit_offsets, units, row, template):  # type: ignore[no-untyped-def]
    """A record parsed in full into `row` and `template`: (its end, its fields), or (-1, 0)."""
    if data[at] != 0x7B:
        return -1, 0
    gap = at
    at += 1
    seen = 0
    for k in range(FIELDS_MAX):
        at = _blank(data, at, newline)
        if data[at] != 0x22:
            return -1, 0
        key = at + 1
        at = text_end(data, key, False)  # without escapes, so that the same key is the same bytes
        if at < 0:
            return -1, 0
        length = at - key
        for j in range(k):
            if template[_KEY_LEN, j] == length and _same(data, key, template[_KEY_AT, j], length):
                return -1, 0
        at = _blank(data, at + 1, newline)
        if data[at] != 0x3A:
            return -1, 0
        at = _blank(data, at + 1, newline)
        is_text = data[at] == 0x22
        at += is_text
        which = _which(data, key, length, offsets, names)
        role = NO_ROLE if which < 0 else roles[which]
        template[_KEY_AT, k], template[_KEY_LEN, k], template[_ROLE, k], template[_IS_TEXT, k] = (
            key,
            length,
            role,
            is_text,
        )
        template[_GAP_AT, k], template[_GAP_LEN, k] = gap, at - gap
        seen |= 1 << role
        if is_text:
            end = text_end(data, at, role == NO_ROLE)
            if end < 0 or (role != NO_ROLE and not _text_value(data, role, at, end, row, unit_offsets, units)):
                return -1, 0
            gap = end
            at = end + 1
        else:
            at = _bare_value(data, role, at, row)
            if at < 0:
                return -1, 0
            gap = at
        at = _blank(data, at, newline)
        if data[at] == 0x7D:
            template[_GAP_AT, k + 1], template[_GAP_LEN, k + 1] = gap, at + 1 - gap
            return (at + 1, k + 1) if seen & _REQUIRED == _REQUIRED else (-1, 0)
        if data[at] != 0x2C:
            return -1, 0
        at += 1
    return -1, 0


@njit(nogil=True)
def _repeat(data, at, fields, unit_offsets, units, row, template):  # type: ignore[no-untyped-def]
    """A record with the template's text between its values, into `row`: its end, or -1."""
    for k in range(fields):
        length = template[_GAP_LEN, k]
        if not _same(data, at, template[_GAP_AT, k], length):
            return -1
        at += length
        role = template[_ROLE, k]
        if template[_IS_TEXT, k]:
            end = text_end(data, at, role == NO_ROLE)
            if end < 0 or (role != NO_ROLE and not _text_value(data, role, at, end, row, unit_offsets, units)):
                return -1
            at = end
        else:
            at = _bare_value(data, role, at, row)
            if at < 0:
                return -1
    length = template[_GAP_LEN, fields]
    return at + length if _same(data, at, template[_GAP_AT, fields], length) else -1


@njit(nogil=True)
def element_end(data, at, stop):  # type: ignore[no-untyped-def]
    """Where an array's element that begins at `at` ends: the comma or bracket behind it, or `stop`."""
    depth = 0
    while at < stop:
        c = data[at]
        if c == 0x22:
            at += 1
            while at < stop and data[at] != 0x22:
                at += 2 if data[at] == 0x5C else 1
        elif c == 0x7B or c == 0x5B:
            depth += 1
        elif c == 0x7D or c == 0x5D:
            if depth == 0 and c == 0x5D:
                return at
            depth -= depth > 0
        elif c == 0x2C and depth == 0:
            return at
        at += 1
    return stop


@njit(nogil=True, inline="always")
def _trimmed(data, begin, end, is_array):  # type: ignore[no-untyped-def]
    """Where a row's own bytes end: without the blanks behind an element, or the carriage return of a line."""
    if is_array:
        while end > begin and (
            data[end - 1] == 0x20 or data[end - 1] == 0x0A or data[end - 1] == 0x0D or data[end - 1] == 0x09
        ):
            end -= 1
    elif end > begin and data[end - 1] == 0x0D:
        end -= 1
    return end


@njit(nogil=True, cache=True)
def deepest(data, at, stop):  # type: ignore[no-untyped-def]
    """How deep brackets nest at most, outside of strings."""
    depth, most = 0, 0
    while at < stop:
        c = data[at]
        if c == 0x22:
            at += 1
            while at < stop and data[at] != 0x22:
                at += 2 if data[at] == 0x5C else 1
        elif c == 0x7B or c == 0x5B:
            depth += 1
            most = max(most, depth)
        elif c == 0x7D or c == 0x5D:
            depth -= 1
        at += 1
    return most


@njit(nogil=True, cache=True)
def scan(  # type: ignore[no-untyped-def]
    data, at, stop, is_array, offsets, names, roles, unit_offsets, units, default_unit,
    span, code, channel_offsets, channel_bytes, start, seconds, mantissa, exponent, unit, revision,
):  # fmt: skip
    """Lines to `stop`, or elements up to the closing bracket, into the arrays of `scanned.Scanned`.

    Returns (rows, end), where the end is the bracket's position, `stop` if there is none.
    """
    newline = 0x0A if is_array else 0x20
    row = np.zeros(9, np.int64)
    templates = np.zeros((2, 6, FIELDS_MAX + 1), np.int64)
    active, fields, rows, written = 0, 0, 0, 0
    channel_offsets[0] = 0
    while at < stop:
        begin = at
        if is_array:
            at = _blank(data, at, newline)
            begin = at
            if rows == 0 and data[at] == 0x5D:
                return rows, at
        else:
            at = _blank(data, at, newline)
            if at >= stop:
                break
            if data[at] == 0x0A:
                at += 1
                continue
        end, first = np.int64(-1), at
        row[_UNIT], row[_REVISION], row[_SECONDS], row[_END] = default_unit, 0, ABSENT_SECONDS, ABSENT_SECONDS
        if fields > 0:
            end = _repeat(data, first, fields, unit_offsets, units, row, templates[active])
        if end < 0:
            row[_UNIT], row[_REVISION], row[_SECONDS], row[_END] = default_unit, 0, ABSENT_SECONDS, ABSENT_SECONDS
            end, learned = _learn(
                data, first, newline, offsets, names, roles, unit_offsets, units, row, templates[1 - active]
            )
            if end >= 0:
                active, fields = 1 - active, learned
        if end >= 0:
            end = _blank(data, end, newline)
            if is_array:
                if data[end] != 0x2C and data[end] != 0x5D:
                    end = -1
            elif end < stop and data[end] != 0x0A:
                end = -1
            if row[_END] != ABSENT_SECONDS:
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
            end = element_end(data, first, stop) if is_array else line_end(data, first, stop)
        span[0, rows], span[1, rows] = begin, _trimmed(data, begin, end, is_array)
        channel_offsets[rows + 1] = written
        rows += 1
        at = end + 1
        if is_array and (end >= stop or data[end] == 0x5D):
            return rows, min(end, stop)
    return rows, stop
