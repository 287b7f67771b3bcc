"""ESPI's LocalTimeParameters of an IANA zone: its offset, and rules that say when its clock is moved.

>>> clock_of("America/New_York", 2026)
Clock(offset=-18000, summer=3600, begins='360E2000', ends='B40E2000')
>>> clock_of("Asia/Tokyo", 2026)
Clock(offset=32400, summer=0, begins='FFFFFFFF', ends='FFFFFFFF')
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from meterpulse.model.window import zone

_NEVER = "FFFFFFFF"
_SUNDAY = 7
_LAST = 7  # the operator of the last such weekday of a month; 2 to 5 are the first to the fourth


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds ahead of UTC in winter, what summer adds, and the rules (ESPI, DstRuleType)."""

    offset: int
    summer: int
    begins: str
    ends: str


def clock_of(name: str, year: int) -> Clock:
    """Of the zone in that year; rules are given where they hold in the years around it too."""
    place = zone(name)
    winter = min(_offset(place, datetime(year, month, 15, tzinfo=UTC)) for month in range(1, 13))
    moves = {around: _moves(place, around) for around in range(year - 1, year + 3)}
    if any(len(found) != 2 for found in moves.values()):
        return Clock(winter, 0, _NEVER, _NEVER)
    summer = max(after for _, _, after in moves[year]) - winter
    rules = {}
    for ahead in (True, False):
        local = [
            next(at + timedelta(seconds=before) for at, before, after in found if (after > before) == ahead)
            for found in moves.values()
        ]
        rules[ahead] = _rule(local)
    if not rules[True] or not rules[False]:
        return Clock(winter, 0, _NEVER, _NEVER)
    return Clock(winter, summer, rules[True], rules[False])


def _offset(place: object, at: datetime) -> int:
    return int(at.astimezone(place).utcoffset().total_seconds())  # type: ignore[arg-type,union-attr]


def _moves(place: object, year: int) -> list[tuple[datetime, int, int]]:
    """(instant in UTC, offset before, offset after) of each move of the clock in a year, to the minute."""
    found, at = [], datetime(year, 1, 1, tzinfo=UTC)
    while at.year == year:
        after = at + timedelta(days=1)
        if _offset(place, at) != _offset(place, after):
            low, high = at, after
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if _offset(place, middle) == _offset(place, at) else (low, middle)
            moved = (high + timedelta(seconds=30)).replace(second=0, microsecond=0)
            found.append((moved.replace(tzinfo=None), _offset(place, at), _offset(place, after)))
        at = after
    return found


def _rule(moments: list[datetime]) -> str:
    """The rule that all of these, one a year on the clock before, keep; empty where there is none."""
    first = moments[0]
    same = {(m.month, m.hour, m.minute, m.isoweekday()) for m in moments}
    if len(same) != 1:
        return ""
    nth = {(m.day - 1) // 7 for m in moments}
    if len(nth) == 1 and nth != {4}:
        operator = 2 + nth.pop()
    elif all((m + timedelta(days=7)).month != m.month for m in moments):
        operator = _LAST
    else:
        return ""
    bits = first.month << 28 | operator << 25 | first.isoweekday() << 17 | first.hour << 12 | first.minute * 60
    return f"{bits:08X}"
