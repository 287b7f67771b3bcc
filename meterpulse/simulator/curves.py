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
from numba import int64, njit, uint64

from meterpulse.simulator.chance import mix
from meterpulse.simulator.habits import SLOTS
from meterpulse.simulator.weather import DAY_SECONDS, DAYS

SLOT_SECONDS = DAY_SECONDS // SLOTS
KILOWATT = 71_111  # 1 kW = 277.78 mWh/s, and 1 m3/h = 277.78 mL/s
# Unrest of a use: seconds between its knots (at most a slot: the rate is one between knots), and how far it may go, in
# 256ths of the rate. Together below 256: never negative.
UNREST = np.array(((300, 70), (60, 50), (5, 20)), np.int64)


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

    def restless(self, seconds: np.ndarray, key: int, first_series: int = 0) -> np.ndarray:
        """`at` with ups and downs of its own for each of seconds[n]; they leave the long-run total as it is. `key` and
        the series (`first_series` for the first, then one more for each) say which.
        """
        window, since = self._around(seconds)
        return _restless(since, window.start, window.rate, window.total, np.uint64(key), first_series)

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


@dataclass(frozen=True, eq=False)
class _Window:
    start: int  # seconds since the city's epoch
    rate: np.ndarray  # int64[4 days of slots]
    total: np.ndarray  # int64[one more]


@njit(cache=True, nogil=True)
def _restless(since, start, rate, total, key, first_series):
    """Compiled, because it is made of many short steps for each of some hundred series, at every second that is asked
    for.
    """
    out = np.empty(len(since), np.int64)
    for i in range(len(since)):
        now = since[i]
        slot = now // SLOT_SECONDS
        value = total[slot] + rate[slot] * (now - slot * SLOT_SECONDS)
        series = (first_series + i) << 40
        for u in range(len(UNREST)):
            step, reach = UNREST[u, 0], UNREST[u, 1]
            knot = (start + now) // step
            x = start + now - knot * step
            before = _ahead(rate, now - x, mix(key + uint64(step), series + knot), step * reach)
            after = _ahead(rate, now - x + step, mix(key + uint64(step), series + knot + 1), step * reach)
            value += before + (after - before) * x // step
        out[i] = value
    return out


@njit(inline="always")
def _ahead(rate, knot, bits, reach):
    """At a knot the total is ahead by a random part of what the slower side of the knot allows."""
    slower = min(rate[(knot - 1) // SLOT_SECONDS], rate[knot // SLOT_SECONDS])
    return (slower * reach * int64(bits >> uint64(48))) >> 24


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


@njit(cache=True, nogil=True)
def turn_at(moments, second):
    """How far a habit has come in its day, 0 to 2^24: the largest turn whose moment is not after `second`; -1 before
    the day.
    """
    if second < 0:
        return -1
    i = min(max(np.searchsorted(moments, second, side="right") - 1, 0), KNOTS - 1)
    step, last = int64(moments[i + 1]) - moments[i], (1 << STEP_BITS) - 1
    part = (((second - moments[i] + 1) << STEP_BITS) - 1) // step if step > 0 else last
    return (i << STEP_BITS) + min(part, last)
