"""A synthetic weather and calendar of New York, in whole numbers: the same on every machine, and a function of the
seed.

The city's own day begins at midnight of Eastern *standard* time all year (05:00 UTC), so that each has 86,400 seconds;
summer time moves people, not the day: their habits come an hour earlier on this scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np

from meterpulse.simulator.chance import below, hashed, key_of

FIRST_DAY, LAST_DAY = date(2010, 1, 1), date(2100, 1, 1)
DAYS = (LAST_DAY - FIRST_DAY).days
EPOCH_MS = 1_262_322_000_000  # 2010-01-01T05:00:00Z
DAY_SECONDS = 86_400
# Central Park, mean of each month 1991-2020 (NOAA), in thousandths of a degree Celsius
NORMALS_M_C = (930, 2170, 6000, 12060, 17330, 22220, 25280, 24500, 20670, 14390, 8890, 3940)
MONTH_MIDDLE = (15, 45, 74, 105, 135, 166, 196, 227, 258, 288, 319, 349)  # days of the year
# A spell of weather: length in days, amplitude in thousandths of a degree
SPELLS = ((4, 6_500), (11, 3_800), (37, 1_500))


@dataclass(frozen=True, eq=False)
class Weather:
    """One row a day since 2010-01-01, two days longer than the calendar."""

    temperature_m_c: np.ndarray  # int64: mean of the day, thousandths of a degree Celsius
    cloud: np.ndarray  # int64: 0 clear to 1000 overcast
    free: np.ndarray  # int64: 1 on weekends and the fixed holidays
    summer_time: np.ndarray  # int64: 1 while clocks are an hour ahead
    month: np.ndarray  # int64: 0 to 11
    year_day: np.ndarray  # int64: 0 to 365


@lru_cache(maxsize=8)
def weather_of(seed: int) -> Weather:
    """The weather of a seed, 2010 to 2099."""
    n = DAYS + 2
    dates = [FIRST_DAY + timedelta(days=i) for i in range(n)]
    year_day = np.array([d.timetuple().tm_yday - 1 for d in dates])
    temperature = _normal(year_day)
    for length, amplitude in SPELLS:
        temperature = temperature + _wander(key_of(seed, f"temperature {length}"), n, length, amplitude)
    cloud = 450 + _wander(key_of(seed, "cloud 2"), n, 2, 650) + _wander(key_of(seed, "cloud 9"), n, 9, 250)
    return Weather(
        temperature,
        np.clip(cloud, 0, 1000),
        np.array([int(d.weekday() >= 5 or _holiday(d)) for d in dates]),
        np.array([int(_summer_time(d)) for d in dates]),
        np.array([d.month - 1 for d in dates]),
        year_day,
    )


def _normal(year_day: np.ndarray) -> np.ndarray:
    """Linear between the middles of the months, which is what whole numbers can do exactly."""
    knots = np.array((MONTH_MIDDLE[-1] - 365, *MONTH_MIDDLE, MONTH_MIDDLE[0] + 366))
    values = np.array((NORMALS_M_C[-1], *NORMALS_M_C, NORMALS_M_C[0]))
    i = np.searchsorted(knots, year_day, side="right") - 1
    return values[i] + (values[i + 1] - values[i]) * (year_day - knots[i]) // (knots[i + 1] - knots[i])


def _wander(key: int, n: int, length: int, amplitude: int) -> np.ndarray:
    """int64[n] in [-amplitude, amplitude], linear between random knots `length` days apart."""
    day = np.arange(n)
    knots = below(hashed(key, np.arange(n // length + 2)), 2 * amplitude + 1) - amplitude
    i, x = day // length, day % length
    return knots[i] + (knots[i + 1] - knots[i]) * x // length


def _holiday(d: date) -> bool:
    thanksgiving = d.month == 11 and d.weekday() == 3 and 22 <= d.day <= 28
    return thanksgiving or (d.month, d.day) in ((1, 1), (7, 4), (12, 25))


def _summer_time(d: date) -> bool:
    """United States since 2007: from the second Sunday of March to the first Sunday of November."""
    begin = date(d.year, 3, 8) + timedelta(days=6 - date(d.year, 3, 8).weekday())
    end = date(d.year, 11, 1) + timedelta(days=6 - date(d.year, 11, 1).weekday())
    return begin <= d < end
