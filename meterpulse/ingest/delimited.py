"""Lines of a text file into fields and numbers, compiled. Whose fields they are, `tabular` knows.

A field is a place in the bytes: nothing is copied until somebody asks. Buffers carry 64 zero bytes behind their end
(`vector.padded`).
"""

from __future__ import annotations

from numba import njit

from meterpulse.ingest.scalars import DIGITS_MAX
from meterpulse.ingest.vector import line_end

# What became of a line.
PLAIN, BLANK, FIELDS, QUOTES = range(4)
# What became of a cell.
NUMBER, MISSING, ODD = range(3)


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
