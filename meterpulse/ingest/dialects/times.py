"""When a device says that it was: with an offset, without one, as seconds of an epoch, or not at all."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from meterpulse.ingest.contract import RowError
from meterpulse.ingest.record import NumberText, decimal, instant, shown
from meterpulse.model.window import DAY_MS, floor_to, iso, zone

OLD_MS = 400 * DAY_MS  # what is older was not kept by a device for so long: its clock is not set
_LOCAL = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)", re.ASCII)
_MS_FROM = 10**11  # an epoch's number from here on counts ms and not seconds


def arrival(arrived_ms: int, interval_seconds: int) -> int:
    """The instant of a reading that brings no time: when it came, rounded down to its interval, so that a message that is
    delivered twice is in most cases the same reading.

    >>> arrival(1_772_841_661_234, 60)
    1772841660000
    """
    return floor_to(arrived_ms, interval_seconds * 1000)


def told_time(value: Any, arrived_ms: int, time_zone: str) -> int:
    """Milliseconds since the epoch; raises RowError bad_time. A local time that exists twice is the one that is nearer to
    the arrival."""
    ms = _epoch(value) if isinstance(value, NumberText) else _text(value, arrived_ms, time_zone)
    if ms < arrived_ms - OLD_MS:
        raise RowError(
            "bad_time", f"the device's clock is not set: {shown(value)} is {iso(ms)}, long before it arrived"
        )
    return ms


def _epoch(value: NumberText) -> int:
    mantissa, exponent = decimal(value)
    number = mantissa * 10**exponent if 0 <= exponent < 20 else mantissa // 10 ** min(-exponent, 400)
    ms = number if number >= _MS_FROM else _seconds(mantissa, exponent)
    if not 0 <= ms < 7_258_118_400_000:
        raise RowError("bad_time", f"{shown(value)} is no time of the years 1970 to 2200")
    return ms


def _seconds(mantissa: int, exponent: int) -> int:
    """In ms; what is finer is cut."""
    exponent += 3
    return mantissa * 10**exponent if exponent >= 0 else mantissa // 10 ** min(-exponent, 400)


def _text(value: Any, arrived_ms: int, time_zone: str) -> int:
    if not isinstance(value, str):
        raise RowError("bad_time", f"{shown(value)} is no time")
    match = _LOCAL.fullmatch(value) if len(value) <= 19 else None
    if match is None:
        return instant(_in_milliseconds(value))
    try:
        local = datetime.fromisoformat(f"{match[1]}T{match[2]}")
    except ValueError:
        raise RowError("bad_time", f"{shown(value)} is not a time of the calendar") from None
    if not 1970 <= local.year <= 2200:
        raise RowError("bad_time", f"{shown(value)} is not in the years 1970 to 2200")
    readings = {
        int(local.replace(tzinfo=zone(time_zone), fold=fold).astimezone(UTC).timestamp()) * 1000 for fold in (0, 1)
    }
    return min(readings, key=lambda ms: (abs(ms - arrived_ms), ms))


def _in_milliseconds(value: str) -> str:
    """A text of a time with its fraction cut to ms: devices print microseconds that they do not measure."""
    return re.sub(r"([.,]\d{3})\d{1,6}(?=[Zz+-]|$)", r"\1", value) if len(value) < 40 else value
