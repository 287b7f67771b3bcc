"""Which days need a record, and making it: after a rebuild, and of every day that the speed layer has finished by itself.

A record depends on what was measured in the two months before its day, around the same date a year ago, and on the day after
it. So when a day's readings change, later days are recorded again as well: in the end the record is the same whatever order
readings came in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from meterpulse.batch.beforerebuild import BeforeRebuild
from meterpulse.batch.exceptions import Worth
from meterpulse.batch.loadprofiles import PAST_DAYS, SEASON_DAYS, YEAR_DAYS, judged_keys, step_keys
from meterpulse.batch.record import RecordReport, record
from meterpulse.batch.recordblock import City
from meterpulse.model.window import DAY_MS
from meterpulse.speed.embedded import LONG_AGO
from meterpulse.stores import BLOCK
from meterpulse.stores.overlay import Recorded

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline
    from meterpulse.worklist import Found

_CHANNELS_A_THREAD = 64 * BLOCK  # a thread holds three days of a block, 200 MB while it judges: a small city needs one
# What depends on a day, in days after it: see loadprofiles.past_of.
_DEPENDENTS = (-1, *range(1, PAST_DAYS + 3), *range(YEAR_DAYS - SEASON_DAYS - 1, YEAR_DAYS + SEASON_DAYS + 4))


class Recording:
    """The records of one city. Any thread may ask what is due; one at a time records."""

    def __init__(self, pipeline: Pipeline):
        self._p = pipeline
        store = pipeline.store
        self.days = {_day_of(name): Recorded.of(text) for name, text in store.notes("record/").items()}
        self._again = {_day_of(name) for name in store.notes("redo/")}
        for name in store.notes("changed/"):  # a rebuild that a crash cut short
            self.built(_day_of(name), is_edited=False)

    def due(self) -> list[int]:
        """Whole UTC days without a record, or whose record is not up to date any more; the oldest first."""
        if not self._p.config.vee.record:
            return []
        rolled = self._p.keeper.rolled.copy()
        unfollowed = {day for day, noted in self.days.copy().items() if not noted.is_followed and day + 1 in rolled}
        return sorted(rolled & (self._again | unfollowed) | rolled - self.days.keys())

    def waiting(self, first: int, after: int) -> list[int]:
        """Days in [first, after) whose record is older than what was measured or decided since."""
        again = self._again.copy()
        return [day for day in range(first, after) if day in again] if again else []

    def built(self, day: int, *, is_edited: bool) -> None:
        """A day was rebuilt. Where its measured rows are others than before, or edits have come or gone, it and what depends on it
        is recorded again. Durable on return."""
        changed = f"changed/{day}"
        is_changed = self._p.store.note(changed) is not None
        again = {day} if is_changed or is_edited else set()
        if is_changed:
            again |= {day + after for after in _DEPENDENTS if day + after in self.days}
        self.again(again, {changed: b""})

    def again(self, days: set[int], notes: Mapping[str, bytes] | None = None) -> None:
        """These are to be recorded again. Durable on return, together with other notes."""
        self._again |= days
        if days:
            self._p.store.write([], notes={f"redo/{day}": b"1" for day in days} | dict(notes or {}))

    def before_rebuild(self, day: int) -> Callable[[int], BeforeRebuild] | None:
        """What keeps the record's word, block by block, while a day is rebuilt; None where the day has no record, or one
        that outlived its windows."""
        noted, table = self.days.get(day), self._p.registry.table
        if noted is None or day * DAY_MS < int(self._p.store.note("expired/usage_5m") or LONG_AGO):
            return None
        return lambda block: BeforeRebuild(
            day, block, noted.known_s, judged_keys(table, block), step_keys(table, block)
        )

    def record(self, day: int, install: Callable[[Callable[[], None]], None]) -> RecordReport:
        """Makes the record of a UTC day as of now. Raises CorruptChunk."""
        p = self._p
        table, count = p.registry.table, p.registry.table.count
        edits = p.desk.edits.edits_for((0, count), day * DAY_MS, (day + 1) * DAY_MS)
        worth = Worth(p.config.worklist.worth_kwh, p.config.worklist.worth_gas_m3, p.config.worklist.worth_water_m3)
        city = City(
            table, p.registry.areas.names, p.keys.group_of(), p.keys.parents(), edits, p.vee.for_channels, worth,
            min(p.config.batch.threads, 1 + count // _CHANNELS_A_THREAD),
        )  # fmt: skip
        is_followed = day + 1 in p.keeper.rolled
        keep = p.lake.remember
        report = record(day, city, p.store, install, self._offer, keep, p.clock(), is_followed=is_followed)
        self._again.discard(day)
        noted = p.store.note(f"record/{day}")
        if noted is not None:
            self.days[day] = Recorded.of(noted)
        return report

    def _offer(self, day: int, found: Found, channels: tuple[int, int]) -> None:
        self._p.desk.exceptions.offer(day, found, self._p.clock(), channels)

    def summary(self) -> dict[str, Any]:
        """For the status: days with a record, and days that wait for one."""
        return {"days": len(self.days), "due": len(self.due())}


def _day_of(name: str) -> int:
    return int(name.split("/")[1])
