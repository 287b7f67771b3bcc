"""What the answers must be: a plain loop over plain dictionaries. Shares no line with the product.

(channel, start) -> the reading of the highest revision, the first one sent among equal ones; windows of 1 minute, 5 minutes
and 1 hour are aligned to UTC, a day is the date that a clock on the wall of the usage point shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTES = {"1m": 1, "5m": 5, "1h": 60}


class Reading(NamedTuple):
    """One reading as a meter sends it; `quantity` in thousandths of the base unit."""

    channel: str
    start_ms: int
    seconds: int
    quantity: int
    revision: int = 0


class Row(NamedTuple):
    """One window of an answer; `last` is None for areas."""

    count: int
    sum: int
    min: int
    max: int
    last: int | None


@dataclass
class Oracle:
    """`channels` are public shapes by id; `parents` the area around each area."""

    channels: dict[str, dict[str, Any]]
    parents: dict[str, str | None] = field(default_factory=dict)
    area_zones: dict[str, str] = field(default_factory=dict)
    standing: dict[tuple[str, int], Reading] = field(default_factory=dict)
    sent: int = 0

    def take(self, readings: Iterable[Reading]) -> None:
        """In the order of their acknowledgement."""
        for reading in readings:
            self.sent += 1
            key = (reading.channel, reading.start_ms)
            there = self.standing.get(key)
            if there is None or reading.revision > there.revision:
                self.standing[key] = reading

    def channel(self, id: str, grain: str) -> dict[datetime | date, Row]:
        """Every window of a channel that has readings, by its start in UTC, or by its local date."""
        zone = self.channels[id].get("time_zone", "UTC")
        return _windows([r for (c, _), r in self.standing.items() if c == id], grain, zone, with_last=True)

    def area(self, area: str, utility: str, grain: str) -> dict[datetime | date, Row]:
        """Every window of an area and all areas inside it; delivered interval channels only."""
        inside = {
            id
            for id, c in self.channels.items()
            if c["utility"] == utility
            and c.get("kind", "interval") == "interval"
            and c.get("direction", "delivered") == "delivered"
            and area in self._around(c.get("area"))
        }
        zone = self.area_zones.get(area, "UTC")
        return _windows([r for (c, _), r in self.standing.items() if c in inside], grain, zone, with_last=False)

    def _around(self, area: str | None) -> list[str]:
        found = []
        while area is not None:
            found.append(area)
            area = self.parents.get(area)
        return found


def window_of(start_ms: int, grain: str, zone: str) -> datetime | date:
    """The window that holds an instant: its start in UTC, or the local date."""
    at = EPOCH + timedelta(milliseconds=start_ms)
    if grain == "1d":
        return at.astimezone(ZoneInfo(zone)).date()
    return at - timedelta(minutes=at.minute % MINUTES[grain], seconds=at.second, microseconds=at.microsecond)


def _windows(readings: list[Reading], grain: str, zone: str, *, with_last: bool) -> dict[datetime | date, Row]:
    groups: dict[datetime | date, list[Reading]] = {}
    for reading in sorted(readings, key=lambda r: r.start_ms):
        groups.setdefault(window_of(reading.start_ms, grain, zone), []).append(reading)
    rows = {}
    for window, group in groups.items():
        quantities = [r.quantity for r in group]
        rows[window] = Row(
            len(group), sum(quantities), min(quantities), max(quantities), quantities[-1] if with_last else None
        )
    return rows
