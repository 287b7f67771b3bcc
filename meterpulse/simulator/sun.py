"""Where the sun stands over New York, by additions and divisions only, which are the same on every machine."""

from __future__ import annotations

import numpy as np

PI = 3.141592653589793
SIN_LATITUDE, COS_LATITUDE = 0.65210, 0.75813  # 40.7 degrees north
OBLIQUITY = 0.39779


def cosine(x: np.ndarray) -> np.ndarray:
    """Bhaskara's approximation (7th century), within 0.002; x in radians."""
    x = np.abs(x - 2 * PI * np.floor(x / (2 * PI) + 0.5))
    folded = np.where(x > PI / 2, PI - x, x)
    value = (PI * PI - 4 * folded * folded) / (PI * PI + folded * folded)
    return np.where(x > PI / 2, -value, value)


def height(year_day: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sine of the sun's elevation, -1 to 1, on a day of the year at a second of Eastern standard time.

    New York lies at 74 degrees west, a degree from the meridian of its time: noon is the sun's to within minutes.
    """
    sin_declination = -OBLIQUITY * cosine(2 * PI * (np.asarray(year_day) + 10) / 365.25)
    cos_declination = np.sqrt(1 - sin_declination * sin_declination)
    hour_angle = 2 * PI * (np.asarray(second) - 43_200) / 86_400
    return SIN_LATITUDE * sin_declination + COS_LATITUDE * cos_declination * cosine(hour_angle)
