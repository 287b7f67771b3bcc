"""Texts, numbers and times out of bytes, compiled. They read the plain forms only; anything else goes to `record`.

All answer with an end position; -1 means "not plain", never "wrong": `record` decides and gives the reason.
"""

from __future__ import annotations

from numba import njit

from meterpulse.ingest.vector import string_end

DIGITS_MAX = 18  # what always fits into int64
MS_MAX = 7_289_654_400_000  # 2201-01-01T00:00:00Z


@njit(nogil=True, inline="always")
def number(data, at, json_grammar):  # type: ignore[no-untyped-def]
    """A decimal without an exponent: (end, mantissa, exponent) with value = mantissa * 10 ** exponent.

    `json_grammar` refuses leading zeros and bare points. -0 is not plain: its sign would be lost.
    """
    negative = data[at] == 0x2D
    if negative:
        at += 1
    first = at
    mantissa = 0
    digit = data[at] - 0x30
    while 0 <= digit <= 9:
        if at - first >= DIGITS_MAX:
            return -1, 0, 0
        mantissa = mantissa * 10 + digit
        at += 1
        digit = data[at] - 0x30
    whole = at - first
    if whole == 0 or (json_grammar and whole > 1 and data[first] == 0x30):
        return -1, 0, 0
    places = 0
    if data[at] == 0x2E:
        at += 1
        point = at
        digit = data[at] - 0x30
        while 0 <= digit <= 9:
            if whole + at - point >= DIGITS_MAX:
                return -1, 0, 0
            mantissa = mantissa * 10 + digit
            at += 1
            digit = data[at] - 0x30
        places = at - point
        if places == 0:
            return -1, 0, 0
    if data[at] | 0x20 == 0x65 or (negative and mantissa == 0):
        return -1, 0, 0
    return at, (-mantissa if negative else mantissa), -places


@njit(nogil=True, inline="always")
def skip_number(data, at):  # type: ignore[no-untyped-def]
    """The end of any number in JSON's grammar, or -1."""
    if data[at] == 0x2D:
        at += 1
    if data[at] == 0x30:
        at += 1
    else:
        first = at
        while 0x30 <= data[at] <= 0x39:
            at += 1
        if at == first:
            return -1
    if data[at] == 0x2E:
        at += 1
        first = at
        while 0x30 <= data[at] <= 0x39:
            at += 1
        if at == first:
            return -1
    if data[at] | 0x20 == 0x65:
        at += 1
        if data[at] == 0x2B or data[at] == 0x2D:
            at += 1
        first = at
        while 0x30 <= data[at] <= 0x39:
            at += 1
        if at == first:
            return -1
    return at


@njit(nogil=True, inline="always")
def _pair(data, at):  # type: ignore[no-untyped-def]
    """Two digits, or a number far below zero."""
    tens, ones = data[at] - 0x30, data[at + 1] - 0x30
    if 0 <= tens <= 9 and 0 <= ones <= 9:
        return tens * 10 + ones
    return -1_000_000


@njit(nogil=True, inline="always")
def days_from_civil(year, month, day):  # type: ignore[no-untyped-def]
    """Days since 1970-01-01 in the Gregorian calendar (years that begin in March, eras of 400 years)."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@njit(nogil=True, inline="always")
def month_days(year, month):  # type: ignore[no-untyped-def]
    """How many days the month has."""
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@njit(nogil=True, inline="always")
def clock(data, at, separator):  # type: ignore[no-untyped-def]
    """`YYYY-MM-DD?HH:MM:SS[.fraction]` with that separator byte: (end, ms), the offset left out."""
    if (
        data[at + 4] != 0x2D
        or data[at + 7] != 0x2D
        or data[at + 10] != separator
        or data[at + 13] != 0x3A
        or data[at + 16] != 0x3A
    ):
        return -1, 0
    year = _pair(data, at) * 100 + _pair(data, at + 2)
    month, day = _pair(data, at + 5), _pair(data, at + 8)
    hour, minute, second = _pair(data, at + 11), _pair(data, at + 14), _pair(data, at + 17)
    if year < 1970 or year > 2200 or month < 1 or month > 12 or day < 1 or day > 28 and day > month_days(year, month):
        return -1, 0
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return -1, 0
    ms = (days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000
    at += 19
    if data[at] == 0x2E:
        at += 1
        weight, places = 100, 0
        while 0x30 <= data[at] <= 0x39:
            digit = data[at] - 0x30
            if weight == 0 and digit != 0:
                return -1, 0  # finer than a millisecond
            ms += digit * weight
            weight //= 10
            places += 1
            at += 1
        if places == 0 or places > 9:
            return -1, 0
    return at, ms


@njit(nogil=True, inline="always")
def instant(data, at):  # type: ignore[no-untyped-def]
    """`YYYY-MM-DDTHH:MM:SS[.fraction](Z|+HH:MM|-HH:MM)`: (end, ms since the epoch)."""
    at, ms = clock(data, at, 0x54)
    if at < 0:
        return -1, 0
    sign = data[at]
    if sign == 0x5A:
        return at + 1, ms
    if (sign != 0x2B and sign != 0x2D) or data[at + 3] != 0x3A:
        return -1, 0
    hours, minutes = _pair(data, at + 1), _pair(data, at + 4)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return -1, 0
    shift = (hours * 60 + minutes) * 60_000
    ms = ms - shift if sign == 0x2B else ms + shift
    if ms < 0 or ms >= MS_MAX:
        return -1, 0
    return at + 6, ms


@njit(nogil=True, inline="always")
def text_end(data, at, escapes):  # type: ignore[no-untyped-def]
    """The closing quote of a JSON string that begins at `at`: valid UTF-8, escapes only where `escapes`; else -1."""
    at = string_end(data, at)
    return at if data[at] == 0x22 else _rest_of_text(data, at, escapes)


@njit(nogil=True)
def _rest_of_text(data, at, escapes):  # type: ignore[no-untyped-def]
    while True:
        byte = data[at]
        if byte == 0x22:
            return at
        if byte >= 0x80:
            length = utf8_length(data, at)
            if length == 0:
                return -1
            at += length
        elif byte == 0x5C and escapes:
            length = _escape_length(data, at)
            if length == 0:
                return -1
            at += length
        else:
            return -1
        at = string_end(data, at)


@njit(nogil=True)
def _escape_length(data, at):  # type: ignore[no-untyped-def]
    """Bytes of the JSON escape at `at`, 0 if it is none."""
    kind = data[at + 1]
    if kind == 0x75:
        for k in range(at + 2, at + 6):
            low = data[k] | 0x20
            if not (0x30 <= data[k] <= 0x39 or 0x61 <= low <= 0x66):
                return 0
        return 6
    for known in b'"\\/bfnrt':
        if kind == known:
            return 2
    return 0


@njit(nogil=True)
def utf8_length(data, at):  # type: ignore[no-untyped-def]
    """Bytes of the UTF-8 sequence of two or more that begins at `at`, 0 if it is not valid (Unicode, table 3-7)."""
    first, second = data[at], data[at + 1]
    if 0xC2 <= first <= 0xDF:
        return 2 if 0x80 <= second <= 0xBF else 0
    if first < 0xE0 or first > 0xF4 or second < 0x80 or second > 0xBF or data[at + 2] & 0xC0 != 0x80:
        return 0
    if first <= 0xEF:
        return 0 if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F) else 3
    if data[at + 3] & 0xC0 != 0x80 or (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return 0
    return 4
