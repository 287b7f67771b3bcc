"""Lines of a text file into fields, numbers and stamps, compiled. Whose fields they are, `tabular` knows.

A field is a place in the bytes: nothing is copied until somebody asks. Buffers carry 64 zero bytes behind their end
(`vector.padded`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from meterpulse.ingest.scalars import DIGITS_MAX, days_from_civil, month_days
from meterpulse.ingest.vector import line_end

# What became of a line.
PLAIN, BLANK, FIELDS, QUOTES = range(4)
# What became of a cell.
NUMBER, MISSING, ODD = range(3)

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


@njit(nogil=True, cache=True)
def split(data, at, stop, delimiter, begins, ends, span, code):  # type: ignore[no-untyped-def]
    """The lines of [at, stop): where each field begins and ends, blanks and quotes around it left out.

    begins, ends int32[lines, columns]; span int64[2, lines]; code uint8[lines]. Where blanks divide, several are one.
    Blank lines are not counted. Stops when there is no more room; returns how many lines there are, and where it stopped.
    """
    columns, runs = begins.shape[1], delimiter == 0x20
    rows = 0
    while at < stop and rows < len(code):
        begin = at
        last = line_end(data, at, stop)
        end = last
        while end > begin and (
            data[end - 1] == 0x0D or data[end - 1] == 0x20 or data[end - 1] == 0x09 and delimiter != 9
        ):
            end -= 1
        at = last + 1
        first = begin
        while first < end and data[first] == 0x20:
            first += 1
        if first >= end:
            continue
        span[0, rows], span[1, rows] = begin, end
        state, column, read = PLAIN, 0, first
        while True:
            while read < end and data[read] == 0x20 and (delimiter != 0x20 or runs):
                read += 1
            field = read
            if read < end and data[read] == 0x22:
                field = read + 1
                read = field
                while read < end and (data[read] != 0x22 or data[read + 1] == 0x22 and read + 1 < end):
                    read += 2 if data[read] == 0x22 else 1
                if read >= end:
                    state = QUOTES
                    break
                close = read
                read += 1
                while read < end and data[read] == 0x20 and delimiter != 0x20:
                    read += 1
                if read < end and data[read] != delimiter:
                    state = QUOTES
                    break
            else:
                while read < end and data[read] != delimiter:
                    read += 1
                close = read
            while close > field and (data[close - 1] == 0x20 or data[close - 1] == 0x0D):
                close -= 1
            if column < columns:
                begins[rows, column], ends[rows, column] = field, close
            column += 1
            if read >= end:
                break
            read += 1
            if read >= end and not runs:  # the line ends in a delimiter: one more field, empty
                if column < columns:
                    begins[rows, column], ends[rows, column] = end, end
                column += 1
                break
        code[rows] = FIELDS if state == PLAIN and column != columns else state
        rows += 1
    return rows, at


@njit(nogil=True, inline="always")
def _decimal(data, at, end, point):  # type: ignore[no-untyped-def]
    """(whether it is a plain decimal of up to 18 digits, mantissa, how many decimals)."""
    negative = data[at] == 0x2D
    if negative:
        at += 1
    mantissa, digits, places, seen = 0, 0, 0, False
    while at < end:
        byte = data[at]
        if byte == point and not seen:
            seen = True
        else:
            digit = byte - 0x30
            if digit < 0 or digit > 9 or digits >= DIGITS_MAX:
                return False, 0, 0
            mantissa = mantissa * 10 + digit
            digits += 1
            places += seen
        at += 1
    if digits == 0 or seen and (places == 0 or places == digits):
        return False, 0, 0
    return True, (-mantissa if negative else mantissa), places


@njit(nogil=True, inline="always")
def _same(data, at, end, texts, begin, stop):  # type: ignore[no-untyped-def]
    """Whether [at, end) is the text, letters of either case alike."""
    if end - at != stop - begin:
        return False
    for k in range(end - at):
        byte = data[at + k]
        if (byte | 0x20 if 0x41 <= byte <= 0x5A else byte) != texts[begin + k]:
            return False
    return True


@njit(nogil=True, cache=True)
def numbers(data, rows, begins, ends, columns, code, point, offsets, texts, mantissa, places, cell):  # type: ignore[no-untyped-def]
    """Cells [row, k] of the columns as numbers: mantissa / 10 ** places. `offsets` and `texts` hold the markers, in small
    letters, that stand for no value; an empty cell is one. Cells that are neither are ODD."""
    for row in range(rows):
        if code[row] != PLAIN:
            continue
        for k in range(len(columns)):
            at, end = begins[row, columns[k]], ends[row, columns[k]]
            if at == end:
                cell[row, k] = MISSING
                continue
            good, mantissa[row, k], places[row, k] = _decimal(data, at, end, point)
            cell[row, k] = NUMBER if good else ODD
            if not good:
                for marker in range(len(offsets) - 1):
                    if _same(data, at, end, texts, offsets[marker], offsets[marker + 1]):
                        cell[row, k] = MISSING
                        break


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


@njit(nogil=True, cache=True)
def keys(data, rows, begins, ends, columns, code, offsets, out):  # type: ignore[no-untyped-def]
    """The key columns of each row one behind the other, separated by a unit separator, into out[offsets]."""
    at = 0
    offsets[0] = 0
    for row in range(rows):
        if code[row] == PLAIN:
            for k in range(len(columns)):
                if k:
                    out[at] = 0x1F
                    at += 1
                for i in range(begins[row, columns[k]], ends[row, columns[k]]):
                    out[at] = data[i]
                    at += 1
        offsets[row + 1] = at


@njit(nogil=True, cache=True)
def scaled(mantissa, places, factor, numerator, denominator, largest, cell):  # type: ignore[no-untyped-def]
    """mantissa / 10 ** places * factor in place, rounded half to even; what 64 bits do not hold becomes ODD.

    factor int32[n] into the tables numerator, denominator, largest of [factors, 19] (a denominator of 0: no fit).
    """
    for i in range(len(mantissa)):
        if cell[i] != NUMBER:
            continue
        f, p = factor[i], places[i]
        under = denominator[f, p]
        if under == 0 or abs(mantissa[i]) > largest[f, p]:
            cell[i] = ODD
            continue
        product = mantissa[i] * numerator[f, p]
        quotient = product // under
        twice = 2 * (product - quotient * under)
        if twice > under or twice == under and quotient & 1:
            quotient += 1
        mantissa[i] = quotient
