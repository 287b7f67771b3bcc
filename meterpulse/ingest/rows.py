"""Parsed rows divided into readings and refused rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numba import njit

from meterpulse.ingest.checks import (
    AHEAD_MS_MAX,
    EXACT,
    FUTURE,
    GAUGE,
    NEGATIVE,
    OVERFLOW,
    PARSED,
    REASON_CODES,
    REFUSED,
    Limits,
    judge_rows,
    thousandths,
)
from meterpulse.ingest.contract import REASONS, BodyError, Decoded, Rejected
from meterpulse.ingest.layout import NO_UNIT
from meterpulse.model.quality import RAW
from meterpulse.model.quantity import QUANTITY_MAX
from meterpulse.model.reading import Readings
from meterpulse.model.window import iso

REFUSED_MAX = 100_000  # refused rows of one body; more are a mistake of the sender, not bad rows


@dataclass
class Columns:
    """Parsed rows on their way to `finish`; start, seconds, exponent, unit, revision have length 1 where constant."""

    code: np.ndarray  # uint8[n]: PARSED or REFUSED
    channel: np.ndarray  # uint32[n]
    start: np.ndarray  # int64 ms
    seconds: np.ndarray  # int64, ABSENT_SECONDS for the channel's interval
    mantissa: np.ndarray  # int64[n]
    exponent: np.ndarray  # int16
    unit: np.ndarray  # uint8: a unit's code, NO_UNIT or THOUSANDTHS
    revision: np.ndarray  # int64
    quality: np.ndarray = field(default_factory=lambda: np.full(1, RAW, np.int32))  # int32[n or 1], packed
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)  # row -> (reason, detail)
    # row -> (mantissa, exponent) where the mantissa is no int64; `mantissa` is then its sign and `exponent` 1
    wide: dict[int, tuple[int, int]] = field(default_factory=dict)


def finish(
    columns: Columns,
    limits: Limits,
    now_ms: int,
    original: Callable[[int], bytes],
    media_type: str,
) -> Decoded:
    """Checks all rows and divides them; `original` gives the bytes of a row."""
    c, n = columns, len(columns.channel)
    quantity, seconds = np.empty(n, np.int64), np.empty(n, np.int32)
    bad = judge_rows(  # type: ignore[call-arg]
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
            mantissa, exponent = c.wide.get(i) or (int(c.mantissa[i]), int(_at(c.exponent, i)))
            code = int(_at(c.unit, i))
            unit = int(limits.unit[limits.profile[c.channel[i]]]) if code == NO_UNIT else code
            c.code[i], quantity[i] = judge_exactly(
                mantissa, exponent, unit, int(_at(c.start, i)), _gauge(limits, int(c.channel[i])), now_ms
            )
    good = c.code == PARSED
    every = bool(good.all())
    parts: tuple[np.ndarray, ...] = (c.channel, c.start, seconds, quantity, c.revision, c.quality)
    if not every:
        parts = tuple(p if len(p) == 1 and n > 1 else p[good] for p in parts)
    channel, start, seconds, quantity, revision, quality = parts
    readings = (
        Readings(channel, shortest(start), shortest(seconds), quantity, shortest(revision), shortest(quality))
        if len(channel)
        else Readings.empty()
    )
    if every:
        return Decoded(readings, [])
    rejected, refused = [], np.flatnonzero(~good)
    refuse_all_if_too_many(len(refused), (REASON_CODES[code] for code in c.code[refused].tolist() if code != REFUSED))
    for i in refused.tolist():
        code = int(c.code[i])
        start_ms = int(_at(c.start, i))
        reason, detail = c.refused[i] if code == REFUSED else (REASON_CODES[code], told(code, start_ms, now_ms))
        rejected.append(Rejected(reason, detail, original(i), media_type))
    return Decoded(readings, rejected)


def refuse_all_if_too_many(count: int, reasons: Iterable[str]) -> None:
    """Raises BodyError 422 where more than REFUSED_MAX rows would be refused; `reasons` are some of theirs."""
    if count > REFUSED_MAX:
        reason = next(iter(reasons), "missing_field")
        raise BodyError(
            422,
            f"more than {REFUSED_MAX} rows would be refused, such as for {reason} ({REASONS[reason]}); "
            "that many are not set aside from one body, so nothing of it was taken",
        )


def judge_exactly(mantissa: int, exponent: int, unit: int, start_ms: int, gauge: bool, now_ms: int) -> tuple[int, int]:
    """(reason code, quantity) of a row whose product does not fit into 64 bits on the way; the rest of it holds."""
    quantity = thousandths(mantissa, exponent, unit)
    if not -QUANTITY_MAX <= quantity <= QUANTITY_MAX:
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
    return bool(limits.kind[limits.profile[channel]] == GAUGE)


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
