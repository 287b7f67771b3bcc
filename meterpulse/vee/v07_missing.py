"""V07: every interval of the calendar has a value, and a value that is made of many readings has all of them."""

from __future__ import annotations

import numpy as np

from meterpulse.model.channel import Kind
from meterpulse.model.window import HOUR_MS
from meterpulse.vee import Context, Findings, Outcome, Profile, Rule, Settings
from meterpulse.vee.runs import collect, compiled, put


class Missing(Rule):
    """Evidence: intervals without a value in a gap, and how many a gap may have (0). Where a value is made of readings:
    the fewest that an interval of the span has, and how many it should have.

    An hour and more of single readings are reads of a longer interval, such as history from files, and not incomplete.

    Columns are UTC, so a local day of 23 or 25 hours has its own number of them and needs no care.
    """

    number = 7
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Spans of consecutive intervals that are missing or incomplete."""
        if profile.traits.kind is Kind.register:
            return Outcome.not_applicable(profile)  # an index may be read at any time
        judged = profile.first, profile.after
        table = collect(_gaps, profile.quality, *judged)
        if profile.readings is not None:
            an_hour = max(1, HOUR_MS // profile.step_ms)
            short = collect(_incomplete, profile.quality, profile.readings, profile.readings_expected, an_hour, *judged)
            table = np.concatenate([table, short])
        return Outcome(np.ones(len(profile), bool), Findings.of_table(7, table, settings.status))


@compiled
def _gaps(quality, first, after, table):  # type: ignore[no-untyped-def]
    k = 0
    for r in range(len(quality)):
        missing = 0
        for c in range(first, after):
            missing += quality[r, c] == -1
        if missing:
            begin = -1
            for c in range(first, after + 1):
                is_missing = c < after and quality[r, c] == -1
                if is_missing and begin < 0:
                    begin = c
                elif not is_missing and begin >= 0:
                    k = put(table, k, r, begin, c, c - begin, 0)
                    begin = -1
    return k


@compiled
def _incomplete(quality, readings, expected, an_hour, first, after, table):  # type: ignore[no-untyped-def]
    k = 0
    for r in range(len(quality)):
        fewer = 0
        for c in range(first, after):
            fewer += readings[r, c] < expected
        if fewer:
            begin, fewest = -1, expected
            for c in range(first, after + 1):
                is_short = c < after and quality[r, c] != -1 and readings[r, c] < expected
                if is_short and readings[r, c] == 1:
                    is_short = _singles_around(quality[r], readings[r], c, an_hour) < an_hour
                if is_short:
                    begin = c if begin < 0 else begin
                    fewest = min(fewest, readings[r, c])
                elif begin >= 0:
                    k = put(table, k, r, begin, c, fewest, expected)
                    begin, fewest = -1, expected
    return k


@compiled
def _singles_around(quality, readings, column, enough):  # type: ignore[no-untyped-def]
    """How many columns around this one have one reading without a break; counts no further than `enough`."""
    n, low, high = 1, column - 1, column + 1
    while n < enough and low >= 0 and quality[low] != -1 and readings[low] == 1:
        n, low = n + 1, low - 1
    while n < enough and high < len(readings) and quality[high] != -1 and readings[high] == 1:
        n, high = n + 1, high + 1
    return n
