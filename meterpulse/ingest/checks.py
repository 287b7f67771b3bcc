"""What every reading must hold, whatever it came in, in one compiled pass: the first failing reason per row.

A quantity arrives as mantissa * 10 ** exponent of a unit and leaves as int64 thousandths of the base unit, rounded half
to even once. The product is exact: where 64 bits do not hold it the row is done over in Python's integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from meterpulse.ingest.layout import NO_UNIT
from meterpulse.ingest.record import ABSENT_SECONDS
from meterpulse.model.channel import ChannelTable, Kind
from meterpulse.model.quantity import BY_CODE, QUANTITY_MAX
from meterpulse.model.window import DAY_MS, MINUTE_MS

AHEAD_MS_MAX = 5 * MINUTE_MS
SECONDS_MAX = 366 * DAY_MS // 1_000
THOUSANDTHS = 254  # in place of a unit: the quantity is thousandths of the base unit already

# Codes of the compiled pass: good so far; refused before it; to be done over in wide integers.
PARSED, REFUSED, EXACT = 0, 254, 255
_INT64_MAX = 2**63 - 1
REASON_CODES = ("", "unknown_channel", "bad_seconds", "bad_revision", "bad_unit", "overflow", "negative", "future")
UNKNOWN_CHANNEL, BAD_SECONDS, BAD_REVISION, BAD_UNIT, OVERFLOW, NEGATIVE, FUTURE = range(1, 8)

_PLACES = 19
_EXACT_MAX = 2**62  # of a divisor, so that twice a remainder fits


def _factors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By [unit code, decimals]: the reduced fraction scale / 10 ** decimals, and the largest mantissa that it takes."""
    numerator, denominator, largest = (np.zeros((len(BY_CODE), _PLACES), np.int64) for _ in range(3))
    for unit in BY_CODE:
        for places in range(_PLACES):
            factor = unit.scale / 10**places
            if factor.denominator <= _EXACT_MAX and factor.numerator <= _INT64_MAX:
                numerator[unit.code, places], denominator[unit.code, places] = factor.numerator, factor.denominator
                largest[unit.code, places] = _INT64_MAX // factor.numerator
    return numerator, denominator, largest


_NUMERATOR, _DENOMINATOR, _LARGEST = _factors()
_DIMENSIONS = sorted({u.dimension for u in BY_CODE})
_DIMENSION = np.array([_DIMENSIONS.index(u.dimension) for u in BY_CODE], np.uint8)
GAUGE = int(Kind.gauge)


@njit(nogil=True, inline="always")
def _rounded(mantissa, numerator, denominator):  # type: ignore[no-untyped-def]
    if denominator == 1:
        return mantissa * numerator
    product = mantissa * numerator
    quotient = product // denominator
    twice = 2 * (product - quotient * denominator)
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


@njit(nogil=True, cache=True)
def judge(  # type: ignore[no-untyped-def]
    channel,
    start,
    seconds,
    mantissa,
    exponent,
    unit,
    revision,
    count,
    profile_of,
    kind_of,
    unit_of,
    interval_of,
    now_ms,
):
    """One row: (reason code, quantity, seconds)."""
    if channel >= count:
        return UNKNOWN_CHANNEL, 0, 0
    profile = profile_of[channel]
    if seconds == ABSENT_SECONDS:
        seconds = np.int64(interval_of[profile])
    if seconds < 1 or seconds > SECONDS_MAX:
        return BAD_SECONDS, 0, 0
    if revision < 0:
        return BAD_REVISION, 0, seconds
    own = unit_of[profile]
    quantity = np.int64(0)
    exact = False
    if mantissa == -(2**63):  # its absolute value would not fit
        return OVERFLOW, 0, seconds
    if unit == THOUSANDTHS:
        quantity = mantissa
    else:
        code = own if unit == NO_UNIT else unit
        if _DIMENSION[code] != _DIMENSION[own]:
            return BAD_UNIT, 0, seconds
        if exponent > 0 or exponent <= -_PLACES or _DENOMINATOR[code, -exponent] == 0:
            exact = True
        elif abs(mantissa) > _LARGEST[code, -exponent]:
            if _DENOMINATOR[code, -exponent] == 1:
                return OVERFLOW, 0, seconds
            exact = True
        else:
            quantity = _rounded(mantissa, _NUMERATOR[code, -exponent], _DENOMINATOR[code, -exponent])
    if exact:
        return EXACT, 0, seconds
    if quantity > QUANTITY_MAX or quantity < -QUANTITY_MAX:
        return OVERFLOW, 0, seconds
    if mantissa < 0 and kind_of[profile] != GAUGE:
        return NEGATIVE, 0, seconds
    if start > now_ms + AHEAD_MS_MAX:
        return FUTURE, 0, seconds
    return PARSED, quantity, seconds


@njit(nogil=True, cache=True)
def judge_rows(  # type: ignore[no-untyped-def]
    code, channel, start, seconds, mantissa, exponent, unit, revision,
    count, profile_of, kind_of, unit_of, interval_of, now_ms, quantity_out, seconds_out,
):  # fmt: skip
    """All rows whose `code` is PARSED: code, quantity and seconds are written. Returns how many are not good."""
    bad = 0
    s1, d1, e1, u1, r1 = len(start) > 1, len(seconds) > 1, len(exponent) > 1, len(unit) > 1, len(revision) > 1
    for i in range(len(channel)):
        if code[i] == PARSED:
            code[i], quantity_out[i], seconds_out[i] = judge(
                channel[i], start[i * s1], seconds[i * d1],
                mantissa[i], exponent[i * e1], unit[i * u1], revision[i * r1],
                count, profile_of, kind_of, unit_of, interval_of, now_ms,
            )  # fmt: skip
        bad += code[i] != PARSED
    return bad


def thousandths(mantissa: int, exponent: int, unit: int) -> int:
    """mantissa * 10 ** exponent of a unit (by its code) in thousandths of its base unit, half to even, of any size."""
    scale = BY_CODE[unit].scale
    top, bottom = mantissa * scale.numerator, scale.denominator
    top, bottom = (top * 10**exponent, bottom) if exponent >= 0 else (top, bottom * 10**-exponent)
    quotient, rest = divmod(top, bottom)
    return quotient + (2 * rest > bottom or (2 * rest == bottom and quotient & 1 == 1))


@dataclass(frozen=True)
class Limits:
    """The table's columns as the compiled pass takes them."""

    count: int
    profile: np.ndarray
    kind: np.ndarray
    unit: np.ndarray
    interval: np.ndarray

    @classmethod
    def of(cls, table: ChannelTable) -> Limits:
        """Of the table as it is now; channels registered meanwhile are not seen."""
        p = table.profiles
        count = int(table.count)
        return cls(
            count, np.asarray(table.profile), np.asarray(p.kind), np.asarray(p.unit), np.asarray(p.interval_seconds)
        )

    @property
    def columns(self) -> tuple[Any, ...]:
        """In the order of `judge`."""
        return self.count, self.profile, self.kind, self.unit, self.interval
