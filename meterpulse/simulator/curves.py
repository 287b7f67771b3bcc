"""Use as a running total: what one unit of something has used since 2010, at any second, without a loop over time.

A day's course is a shape; a shape is scaled by the day's weather; days add up to a table. The total at a second is
then one look-up and one line, so the use between any two seconds is a difference, slices add up exactly to their
whole, and the index of a register is the same number. Rates are in 256ths of a thousandth of the base unit per second
(`KILOWATT` of them are 1 kW).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from meterpulse.simulator.chance import hashed
from meterpulse.simulator.habits import SLOTS
from meterpulse.simulator.weather import DAY_SECONDS, DAYS

SLOT_SECONDS = DAY_SECONDS // SLOTS
KILOWATT = 71_111  # 1 kW = 277.78 mWh/s, and 1 m3/h = 277.78 mL/s
# Unrest of a use: seconds between its knots (at most a slot: the rate is one between knots), and how far it may go, in
# 256ths of the rate. Together below 256: never negative.
UNREST = ((300, 70), (60, 50), (5, 20))


class Curve:
    """The running total of one component for one unit of it."""

    def __init__(self, amplitude: np.ndarray, shapes: np.ndarray, shape_of_day: np.ndarray):
        """amplitude int64[days + 2] times shapes int64[k, 288] is a rate; over each day it moves from its amplitude to
        the next's.
        """
        ramp = 2 * np.arange(SLOTS) + 1
        self._late = shapes * ramp // (2 * SLOTS)
        self._early = shapes - self._late
        self._amplitude, self._shape_of_day = amplitude, shape_of_day[:DAYS]
        early, late = (part.sum(axis=1)[self._shape_of_day] * SLOT_SECONDS for part in (self._early, self._late))
        daily = amplitude[:DAYS] * early + amplitude[1 : DAYS + 1] * late
        self._before_day = np.concatenate(([0], np.cumsum(daily)))
        self._window = lru_cache(maxsize=16)(self._make_window)

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """int64[n]: the total at seconds[n] since the city's epoch, all within a day of each other."""
        window, since = self._around(seconds)
        slot = since // SLOT_SECONDS
        return window.total[slot] + window.rate[slot] * (since - slot * SLOT_SECONDS)

    def restless(self, seconds: np.ndarray, key: int, series: np.ndarray) -> np.ndarray:
        """`at` with ups and downs of its own for each of series[n]; they leave the long-run total as it is."""
        window, since = self._around(seconds)
        total = self.at(seconds)
        for step, reach in UNREST:
            knot = seconds // step
            x = seconds - knot * step
            before, after = (
                self._unrest(
                    window,
                    since - x + ahead,
                    hashed(key + step, series * (1 << 40) + knot + ahead // step),
                    step * reach,
                )
                for ahead in (0, step)
            )
            total = total + before + (after - before) * x // step
        return total

    def in_cycles(self, seconds: np.ndarray, phase: np.ndarray, period: np.ndarray, full_rate: int) -> np.ndarray:
        """The total of a machine that gives the same in cycles: full rate until the cycle's need is met, then off (a
        thermostat).
        """
        begun = (seconds + phase) // period * period - phase
        start, end = self.at(begun), self.at(begun + period)
        need, since = end - start, seconds - begun
        switched = np.minimum(need, full_rate * since)
        return start + np.where(need > full_rate * period, need * since // period, switched)

    def _around(self, seconds: np.ndarray) -> tuple[_Window, np.ndarray]:
        window = self._window(int(np.min(seconds)) // DAY_SECONDS - 1)
        return window, seconds - window.start

    def _make_window(self, day: int) -> _Window:
        days = np.arange(day, day + 4)
        shape = self._shape_of_day[days]
        rate = (
            self._amplitude[days, None] * self._early[shape] + self._amplitude[days + 1, None] * self._late[shape]
        ).ravel()
        total = self._before_day[day] + np.concatenate(([0], np.cumsum(rate) * SLOT_SECONDS))
        return _Window(day * DAY_SECONDS, rate, total)

    @staticmethod
    def _unrest(window: _Window, since: np.ndarray, bits: np.ndarray, reach: int) -> np.ndarray:
        """At a knot the total is ahead by a random part of what the slower side of the knot allows."""
        slower = np.minimum(window.rate[(since - 1) // SLOT_SECONDS], window.rate[since // SLOT_SECONDS])
        return slower * reach * (bits >> np.uint64(48)).astype(np.int64) >> 24


@dataclass(frozen=True, eq=False)
class _Window:
    start: int  # seconds since the city's epoch
    rate: np.ndarray  # int64[4 days of slots]
    total: np.ndarray  # int64[one more]


KNOTS_BITS, STEP_BITS = 11, 13
TURN = 1 << (KNOTS_BITS + STEP_BITS)  # a whole day of a habit
KNOTS = 1 << KNOTS_BITS


def moments_of(intensity: np.ndarray, longest_seconds: int) -> np.ndarray:
    """int32[2049]: the second of the day by which each 2048th of a habit's moments has come; none begins so late that
    it passes midnight.
    """
    total = np.concatenate(([0], np.cumsum(intensity)))
    wanted = np.arange(KNOTS + 1) * total[-1] // KNOTS
    slot = np.minimum(np.searchsorted(total, wanted, side="right") - 1, SLOTS - 1)
    second = slot * SLOT_SECONDS + (wanted - total[slot]) * SLOT_SECONDS // np.maximum(intensity[slot], 1)
    return np.minimum(second, DAY_SECONDS - longest_seconds).astype(np.int32)


def turn_at(moments: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How far a habit has come in its day: int64[n] in [0, 2^24), the largest turn whose moment is not after `second`;
    -1 before the day.
    """
    i = np.clip(np.searchsorted(moments, second, side="right") - 1, 0, KNOTS - 1)
    step = moments[i + 1].astype(np.int64) - moments[i]
    last = (1 << STEP_BITS) - 1
    part = np.where(step > 0, (((second - moments[i] + 1) << STEP_BITS) - 1) // np.maximum(step, 1), last)
    return np.where(second < 0, -1, (i << STEP_BITS) + np.minimum(part, last))
