"""Times as files write them, compiled: 16/12/2006, 1-Jul-12, 0:30, seconds since 1970.

A pattern is a row of tokens; a stamp that spans two columns has the patterns of both.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from meterpulse.ingest.delimited import PLAIN
from meterpulse.ingest.scalars import days_from_civil, month_days

# A stamp's pattern: these, and every other byte for itself.
YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, YEAR_2, MONTH_NAME, UNIX_SECONDS, OFFSET, UNIX_MS = range(1, 12)
NEXT_COLUMN = 31
ABSOLUTE = (UNIX_SECONDS, OFFSET, UNIX_MS)
_LETTERS = {
    "Y": YEAR,
    "m": MONTH,
    "d": DAY,
    "H": HOUR,
    "M": MINUTE,
    "S": SECOND,
    "y": YEAR_2,
    "b": MONTH_NAME,
    "s": UNIX_SECONDS,
    "z": OFFSET,
    "Q": UNIX_MS,
}
_MONTHS = np.frombuffer(b"janfebmaraprmayjunjulaugsepoctnovdec", np.uint8)
BAD_STAMP = -(2**63)


def pattern_of(*columns: str) -> np.ndarray:
    """The patterns of a stamp's columns, in their order; raises ValueError.

    `%Y %y %m %d %H %M %S %b %z` as strftime has them, `%s` for seconds since 1970 and `%Q` for milliseconds. One or two
    digits are read alike; `%S` takes a fraction; 24:00 is the end of its day.

    >>> pattern_of("%d/%m/%Y", "%H:%M").tolist()
    [3, 47, 2, 47, 1, 31, 4, 58, 5]
    """
    tokens: list[int] = []
    for number, text in enumerate(columns):
        tokens += [NEXT_COLUMN] if number else []
        at = 0
        while at < len(text):
            if text[at] == "%":
                letter = text[at + 1 : at + 2]
                if letter not in _LETTERS:
                    raise ValueError(
                        f"{text!r}: %{letter} is not known; known are {' '.join('%' + k for k in _LETTERS)}"
                    )
                tokens.append(_LETTERS[letter])
                at += 2
            else:
                tokens += text[at].encode()
                at += 1
    return np.array(tokens, np.uint8)


@njit(nogil=True, inline="always")
def _digits(data, at, end, most):  # type: ignore[no-untyped-def]
    """(the position behind up to `most` digits, their value); -1 where there is none."""
    begin, value = at, 0
    while at < end and at - begin < most and 0x30 <= data[at] <= 0x39:
        value = value * 10 + (data[at] - 0x30)
        at += 1
    return (at if at > begin else -1), value


@njit(nogil=True, cache=True)
def stamps(data, rows, begins, ends, columns, code, pattern, local, shift):  # type: ignore[no-untyped-def]
    """Milliseconds since 1970 on the clock of the file into local[rows], BAD_STAMP where a row has no such time; where the
    pattern reads an offset, it goes to shift[rows] (else 0)."""
    for row in range(rows):
        local[row], shift[row] = BAD_STAMP, 0
        if code[row] != PLAIN:
            continue
        column = 0
        at, end = begins[row, columns[0]], ends[row, columns[0]]
        year, month, day, hour, minute, second, ms, unix = 1970, 1, 1, 0, 0, 0, 0, np.int64(0)
        good = True
        for token in pattern:
            if token == NEXT_COLUMN:
                good = at == end
                column += 1
                at, end = begins[row, columns[column]], ends[row, columns[column]]
            elif token == YEAR:
                before = at
                at, year = _digits(data, at, end, 4)
                good = at - before == 4
            elif token == YEAR_2:
                before = at
                at, year = _digits(data, at, end, 2)
                good = at - before == 2
                year += 2000 if year < 70 else 1900
            elif token == MONTH:
                at, month = _digits(data, at, end, 2)
            elif token == DAY:
                at, day = _digits(data, at, end, 2)
            elif token == HOUR:
                at, hour = _digits(data, at, end, 2)
            elif token == MINUTE:
                at, minute = _digits(data, at, end, 2)
            elif token == SECOND:
                at, second = _digits(data, at, end, 2)
                if at > 0 and at + 1 < end and (data[at] == 0x2E or data[at] == 0x2C) and 0x30 <= data[at + 1] <= 0x39:
                    weight = 100
                    at += 1
                    while at < end and 0x30 <= data[at] <= 0x39:
                        ms += (data[at] - 0x30) * weight
                        good = good and (weight > 0 or data[at] == 0x30)  # nothing finer than a millisecond
                        weight //= 10
                        at += 1
            elif token == MONTH_NAME:
                month = 0
                for m in range(12):
                    if (
                        at + 3 <= end
                        and data[at] | 0x20 == _MONTHS[3 * m]
                        and data[at + 1] | 0x20 == _MONTHS[3 * m + 1]
                        and data[at + 2] | 0x20 == _MONTHS[3 * m + 2]
                    ):
                        month = m + 1
                at += 3
            elif token == UNIX_SECONDS or token == UNIX_MS:
                at, unix = _digits(data, at, end, 14)
                unix *= 1_000 if token == UNIX_SECONDS else 1
            elif token == OFFSET:
                if at < end and data[at] | 0x20 == 0x7A:
                    at += 1
                else:
                    sign = data[at]
                    good = at < end and (sign == 0x2B or sign == 0x2D)
                    at, hours = _digits(data, at + 1, end, 2)
                    minutes = 0
                    if at > 0 and at < end:
                        at += data[at] == 0x3A
                        at, minutes = _digits(data, at, end, 2)
                    good = good and hours < 24 and minutes < 60
                    shift[row] = (hours * 60 + minutes) * (60_000 if sign == 0x2B else -60_000)
            else:
                good = at < end and data[at] == token
                at += 1
            if at < 0 or not good:
                good = False
                break
        whole = hour < 24 and minute < 60 and second < 60 or hour == 24 and minute == 0 and second == 0 and ms == 0
        if (
            good
            and at == end
            and column == len(columns) - 1
            and whole
            and 1970 <= year <= 2200
            and 1 <= month <= 12
            and 1 <= day <= month_days(year, month)
            and unix < 7_289_654_400_000
        ):
            days = days_from_civil(year, month, day)
            local[row] = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + ms + unix
        else:
            shift[row] = 0
