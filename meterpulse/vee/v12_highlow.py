"""V12: a customer uses about as much a day as a year ago, or as of late."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
from pydantic import Field

from meterpulse.model.channel import Kind
from meterpulse.vee import UNKNOWN, Context, Findings, Outcome, Profile, Rule
from meterpulse.vee.amounts import Amount, Factor, PerUtility, floor_times
from meterpulse.vee.totals import Series, series_of, sums_over

YEAR_DAYS = 365


class HighLowSettings(PerUtility):
    """The mean of `over_days` days is between `low` and `high` times what is expected: the mean of the days a year ago,
    `season_days` around; where fewer than `known` of them are known, of the `prior_days` before. Days below the floor
    are never high, and never expected to be low.
    """

    low: Factor = Decimal("0.2")
    high: Factor = Decimal("3.0")
    over_days: int = Field(7, ge=1, le=60)
    season_days: int = Field(7, ge=0, le=60)
    prior_days: int = Field(60, ge=1, le=730)
    known: Factor = Decimal("0.1")
    floor_electricity: Amount = "1 kWh"
    floor_gas: Amount = "1 m3"
    floor_water: Amount = "0.1 m3"


class HighLow(Rule):
    """Evidence: the mean of a day, rounded down, and the limit that it passes, in thousandths of the base unit."""

    number = 12
    settings = HighLowSettings

    def check(self, profile: Profile, context: Context, settings: HighLowSettings) -> Outcome:
        """Whole local days whose values are all known, with as many days before them as are known."""
        traits = profile.traits
        floor = settings.amount("floor", traits.utility, traits.unit)
        if traits.kind is not Kind.interval or context.history is None or floor is None:
            return Outcome.not_applicable(profile)
        series = series_of(profile, context)
        expected, measured = self._expected(series, settings), self._measured(series, settings)
        judged = (expected != UNKNOWN) & (measured != UNKNOWN)
        usual = np.maximum(expected, 0)
        low, high = floor_times(usual, settings.low), floor_times(usual, settings.high)
        is_low = judged & (measured < low) & (expected >= floor)
        is_high = judged & (measured > high) & (measured >= floor)
        row, d = np.nonzero(is_low | is_high)
        days = series.days
        limit = np.where(is_low, low, high)[row, d]
        found = Findings.of(12, row, days.first[d], days.after[d], settings.status, measured[row, d], limit)
        return Outcome.where(judged, found)

    def _measured(self, series: Series, settings: HighLowSettings) -> np.ndarray:
        """int64[n, d]: the mean of the days up to and with each judged one, UNKNOWN where that one is not known."""
        last = series.days.day
        low = np.searchsorted(series.day, last - settings.over_days + 1)
        sums, known = sums_over(series.total, low, series.judged + 1)
        own = series.total[:, series.judged]
        return np.where(own == UNKNOWN, UNKNOWN, sums // np.maximum(known, 1))

    def _expected(self, series: Series, settings: HighLowSettings) -> np.ndarray:
        """int64[n, d]: the mean of a day a year ago, else of the time before; UNKNOWN where too little is known."""
        last = series.days.day
        season = last - YEAR_DAYS - settings.season_days, last - YEAR_DAYS + settings.season_days + 1
        before = last - settings.over_days + 1
        prior = before - settings.prior_days, before
        out = np.full((len(series.total), len(last)), UNKNOWN, np.int64)
        for (low, high), days in ((prior, settings.prior_days), (season, 2 * settings.season_days + 1)):
            sums, known = sums_over(series.total, np.searchsorted(series.day, low), np.searchsorted(series.day, high))
            enough = known >= max(1, math.ceil(days * settings.known))
            out[enough] = sums[enough] // known[enough]
        return out
