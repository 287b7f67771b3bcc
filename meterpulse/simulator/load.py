"""How much a channel used in any span of seconds: a pure function of (seed, channel, start, seconds) in whole numbers.

`instant` makes what all channels share at a second (weather, habits, cycles; about a millisecond), `quantities`
spreads it over channels in compiled code. Because a quantity is the difference of two running totals, the use of an
hour is exactly the sum of its 5-second readings, and a register's index moves by exactly what the interval channel
beside it used.

>>> from meterpulse.simulator.city import City
>>> city = City(households=100, businesses=6, seed=1)
>>> hour = quantities(city, np.arange(3), 1_767_225_600_000, 3600)
>>> slices = [quantities(city, np.arange(3), 1_767_225_600_000 + 5000 * i, 5) for i in range(720)]
>>> bool((sum(slices) == hour).all())
True
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from meterpulse.simulator import habits, kernel, sun
from meterpulse.simulator.chance import hashed, key_of
from meterpulse.simulator.curves import KILOWATT, KNOTS, Curve, moments_of, turn_at
from meterpulse.simulator.habits import SLOTS
from meterpulse.simulator.weather import DAY_SECONDS, DAYS, EPOCH_MS, weather_of

if TYPE_CHECKING:
    from meterpulse.simulator.city import City

SHIFT_SECONDS = (np.arange(kernel.SHIFTS) - 8) * 780  # how late a customer's habits come: up to 104 minutes either way
FIRST_MS, LAST_MS = EPOCH_MS + 3 * DAY_SECONDS * 1000, EPOCH_MS + (DAYS - 4) * DAY_SECONDS * 1000

COOLING_FROM_M_C, HEATING_BELOW_M_C, BOILER_BELOW_M_C = 17_500, 14_000, 15_500
COOLING_KW, HEATING_KW, BOILER_M3_H = 0.085, 0.050, 0.030  # of a usual one, per degree, over the day
FULL_COOLING_KW, FULL_HEATING_KW, FULL_BOILER_M3_H, FRIDGE_KW, FULL_FRIDGE_KW = 2.2, 2.5, 2.4, 0.055, 0.150


def quantities(city: City, channels: np.ndarray, start_ms: int | np.ndarray, seconds: int) -> np.ndarray:
    """int64[n]: what channels[n] (the city's dense indices) used from `start_ms` (one, or one for each; whole seconds
    count) on.

    Thousandths of the base unit (mWh, mL); for registers the index, for voltage the mV, at the start. Times from
    2010-01-04 to 2099-12-28, else ValueError.
    """
    channels = np.ascontiguousarray(channels, np.uint32)
    if len(channels) and int(channels.max()) >= city.count:
        raise ValueError(f"channel {int(channels.max())} is not in this city; its indices are below {city.count}")
    if seconds < 1:
        raise ValueError(f"seconds is {seconds}; it takes 1 or more")
    out = np.empty(len(channels), np.int64)
    if np.ndim(start_ms) == 0:
        _fill(city, out, np.empty(0, np.int64), channels, int(start_ms), seconds)
        return out
    starts = np.asarray(start_ms, np.int64)
    order = np.argsort(starts, kind="stable")
    edges = np.flatnonzero(np.diff(starts[order], prepend=starts[order[:1]] - 1))
    for rows in np.split(order, edges[1:]) if len(order) else ():
        _fill(city, out, rows, channels, int(starts[rows[0]]), seconds)
    return out


def _fill(city: City, out: np.ndarray, rows: np.ndarray, channels: np.ndarray, start_ms: int, seconds: int) -> None:
    a, b = instant(city.seed, start_ms), instant(city.seed, start_ms + seconds * 1000)
    moments = model_of(city.seed).moments.ravel()
    kernel.fill(
        out,
        rows,
        channels,
        city.blocks,
        city.members,
        city.traits,
        city.quiet,
        city.households,
        np.uint64(city.key),
        a.table,
        b.table,
        a.places,
        b.places,
        a.salts,
        moments,
    )


@dataclass(frozen=True, eq=False)
class Instant:
    """What all channels share at a second: running totals of the smooth parts, and the place of each habit in
    its day.
    """

    table: np.ndarray  # int64[kernel.TABLE]
    places: np.ndarray  # int32[habits * shifts * 8], see `Model.places`
    salts: np.ndarray  # uint64[shifts * 2], the randomness of a day and of the next, for each lateness


@lru_cache(maxsize=64)
def instant(seed: int, ms: int) -> Instant:
    """The instant at `ms` (whole seconds count); raises ValueError outside the years that the city has weather for."""
    if not FIRST_MS <= ms <= LAST_MS:
        raise ValueError(
            f"the simulated city lives from 2010-01-04 to 2099-12-28 (UTC); {ms} ms since 1970 lies outside"
        )
    model, t = model_of(seed), (ms - EPOCH_MS) // 1000
    day = (t - SHIFT_SECONDS) // DAY_SECONDS
    salts = np.stack((hashed(kernel.DAY_KEY, day), hashed(kernel.DAY_KEY, day + 1)), axis=1).ravel()
    return Instant(model.table(t), model.places(t), salts)


class Model:
    """The curves and habits of a seed."""

    def __init__(self, seed: int):
        self._weather = w = weather_of(seed)
        self._keys = {name: key_of(seed, name) for name in ("home", "firm", "firm gas", "firm water", "sun", "volts")}
        day_type = w.free + 2 * w.summer_time
        temperature = w.temperature_m_c
        cooling = (np.maximum(temperature - COOLING_FROM_M_C, 0) * round(COOLING_KW * KILOWATT) // 1000) // 100
        warming = np.maximum(HEATING_BELOW_M_C - temperature, 0) * round(HEATING_KW * KILOWATT) // 100_000
        boiler = np.maximum(BOILER_BELOW_M_C - temperature, 0) * round(BOILER_M3_H * KILOWATT) // 100_000
        steady = np.full(len(temperature), KILOWATT // 100)
        cool, warm = _about_100(habits.day_types(habits.COOLING)), _about_100(habits.day_types(habits.HEATING))
        by_month = np.concatenate([_lit(_about_100(habits.day_types(habits.LIVING)), month) for month in range(12)])
        self.home = Curve(steady, by_month, w.month * 4 + day_type)
        self.cooling, self.warming = Curve(cooling, cool, day_type), Curve(warming, warm, day_type)
        self.boiler = Curve(boiler, warm, day_type)
        self.fridge = Curve(
            np.full_like(steady, round(FRIDGE_KW * KILOWATT)), np.ones((1, SLOTS), np.int64), np.zeros_like(day_type)
        )
        weeks = np.stack([_sunny(week * 7 + 3) for week in range(53)])
        self.sun = Curve(KILOWATT // 100 * (1000 - w.cloud * 3 // 4) // 1000, weeks, w.year_day // 7)
        self.firms, self.firms_gas, self.firms_water = [], [], []
        for kind in habits.KINDS[1:]:
            opening, rest = habits.day_types(habits.OPENING[kind]), habits.AT_REST[kind]
            opening = _about_100(opening, scale_by=opening[0].sum())
            open_only = np.maximum(opening - 12, 0)
            self.firms.append(
                (Curve(steady * 3 // 4, opening + rest, day_type), Curve(cooling // 3, opening + 30, day_type))
            )
            self.firms_gas.append(Curve(boiler // 6, opening // 2 + 50, day_type))
            self.firms_water.append(Curve(np.full_like(steady, FIRM_WATER_RATE[kind]), open_only, day_type))
        self._day_type, self._living = day_type, habits.day_types(habits.LIVING)
        rows = [habits.KETTLE, habits.MACHINES, habits.TAPS, habits.SHOWERS, habits.COOKING]
        self._habits = [habits.day_types(habit) for habit in rows] + [
            habits.day_types(habits.OPENING[k]) for k in habits.KINDS[1:]
        ]
        self.moments = np.stack([moments_of(row, LONGEST[h]) for h, four in enumerate(self._habits) for row in four])
        assert self.moments.shape == (len(LONGEST) * 4, KNOTS + 1)

    def table(self, t: int) -> np.ndarray:
        """int64[kernel.TABLE] at second t since the city's epoch."""
        out, k = np.zeros(kernel.TABLE, np.int64), kernel
        shifted = np.repeat(t - SHIFT_SECONDS, k.HOME_SERIES)
        out[k.HOME : k.COOLING] = self.home.restless(shifted, self._keys["home"])
        now, series = np.full(k.CYCLES, t), np.arange(k.CYCLES)
        phase, period = hashed(7, series).astype(np.int64) & 0xFFFF, 900 + (series % 8) * 150
        out[k.COOLING : k.WARMING] = self.cooling.in_cycles(now, phase, period, round(FULL_COOLING_KW * KILOWATT))
        out[k.WARMING : k.FRIDGE] = self.warming.in_cycles(now, phase, period, round(FULL_HEATING_KW * KILOWATT))
        out[k.FRIDGE : k.FIRM] = self.fridge.in_cycles(now, phase, period + 1500, round(FULL_FRIDGE_KW * KILOWATT))
        out[k.BOILER : k.FIRM_GAS] = self.boiler.in_cycles(now, phase, period, round(FULL_BOILER_M3_H * KILOWATT))
        out[k.SUN : k.VOLTS] = self.sun.restless(now[: k.CLOUDS], self._keys["sun"])
        many, few = np.full(k.HOME_SERIES, t), np.full(k.SERIES, t)
        for kind, ((use, cooling), gas, water) in enumerate(
            zip(self.firms, self.firms_gas, self.firms_water, strict=True), 1
        ):
            row = slice(k.FIRM + kind * k.HOME_SERIES, k.FIRM + (kind + 1) * k.HOME_SERIES)
            out[row] = use.restless(many, self._keys["firm"], kind * 100) + cooling.at(many)
            for first, curve, name in ((k.FIRM_GAS, gas, "firm gas"), (k.FIRM_WATER, water, "firm water")):
                row = slice(first + kind * k.SERIES, first + (kind + 1) * k.SERIES)
                out[row] = curve.restless(few, self._keys[name], kind * 100)
        out[k.VOLTS : k.EVENING] = self._volts(t, np.arange(k.CLOUDS))
        out[k.EVENING :] = divmod(t - DAY_SECONDS // 2, DAY_SECONDS)
        return out

    def places(self, t: int) -> np.ndarray:
        """int32[habits * shifts * 8]: day, second of it, turn, the turn one longest event earlier, first of its
        `moments`; for each lateness.
        """
        out = np.zeros((len(LONGEST), kernel.SHIFTS, kernel.PLACE), np.int32)
        _places(t, SHIFT_SECONDS, self._day_type, self.moments, np.array(LONGEST), out)
        return out.ravel()

    def _volts(self, t: int, series: np.ndarray) -> np.ndarray:
        """mV at the 64 transformers: lower in the evening, and wandering."""
        day, second = divmod(t, DAY_SECONDS)
        sag = int(self._living[int(self._day_type[day])][second // 300]) * 1500 // 2400
        wander = 0
        for step, reach in ((1800, 1200), (120, 500), (10, 200)):
            knot, x = t // step, t % step
            a, b = (
                (hashed(self._keys["volts"] + step, series * (1 << 40) + k) >> np.uint64(48)).astype(np.int64)
                * 2
                * reach
                // 65_536
                for k in (knot, knot + 1)
            )
            wander = wander + a + (b - a) * x // step - reach
        return 121_500 - sag + wander


@njit(cache=True, nogil=True)
def _places(t, shift_seconds, day_type, moments, longest, out):
    for shift in range(len(shift_seconds)):
        day = (t - shift_seconds[shift]) // DAY_SECONDS
        second = t - shift_seconds[shift] - day * DAY_SECONDS
        for habit in range(len(longest)):
            row = habit * 4 + day_type[day]
            place = out[habit, shift]
            place[kernel.DAY], place[kernel.SECOND] = day, second
            place[kernel.TURN] = turn_at(moments[row], second)
            place[kernel.BEFORE] = turn_at(moments[row], second - longest[habit])
            place[kernel.MOMENTS] = row * (KNOTS + 1)


FIRM_WATER_RATE = {"office": 2, "shop": 1, "restaurant": 9, "hotel": 8, "school": 4, "workshop": 5}
LONGEST = tuple(
    max(kernel.LONGEST[f] for f in families)
    for families in [
        (kernel.KETTLE,),
        (kernel.MACHINE,),
        (kernel.TAP,),
        (kernel.SHOWER, kernel.HOT_WATER),
        (kernel.COOKING,),
        *[(kernel.FIRM_MACHINE, kernel.FIRM_TAP, kernel.FIRM_COOKING)] * 6,
    ]
)


@lru_cache(maxsize=8)
def model_of(seed: int) -> Model:
    """The model of a seed; made once, about 100 ms."""
    return Model(seed)


def _about_100(shapes: np.ndarray, scale_by: int | None = None) -> np.ndarray:
    """Shapes whose mean over the day is about 100 (of the whole set, or so that `scale_by` would be)."""
    return shapes * (SLOTS * 100) // (scale_by or int(shapes[0].sum()))


def _lit(living: np.ndarray, month: int) -> np.ndarray:
    """Living with the lamps of a month: on where people are awake and the sun is down."""
    dark = sun.height(month * 30 + 15, np.arange(SLOTS) * 300 + 150) < 0.05
    return living * np.where(dark, 114, 94) // 100


def _sunny(year_day: int) -> np.ndarray:
    """int64[288]: hundredths of the panels' power that go out under a clear sky, the house's own use taken off."""
    height = sun.height(year_day, np.arange(SLOTS) * 300 + 150)
    return np.floor(np.clip(height - 0.2, 0, None) * 90).astype(np.int64)
