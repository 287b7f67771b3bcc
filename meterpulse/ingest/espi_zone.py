"""The IANA zone of ESPI's LocalTimeParameters: an offset, and rules that say when the clock is moved.

Starts of readings are instants (seconds since 1970 in UTC), so the zone decides nothing but where a channel's days begin.

>>> zone_of(-18_000, 3_600, "360E2000", "B40E2000")
'America/New_York'
>>> zone_of(-25_200, 0, "", "")
'America/Phoenix'
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from meterpulse.model.window import zone

# The largest place of each clock that Green Button is used with; the first that keeps the rule is taken.
_PLACES = (
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Anchorage",
    "America/Halifax",
    "America/St_Johns",
    "America/Phoenix",
    "America/Puerto_Rico",
    "America/Regina",
    "Pacific/Honolulu",
    "UTC",
    "Europe/London",
    "Europe/Berlin",
    "Europe/Athens",
    "Asia/Tokyo",
    "Asia/Kolkata",
    "Australia/Brisbane",
    "Australia/Sydney",
    "Australia/Adelaide",
    "Australia/Perth",
    "Pacific/Auckland",
)
_YEAR = 2024  # of which the rules are worked out; they name no year


def zone_of(offset_seconds: int, summer_seconds: int, summer_begins: str, summer_ends: str) -> str:
    """The zone whose clock is that; a fixed offset where the rules are of no known place, UTC where it is not whole hours."""
    begins, ends = _moment(summer_begins), _moment(summer_ends)
    moved = summer_seconds if begins and ends else 0
    for place in _PLACES:
        clock = zone(place)
        offsets = {clock.utcoffset(datetime(_YEAR, month, 10)) for month in range(1, 13)}
        if offsets != {timedelta(seconds=offset_seconds), timedelta(seconds=offset_seconds + moved)}:
            continue
        if not moved or begins is None or ends is None:
            return place
        standard, summer = timedelta(seconds=offset_seconds), timedelta(seconds=offset_seconds + moved)
        up, down = (begins - standard).replace(tzinfo=UTC), (ends - summer).replace(tzinfo=UTC)
        if _moves(clock, up, standard, summer) and _moves(clock, down, summer, standard):
            return place
    hours, rest = divmod(offset_seconds, 3_600)
    if rest or not -12 <= hours <= 14 or not hours:
        return "UTC"
    return f"Etc/GMT{-hours:+d}"  # its signs are the other way round


def _moves(clock: tzinfo, at: datetime, before: timedelta, after: timedelta) -> bool:
    """Whether it is moved then, give or take an hour: some files put odd seconds into the rule."""
    around = at - timedelta(hours=1), at + timedelta(hours=1)
    return tuple(moment.astimezone(clock).utcoffset() for moment in around) == (before, after)


def _moment(rule: str) -> datetime | None:
    """When a rule of eight hexadecimal digits moves the clock, on the clock before; None for no rule.

    From the lowest bit: seconds 12, hour 5, weekday 3 (1 is Monday), day 4 or 5, operator 3, month 4 (ESPI, DstRuleType).
    """
    try:
        bits = int(rule, 16)
    except ValueError:
        return None
    seconds, hour, weekday = bits & 0xFFF, bits >> 12 & 0x1F, bits >> 17 & 7
    day, operator, month = bits >> 20 & 0x1F, bits >> 25 & 7, bits >> 28 & 0xF
    if not 1 <= month <= 12 or hour > 24 or seconds > 3_599:
        return None
    try:
        first = datetime(_YEAR, month, max(day, 1) if operator < 2 else 1) + timedelta(hours=hour, seconds=seconds)
    except ValueError:
        return None
    if operator == 0 or not weekday:
        return first
    ahead = timedelta(days=(weekday - 1 - first.weekday()) % 7)
    if operator == 1:
        return first + ahead
    if operator < 7:
        return first + ahead + timedelta(weeks=operator - 2)
    at = first + ahead + timedelta(weeks=4)
    return at if at.month == month else at - timedelta(weeks=1)
