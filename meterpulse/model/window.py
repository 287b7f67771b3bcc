"""Windows in event time. Shorter than a day they are aligned to UTC; a day is the local day of the usage point: 23, 24 or 25 hours.

Every offset in use since 1972 is a multiple of a quarter of an hour, so a local day is made of whole 5-minute windows.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SECOND_MS = 1_000
MINUTE_MS = 60_000
WINDOW_MS = 300_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
WINDOWS_A_DAY = DAY_MS // WINDOW_MS
GRAINS = {"1m": MINUTE_MS, "5m": WINDOW_MS, "1h": HOUR_MS, "1d": DAY_MS}
EPOCH = date(1970, 1, 1)


def floor_to(ms: int, size_ms: int) -> int:
    """The start of the UTC-aligned window of `size_ms` that holds `ms`."""
    return ms - ms % size_ms


def utc_day(ms: int) -> int:
    """Days since 1970-01-01 in UTC."""
    return ms // DAY_MS


def day_text(day: int) -> str:
    """`2026-03-08` for days since the epoch."""
    return (EPOCH + timedelta(days=day)).isoformat()


def day_of_text(text: str) -> int:
    """The inverse of `day_text`; raises ValueError."""
    return (date.fromisoformat(text) - EPOCH).days


@lru_cache(maxsize=4_096)
def iso(ms: int) -> str:
    """RFC 3339 in UTC; milliseconds only where there are any."""
    stamp = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{ms % 1000:03d}Z" if ms % 1000 else f"{stamp}Z"


@lru_cache(maxsize=4_096)
def instant_ms(text: str) -> int:
    """Milliseconds of an ISO 8601 time with an offset; raises ValueError with what is wrong."""
    try:
        parsed = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not an ISO 8601 time; write it like 2026-03-08T00:00:00Z") from None
    if parsed.tzinfo is None:
        raise ValueError(f"{text[:40]!r} has no offset; add Z or +01:00")
    return (parsed - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA zone; raises ValueError with a clear message."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, IsADirectoryError):
        raise ValueError(f"time zone {name[:60]!r} is not known; use an IANA name such as America/New_York") from None


@lru_cache(maxsize=65_536)
def local_midnight(name: str, day: int) -> int:
    """The first instant (UTC ms) of the local day `day` (days since the epoch on the wall calendar)."""
    wanted = EPOCH + timedelta(days=day)
    midnight = datetime.combine(wanted, time(0), tzinfo=zone(name))
    at = int(midnight.timestamp() * 1000)
    # Where midnight itself is skipped (some zones changed at 00:00) the day begins at the first instant that bears its date.
    if datetime.fromtimestamp(at / 1000, zone(name)).date() != wanted:
        at -= at % (15 * MINUTE_MS)
        while datetime.fromtimestamp(at / 1000, zone(name)).date() < wanted:
            at += 15 * MINUTE_MS
        while datetime.fromtimestamp((at - 1) / 1000, zone(name)).date() >= wanted:
            at -= 15 * MINUTE_MS
    return at


def local_day(name: str, ms: int) -> int:
    """Days since the epoch of the wall calendar of zone `name` at `ms`."""
    return (datetime.fromtimestamp(ms // 1000, zone(name)).date() - EPOCH).days


def local_day_bounds(name: str, day: int) -> tuple[int, int]:
    """[start, end) in UTC ms of a local day: 23, 24 or 25 hours, rarely else."""
    return local_midnight(name, day), local_midnight(name, day + 1)


@lru_cache(maxsize=65_536)
def day_splits(name: str, day: int) -> tuple[tuple[int, int, int], ...]:
    """How the UTC day `day` falls into local days of a zone: (local day, start ms, end ms), in order; at most three."""
    start, end = day * DAY_MS, (day + 1) * DAY_MS
    parts, local = [], local_day(name, start)
    while True:
        lo, hi = local_day_bounds(name, local)
        if lo >= end:
            return tuple(parts)
        if hi > start and hi > lo:
            parts.append((local, max(lo, start), min(hi, end)))
        local += 1
