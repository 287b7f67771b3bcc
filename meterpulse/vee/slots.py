"""The same time of day on other days, where the meter is: what a reference day is read by.

A slot is a step of the local clock counted from 00:00. In spring a day lacks some slots, in autumn two columns share one;
then the first of them stands for the slot on other days' behalf, and both look for the same slot elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np

from meterpulse.model.window import DAY_MS, local_day, local_day_bounds, zone
from meterpulse.vee import Profile

NO_COLUMN = -1
WEEKDAY, SATURDAY, SUNDAY = range(3)  # day types; a holiday is a Sunday


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Columns of a load profile by local day and slot; m columns, d days, s slots a day."""

    day: np.ndarray  # int32[d], days since 1970-01-01 on the wall calendar, consecutive
    whole: np.ndarray  # bool[d]: all columns of the day are there
    day_of: np.ndarray  # int32[m], index into `day`
    slot_of: np.ndarray  # int32[m]
    column: np.ndarray  # int32[d, s], NO_COLUMN where the day has no such slot, or the profile does not reach it

    def types(self, holidays: np.ndarray) -> np.ndarray:
        """uint8[d]: WEEKDAY, SATURDAY or SUNDAY, which holidays (days since 1970-01-01) are too."""
        weekday = self.weekday()
        types = np.where(weekday == 5, SATURDAY, np.where(weekday == 6, SUNDAY, WEEKDAY))
        types[np.isin(self.day, holidays)] = SUNDAY
        return types.astype(np.uint8)

    def weekday(self) -> np.ndarray:
        """int64[d]: 0 is Monday."""
        return (self.day.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday


def slots_of(profile: Profile) -> Slots:
    """The slots of all columns of the profile, in its time zone."""
    return _slots(profile.traits.zone, profile.start_ms, profile.step_ms, profile.quantity.shape[1])


@lru_cache(maxsize=64)
def _slots(name: str, start_ms: int, step_ms: int, columns: int) -> Slots:
    at = start_ms + step_ms * np.arange(columns, dtype=np.int64)
    first = local_day(name, start_ms)
    last = local_day(name, int(at[-1])) if columns else first - 1
    day_of, slot_of = np.zeros(columns, np.int32), np.zeros(columns, np.int32)
    slots_a_day = max(1, -(-DAY_MS // step_ms))
    column = np.full((last - first + 1, slots_a_day), NO_COLUMN, np.int32)
    whole = np.zeros(last - first + 1, bool)
    for d in range(last - first + 1):
        low, high = local_day_bounds(name, first + d)
        a, b = np.searchsorted(at, (low, high))
        day_of[a:b] = d
        slot_of[a:b] = _clock_ms(name, at[a:b], low, high) // step_ms
        column[d, slot_of[a:b][::-1]] = np.arange(a, b)[::-1]  # backwards: the first of two stands
        whole[d] = low > start_ms - step_ms and high <= start_ms + step_ms * columns
    return Slots(np.arange(first, last + 1, dtype=np.int32), whole, day_of, slot_of, column)


def _clock_ms(name: str, at: np.ndarray, low: int, high: int) -> np.ndarray:
    """What the wall clock shows at instants of the local day [low, high), in ms since 00:00."""
    if high - low == DAY_MS:
        return at - low
    clocks = (datetime.fromtimestamp(ms / 1000, zone(name)) for ms in at.tolist())
    return np.array([((c.hour * 60 + c.minute) * 60 + c.second) * 1000 for c in clocks], np.int64)
