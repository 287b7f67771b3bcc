"""What every reading must hold, whatever it came in, in one compiled pass: the first failing reason per row.

A quantity arrives as mantissa * 10 ** exponent of a unit and leaves as int64 thousandths of the base unit, rounded half to
even once. The product is exact: where 64 bits do not hold it the row is done over in Python's integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

from meterpulse.ingest.contract import REASONS, BodyError, Decoded, Rejected
from meterpulse.ingest.layout import NO_UNIT
from meterpulse.ingest.record import ABSENT_SECONDS
from meterpulse.model.channel import ChannelTable, Kind
from meterpulse.model.quantity import BY_CODE, INT64_MAX
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS, MINUTE_MS, iso

AHEAD_MS_MAX = 5 * MINUTE_MS
SECONDS_MAX = 366 * DAY_MS // 1_000
REFUSED_MAX = 100_000  # refused rows of one body; more are a mistake of the sender, not bad rows
THOUSANDTHS = 254  # in place of a unit: the quantity is thousandths of the base unit already

# Codes of the compiled pass. PARSED rows are good so far; TAKEN_ELSEWHERE rows were refused before; EXACT rows need wide integers.
PARSED, REFUSED, EXACT = 0, 254, 255
REASON_CODES = ("", "unknown_channel", "bad_seconds", "bad_revision", "bad_unit", "overflow", "negative", "future")
UNKNOWN_CHANNEL, BAD_SECONDS, BAD_REVISION, BAD_UNIT, OVERFLOW, NEGATIVE, FUTURE = range(1, 8)

_PLACES = 19
_EXACT_MAX = 2**62  # of a divisor, so that twice a remainder fits


def _factors() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By [unit code, decimals]: the reduced fraction scale / 10 ** decimals, and the largest mantissa it can be multiplied with."""
    numerator, denominator, largest = (np.zeros((len(BY_CODE), _PLACES), np.int64) for _ in range(3))
    for unit in BY_CODE:
        for places in range(_PLACES):
            factor = unit.scale / 10**places
            if factor.denominator <= _EXACT_MAX and factor.numerator <= INT64_MAX:
                numerator[unit.code, places], denominator[unit.code, places] = factor.numerator, factor.denominator
                largest[unit.code, places] = INT64_MAX // factor.numerator
    return numerator, denominator, largest


_NUMERATOR, _DENOMINATOR, _LARGEST = _factors()
_DIMENSIONS = sorted({u.dimension for u in BY_CODE})
_DIMENSION = np.array([_DIMENSIONS.index(u.dimension) for u in BY_CODE], np.uint8)
_GAUGE = int(Kind.gauge)


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
    if mantissa < 0 and kind_of[profile] != _GAUGE:
        return NEGATIVE, 0, seconds
    if start > now_ms + AHEAD_MS_MAX:
        return FUTURE, 0, seconds
    return PARSED, quantity, seconds


@njit(nogil=True, cache=True)
def judge_rows(  # type: ignore[no-untyped-def]
    code, channel, start, seconds, mantissa, exponent, unit, revision, count, profile_of, kind_of, unit_of, interval_of, now_ms,
    quantity_out, seconds_out,
):  # fmt: skip
    """All rows whose `code` is PARSED; `code`, quantity and seconds are written. Length-1 columns stand for all rows. Returns how many are not good."""
    bad = 0
    s1, d1, e1, u1, r1 = len(start) > 1, len(seconds) > 1, len(exponent) > 1, len(unit) > 1, len(revision) > 1
    for i in range(len(channel)):
        if code[i] == PARSED:
            code[i], quantity_out[i], seconds_out[i] = judge(
                channel[i], start[i * s1], seconds[i * d1], mantissa[i], exponent[i * e1], unit[i * u1], revision[i * r1],
                count, profile_of, kind_of, unit_of, interval_of, now_ms,
            )  # fmt: skip
        bad += code[i] != PARSED
    return bad


@njit(nogil=True, cache=True)
def all_same(column):  # type: ignore[no-untyped-def]
    """Whether every row holds the same value."""
    first = column[0]
    if column[len(column) - 1] != first:
        return False
    for block in range(0, len(column), 4096):
        differs = first ^ first
        for i in range(block, min(block + 4096, len(column))):
            differs |= column[i] ^ first
        if differs:
            return False
    return True


def thousandths(mantissa: int, exponent: int, unit: int) -> int:
    """mantissa * 10 ** exponent of the unit with that code, in thousandths of its base unit, half to even; as wide as it needs."""
    scale = BY_CODE[unit].scale
    top, bottom = mantissa * scale.numerator, scale.denominator
    top, bottom = (top * 10**exponent, bottom) if exponent >= 0 else (top, bottom * 10**-exponent)
    quotient, rest = divmod(top, bottom)
    return quotient + (2 * rest > bottom or (2 * rest == bottom and quotient & 1 == 1))


@dataclass
class Columns:
    """Parsed rows on their way to `finish`; where `code` is REFUSED, `refused` says why. Constant columns may have length 1."""

    code: np.ndarray  # uint8[n]: PARSED or REFUSED
    channel: np.ndarray  # uint32[n]
    start: np.ndarray  # int64 ms
    seconds: np.ndarray  # int64, ABSENT_SECONDS for the channel's interval
    mantissa: np.ndarray  # int64[n]
    exponent: np.ndarray  # int16
    unit: np.ndarray  # uint8: a unit's code, NO_UNIT or THOUSANDTHS
    revision: np.ndarray  # int64
    refused: dict[int, tuple[str, str]]  # row -> (reason, detail)


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
    def columns(self) -> tuple:  # type: ignore[type-arg]
        """In the order of `judge`."""
        return self.count, self.profile, self.kind, self.unit, self.interval


def finish(
    columns: Columns,
    limits: Limits,
    now_ms: int,
    original: Callable[[int], bytes],
    media_type: str,
    *,
    wide: dict[int, tuple[int, int]] | None = None,
) -> Decoded:
    """Checks all rows and divides them; `wide` holds the (mantissa, exponent) of rows whose mantissa is no int64 (their `mantissa` is its sign)."""
    c, n = columns, len(columns.channel)
    quantity, seconds = np.empty(n, np.int64), np.empty(n, np.int32)
    bad = judge_rows(
        c.code,
        c.channel,
        c.start,
        c.seconds,
        c.mantissa,
        c.exponent,
        c.unit,
        c.revision,
        *limits.columns,
        now_ms,
        quantity,
        seconds,
    )
    if bad:
        for i in np.flatnonzero(c.code == EXACT).tolist():
            mantissa, exponent = (wide or {}).get(i) or (int(c.mantissa[i]), int(_at(c.exponent, i)))
            code = int(_at(c.unit, i))
            unit = int(limits.unit[limits.profile[c.channel[i]]]) if code == NO_UNIT else code
            c.code[i], quantity[i] = judge_exactly(
                mantissa, exponent, unit, int(_at(c.start, i)), _gauge(limits, int(c.channel[i])), now_ms
            )
    good = c.code == PARSED
    every = bool(good.all())
    parts = (c.channel, c.start, seconds, quantity, c.revision)
    if not every:
        parts = tuple(p if len(p) == 1 and n > 1 else p[good] for p in parts)
    channel, start, seconds, quantity, revision = parts
    readings = (
        Readings(channel, shortest(start), shortest(seconds), quantity, shortest(revision))
        if len(channel)
        else Readings.empty()
    )
    if every:
        return Decoded(readings, [])
    rejected, refused = [], np.flatnonzero(~good)
    if len(refused) > REFUSED_MAX:
        code = int(c.code[refused[0]])
        reason = c.refused[int(refused[0])][0] if code == REFUSED else REASON_CODES[code]
        raise BodyError(
            422,
            f"{len(refused)} of {n} rows would be refused, the first one for {reason} ({REASONS[reason]}); "
            f"at most {REFUSED_MAX} of one body are set aside, so nothing was taken",
        )
    for i in refused.tolist():
        code = int(c.code[i])
        reason, detail = (
            c.refused[i] if code == REFUSED else (REASON_CODES[code], told(code, int(_at(c.start, i)), now_ms))
        )
        rejected.append(Rejected(reason, detail, original(i), media_type))
    return Decoded(readings, rejected)


def judge_exactly(mantissa: int, exponent: int, unit: int, start_ms: int, gauge: bool, now_ms: int) -> tuple[int, int]:
    """(reason code, quantity) of a row whose product does not fit into 64 bits on the way; it passed the checks before that."""
    quantity = thousandths(mantissa, exponent, unit)
    if not -INT64_MAX <= quantity <= INT64_MAX:
        return OVERFLOW, 0
    if mantissa < 0 and not gauge:
        return NEGATIVE, 0
    return (FUTURE, 0) if start_ms > now_ms + AHEAD_MS_MAX else (PARSED, quantity)


def told(code: int, start_ms: int, now_ms: int) -> str:
    """The detail of a reason code."""
    if code == FUTURE:
        return f"starts at {iso(start_ms)}, more than 5 minutes after {iso(now_ms)}"
    return REASONS[REASON_CODES[code]]


def shortest(column: np.ndarray) -> np.ndarray:
    """One value where all rows hold the same."""
    return column[:1] if len(column) > 1 and all_same(column) else column


def _at(column: np.ndarray, row: int):  # type: ignore[no-untyped-def]
    return column[row if len(column) > 1 else 0]


def _gauge(limits: Limits, channel: int) -> bool:
    return bool(limits.kind[limits.profile[channel]] == _GAUGE)
