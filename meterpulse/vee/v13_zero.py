"""V13: an active service that uses nothing for days, without an outage."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from meterpulse.model.channel import Direction, Kind
from meterpulse.model.window import local_midnight
from meterpulse.vee import UNKNOWN, Context, Findings, Outcome, Profile, Rule, Settings, Spans
from meterpulse.vee.runs import compiled
from meterpulse.vee.totals import Series, series_of


class ZeroSettings(Settings):
    """How many days in a row may pass without use."""

    days_electricity: int = Field(3, ge=1, le=400)
    days_gas: int = Field(30, ge=1, le=400)
    days_water: int = Field(14, ge=1, le=400)
    severity: Literal["warn", "fail"] = "warn"  # the zero may well be true: people may be away


class Zero(Rule):
    """Evidence: days without use in a row, and from how many on it is told. A day that is not known in full, has an
    outage, or belongs to an inactive time ends the row.
    """

    number = 13
    settings = ZeroSettings

    def check(self, profile: Profile, context: Context, settings: ZeroSettings) -> Outcome:
        """Whole local days at the end of such a row."""
        traits = profile.traits
        if traits.kind is not Kind.interval or traits.direction is not Direction.delivered:
            return Outcome.not_applicable(profile)
        series = series_of(profile, context)
        excused = np.zeros(series.total.shape, bool)
        for spans in (context.outages, context.inactive):
            if spans is not None and len(spans.row):
                _excuse(excused, spans, _edges(profile, series))
        limit = getattr(settings, f"days_{traits.utility.name}")
        rows = np.zeros((len(profile), len(series.judged)), np.int64)
        _zero_days(series.total, excused, series.day, series.judged, rows)
        row, d = np.nonzero(rows >= limit)
        days = series.days
        found = Findings.of(13, row, days.first[d], days.after[d], settings.status, rows[row, d], limit)
        known = series.total[:, series.judged] != UNKNOWN
        return Outcome.where(known, found)


def _edges(profile: Profile, series: Series) -> tuple[np.ndarray, np.ndarray]:
    """(int64[s], int64[s]): the columns at which the days of the series begin and end, before the first one included."""
    zone, start, step = profile.traits.zone, profile.start_ms, profile.step_ms
    edges = [[-((start - local_midnight(zone, int(day) + i)) // step) for day in series.day] for i in (0, 1)]
    return np.array(edges[0], np.int64), np.array(edges[1], np.int64)


def _excuse(excused: np.ndarray, spans: Spans, edges: tuple[np.ndarray, np.ndarray]) -> None:
    for row, low, high in zip(spans.row, spans.first, spans.after, strict=True):
        excused[row] |= (edges[0] < high) & (edges[1] > low)


@compiled
def _zero_days(total, excused, day, judged, out):  # type: ignore[no-untyped-def]
    for r in range(len(total)):
        for d in range(len(judged)):
            i, count = judged[d], 0
            while i >= 0 and total[r, i] == 0 and not excused[r, i] and day[judged[d]] - day[i] == count:
                count += 1
                i -= 1
            out[r, d] = count
