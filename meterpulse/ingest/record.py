"""One record, read strictly in plain Python: what the compiled scanners do not understand in full ends here.

The values are JSON's: `str`, `NumberText` (a number as it was written), bool, None, list, dict.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any, NamedTuple

from meterpulse.ingest.contract import RowError
from meterpulse.ingest.layout import NO_UNIT
from meterpulse.ingest.scalars import MS_MAX
from meterpulse.model.quality import RAW, packed_of
from meterpulse.model.quantity import UnknownUnit, unit_of

TEXT_MAX = 100  # characters of a number or a time
EXPONENT_MAX = 400
ABSENT_SECONDS = -(2**63)  # take the channel's interval
_EPOCH_DAY = date(1970, 1, 1).toordinal()

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,30}))?)?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_DECIMAL = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,9}))?", re.ASCII)


class NumberText(str):
    """A JSON number as it was written."""

    __slots__ = ()


class Record(NamedTuple):
    """One parsed reading, not looked up yet: mantissa * 10 ** exponent of `unit` (NO_UNIT: of the channel's)."""

    channel: str | int  # an id, or a dense index
    start: int  # ms since the epoch
    seconds: int  # ABSENT_SECONDS: the channel's
    mantissa: int  # below zero wherever a minus was written, for -0 too
    exponent: int
    unit: int
    revision: int
    quality: int = RAW  # packed


def instant(value: Any) -> int:
    """Milliseconds since the epoch; raises RowError bad_time or no_offset."""
    if not isinstance(value, str) or isinstance(value, NumberText):
        raise RowError("bad_time", f"start is {shown(value)}; it takes a text such as 2026-03-07T00:00:00Z")
    if (ms := _usual_instant(value)) >= 0:
        return ms
    match = _TIME.fullmatch(value) if len(value) <= TEXT_MAX else None
    if match is None:
        raise RowError("bad_time", f"{shown(value)} is not an ISO 8601 time such as 2026-03-07T00:00:00Z")
    year, month, day, hour, minute, second, fraction, zulu, sign, off_hours, off_minutes = match.groups()
    if not zulu and not sign:
        raise RowError("no_offset", f"{shown(value)} has no offset; add Z or +01:00")
    if not 1970 <= int(year) <= 2200:
        raise RowError("bad_time", f"{shown(value)} is not in the years 1970 to 2200")
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        raise RowError("bad_time", f"{shown(value)} is not a date of the calendar") from None
    h, m, s = int(hour), int(minute), int(second or 0)
    if h > 23 or m > 59 or s > 59 or (sign and (int(off_hours) > 23 or int(off_minutes or 0) > 59)):
        raise RowError("bad_time", f"{shown(value)} is not a time of day (leap seconds are not taken)")
    fraction = (fraction or "").rstrip("0")
    if len(fraction) > 3:
        raise RowError("bad_time", f"{shown(value)} is finer than a millisecond")
    ms = (days * 86_400 + h * 3_600 + m * 60 + s) * 1_000 + int(fraction.ljust(3, "0"))
    if sign:
        shift = (int(off_hours) * 60 + int(off_minutes or 0)) * 60_000
        ms += -shift if sign == "+" else shift
    if not 0 <= ms < MS_MAX:
        raise RowError("bad_time", f"{shown(value)} is not in the years 1970 to 2200")
    return ms


def _usual_instant(value: str) -> int:
    """`YYYY-MM-DDTHH:MM:SS[.mmm]Z`, the usual way to write it, or -1."""
    size = len(value)
    if (size != 20 and size != 24) or value[-1] != "Z" or not value.isascii():
        return -1
    if (
        value[4] != "-"
        or value[7] != "-"
        or value[10] != "T"
        or value[13] != ":"
        or value[16] != ":"
        or value[11:13] > "23"
    ):
        return -1
    if size == 24 and value[19] != ".":
        return -1
    try:
        t = datetime.fromisoformat(value)
    except ValueError:
        return -1
    if not 1970 <= t.year <= 2200:
        return -1
    seconds = (t.toordinal() - _EPOCH_DAY) * 86_400 + t.hour * 3_600 + t.minute * 60 + t.second
    return seconds * 1_000 + t.microsecond // 1_000


def decimal(value: Any) -> tuple[int, int]:
    """(mantissa, exponent) of a JSON number or a decimal text; raises RowError. -0 is a -1 that rounds to zero."""
    if not isinstance(value, str):
        raise RowError(
            "not_a_number", f'quantity is {shown(value)}; it takes a number, or a decimal string such as "12.5"'
        )
    match = _DECIMAL.fullmatch(value) if len(value) <= TEXT_MAX else None
    if match is None or not (match[2] or match[3]):
        raise RowError("not_a_number", f"{shown(value)} is not a finite decimal number such as 12.5")
    sign, whole, places, power = match.groups()
    places = places or ""
    mantissa, exponent = int(whole + places), int(power or 0) - len(places)
    if mantissa and exponent > EXPONENT_MAX - TEXT_MAX:
        raise RowError("overflow", f"{shown(value)} is more than a meter measures")
    if mantissa and exponent >= -EXPONENT_MAX:
        return -mantissa if sign == "-" else mantissa, exponent
    return (-1, -EXPONENT_MAX) if sign == "-" else (0, 0)  # zero, or far below half a thousandth


def whole(value: Any, reason: str, name: str) -> int:
    """A whole number (300, 300.0, 3e2) that fits into 64 bits; raises RowError with that reason."""
    if not isinstance(value, NumberText) or len(value) > TEXT_MAX:
        raise RowError(reason, f"{name} is {shown(value)}; it takes a whole number")
    if len(value) <= 18 and value.isdecimal() and value.isascii():
        return int(value)
    match = _DECIMAL.fullmatch(value)
    if match is None or not (match[2] or match[3]):
        raise RowError(reason, f"{name} is {shown(value)}; it takes a whole number")
    digits, exponent = int(match[1] + match[2] + (match[3] or "")), int(match[4] or 0) - len(match[3] or "")
    number, rest = divmod(digits, 10 ** min(-exponent, TEXT_MAX)) if exponent < 0 else (digits, 0)
    if rest:
        raise RowError(reason, f"{name} is {shown(value)}; it takes a whole number")
    number *= 10 ** min(max(exponent, 0), TEXT_MAX)
    if not -(2**63) < number < 2**63:
        raise RowError(reason, f"{name} is {shown(value)}, which does not fit into 64 bits")
    return number


def unit_code(value: Any) -> int:
    """The code of a named unit; raises RowError bad_unit."""
    if not isinstance(value, str) or isinstance(value, NumberText):
        raise RowError("bad_unit", f"unit is {shown(value)}; it takes a text such as kWh")
    try:
        return unit_of(value).code
    except UnknownUnit as error:
        raise RowError("bad_unit", str(error)) from None


def quality_code(value: Any) -> int:
    """A quality, packed; raises RowError bad_quality."""
    if not isinstance(value, str) or isinstance(value, NumberText):
        raise RowError("bad_quality", f"quality is {shown(value)}; it takes a text such as raw, edited, or S17")
    try:
        return packed_of(value)
    except ValueError as error:
        raise RowError("bad_quality", str(error)) from None


def read(
    channel: Any,
    start: Any,
    quantity: Any,
    seconds: Any = None,
    end: Any = None,
    unit: Any = None,
    revision: Any = None,
    quality: Any = None,
    default_unit: int = NO_UNIT,
) -> Record:
    """A record of its values; None stands for absent and for JSON's null. Raises RowError with the first reason."""
    for name, value in (("channel", channel), ("start", start), ("quantity", quantity)):
        if value is None:
            raise RowError("missing_field", f"{name} is missing or null; a reading needs channel, start and quantity")
    if not isinstance(channel, str) or isinstance(channel, NumberText):
        raise RowError("wrong_type", f"channel is {shown(channel)}; it takes the channel's id as a text")
    start_ms = instant(start)
    if end is not None:
        duration, rest = divmod(instant(end) - start_ms, 1_000)
        if rest:
            raise RowError("bad_seconds", "the end is not a whole number of seconds after the start")
        length = duration
    else:
        length = ABSENT_SECONDS if seconds is None else whole(seconds, "bad_seconds", "seconds")
    mantissa, exponent = decimal(quantity)
    code = default_unit if unit is None else unit_code(unit)
    version = 0 if revision is None else whole(revision, "bad_revision", "revision")
    packed = RAW if quality is None else quality_code(quality)
    return Record(channel, start_ms, length, mantissa, exponent, code, version, packed)


def shown(value: Any) -> str:
    """The value for an error message, cut."""
    text = (
        str(value)
        if isinstance(value, NumberText)
        else repr(value)
        if isinstance(value, str | bool | None)
        else f"a {type(value).__name__}"
    )
    return text if len(text) <= 60 else text[:57] + "..."
