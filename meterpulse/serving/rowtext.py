"""The rows of a JSON answer, written by a compiled loop: exact decimals from integers, no object per value.

A home's day is 864 rows; as dictionaries they cost 3 ms of everybody's interpreter, here 0.1 ms of nobody's (the loop lets
go of it). For units that are powers of ten; the others take the general way in `answers`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_LARGEST_NUMBER = 22  # sign, 19 digits, point, and a leading zero
_WIDTH = 64  # bytes that are copied at a time: each text is shorter, and what follows overwrites the rest
_compiled = njit(nogil=True, cache=True)


def json_of(
    start: np.ndarray,
    rows: np.ndarray,
    batch: np.ndarray,
    quality: np.ndarray,
    unread: np.ndarray,
    unit: str,
    places: int,
    words: tuple[str, ...],
    *,
    adds_up: bool,
) -> bytes:
    """The JSON array of n windows: start int64[n] ms, rows int64[n, 4 or 5] in units of 10 ** -places, batch bool[n], quality
    uint8[n] an index into `words`. Where it is `unread`, bool[n], the least, largest and last reading are null."""
    offsets, data, texts = _texts(unit, words, adds_up)
    widest = 20 + texts + _LARGEST_NUMBER * 5  # of a row, and more than that: see _WIDTH
    out = np.empty(widest * max(len(start), 1) + 2 + _WIDTH, np.uint8)
    size = _write(start, rows, batch, quality, unread, places, adds_up, offsets, data, out)
    return out[:size].tobytes()


@lru_cache(maxsize=1_024)
def _texts(unit: str, words: tuple[str, ...], adds_up: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """What stands between the numbers: offsets int64 into bytes; how a row ends comes last, two for each word. And how many
    bytes of them a row has at most."""
    ends = [f',"quality":"{word}","source":"{source}"}},' for word in words for source in ("speed", "batch")]
    texts = [
        f'","quantity":{"" if adds_up else "null"}',
        f',"unit":"{unit}","count":',
        ',"min":',
        ',"max":',
        ',"last":',
        "null",
        '{"start":"',
        *ends,
    ]
    offsets = np.cumsum([0, *map(len, texts)])
    assert max(map(len, texts)) <= _WIDTH
    longest = int(offsets[7]) + max(map(len, ends)) + 4 * len("null")
    return offsets, np.frombuffer("".join(texts).encode() + bytes(_WIDTH), np.uint8), longest


@_compiled
def _write(start, rows, batch, quality, unread, places, adds_up, offsets, data, out):  # type: ignore[no-untyped-def]
    at, day = 1, np.int64(-1)
    out[0] = 0x5B
    date = np.empty(64, np.uint8)
    for i in range(len(start)):
        at = _copy(data, offsets[6], offsets[7], out, at)
        seconds = start[i] // 1000
        if seconds // 86400 != day:
            day = seconds // 86400
            _date(day, date)
        at = _copy(date, 0, 10, out, at)
        at = _clock(seconds - day * 86400, out, at)
        at = _copy(data, offsets[0], offsets[1], out, at)
        if adds_up:
            at = _number(rows[i, 1], places, out, at)
        at = _copy(data, offsets[1], offsets[2], out, at)
        at = _number(rows[i, 0], 0, out, at)
        for column in range(2, rows.shape[1]):
            at = _copy(data, offsets[column], offsets[column + 1], out, at)
            if unread[i]:
                at = _copy(data, offsets[5], offsets[6], out, at)
            else:
                at = _number(rows[i, column], places, out, at)
        end = 7 + 2 * np.int64(quality[i]) + batch[i]
        at = _copy(data, offsets[end], offsets[end + 1], out, at)
    if len(start):
        at -= 1  # the comma
    out[at] = 0x5D
    return at + 1


@intrinsic
def _copy_64(typingctx, data, low, out, at):  # type: ignore[no-untyped-def]
    """data[low : low + 64] to out[at : at + 64], in two instructions."""
    wide = ir.VectorType(ir.IntType(8), _WIDTH).as_pointer()

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, target = (
            cgutils.create_struct_proxy(signature.args[i])(context, builder, value=args[i]).data for i in (0, 2)
        )
        loaded = builder.load(builder.bitcast(builder.gep(source, [args[1]]), wide))
        stored = builder.store(loaded, builder.bitcast(builder.gep(target, [args[3]]), wide))
        loaded.align = stored.align = 1
        return context.get_dummy_value()

    return types.void(data, types.int64, out, types.int64), codegen


@njit(nogil=True, inline="always")
def _copy(data, low, high, out, at):  # type: ignore[no-untyped-def]
    _copy_64(data, low, out, at)
    return at + high - low


@_compiled
def _number(value, places, out, at):  # type: ignore[no-untyped-def]
    """value * 10 ** -places as plain digits without trailing zeros."""
    if value < 0:
        out[at] = 0x2D
        at += 1
    rest = np.uint64(-value) if value < 0 else np.uint64(value)
    digits = max(_digits(rest), places + 1)
    end = at + digits + (places > 0)
    place = end
    for _ in range(places):
        place -= 1
        fewer = rest // np.uint64(10)
        out[place] = np.uint8(0x30 + (rest - fewer * np.uint64(10)))
        rest = fewer
    if places > 0:
        place -= 1
        out[place] = 0x2E
    while place > at:
        place -= 1
        fewer = rest // np.uint64(10)
        out[place] = np.uint8(0x30 + (rest - fewer * np.uint64(10)))
        rest = fewer
    if places > 0:
        while out[end - 1] == 0x30:
            end -= 1
        if out[end - 1] == 0x2E:
            end -= 1
    return end


@_compiled
def _digits(number):  # type: ignore[no-untyped-def]
    digits, limit = 1, np.uint64(10)
    while digits < 20 and number >= limit:
        digits += 1
        limit *= np.uint64(10)  # of 20 digits it would wrap, and is not looked at
    return digits


@_compiled
def _two(value, out, at):  # type: ignore[no-untyped-def]
    out[at], out[at + 1] = 0x30 + value // 10, 0x30 + value % 10
    return at + 2


@_compiled
def _clock(second, out, at):  # type: ignore[no-untyped-def]
    """`THH:MM:SSZ` of a second of the day."""
    hour, minute = second // 3600, second // 60 % 60
    out[at] = 0x54
    at = _two(hour, out, at + 1)
    out[at] = 0x3A
    at = _two(minute, out, at + 1)
    out[at] = 0x3A
    at = _two(second - hour * 3600 - minute * 60, out, at + 1)
    out[at] = 0x5A
    return at + 1


@_compiled
def _date(days, out):  # type: ignore[no-untyped-def]
    """`YYYY-MM-DD` of days since 1970 (Howard Hinnant's days-to-civil)."""
    z = days + 719468
    era = z // 146097
    of_era = z - era * 146097
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    _two(year // 100, out, 0)
    _two(year % 100, out, 2)
    _two(month, out, 5)
    _two(of_year - (153 * shifted + 2) // 5 + 1, out, 8)
    out[4], out[7] = 0x2D, 0x2D
