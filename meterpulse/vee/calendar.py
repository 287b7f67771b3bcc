"""Local days as columns of a load profile. A day is where the meter is: 23, 24 or 25 hours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from meterpulse.model.window import local_day, local_midnight
from meterpulse.vee import Profile


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """The local days that the judged columns touch, d of them. A column belongs to the day that holds its start."""

    day: np.ndarray  # int32[d], days since 1970-01-01 on the wall calendar
    first: np.ndarray  # int32[d], first column
    after: np.ndarray  # int32[d]
    whole: np.ndarray  # bool[d]: all columns of the day are there

    def wholes(self) -> Days:
        """Those that are there in full."""
        return Days(*(column[self.whole] for column in (self.day, self.first, self.after, self.whole)))


def days_of(profile: Profile) -> Days:
    """The local days that columns [first, after) of the profile touch, each with all of its columns that there are."""
    return _days(
        profile.traits.zone, profile.start_ms, profile.step_ms, profile.quantity.shape[1], profile.first, profile.after
    )


@lru_cache(maxsize=1024)
def _days(zone: str, start_ms: int, step_ms: int, columns: int, first: int, after: int) -> Days:
    rows = []
    if first < after:
        day = local_day(zone, start_ms + first * step_ms)
        while True:
            # A column belongs to the day that holds its start, so an edge inside a column counts for the next one.
            low = -(-(local_midnight(zone, day) - start_ms) // step_ms)
            high = -(-(local_midnight(zone, day + 1) - start_ms) // step_ms)
            if low >= after:
                break
            if high > low:
                rows.append((day, max(low, 0), min(high, columns), low >= 0 and high <= columns))
            day += 1
    table = np.array(rows, np.int32).reshape(-1, 4)
    return Days(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(bool))
