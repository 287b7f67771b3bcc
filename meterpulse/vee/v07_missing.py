"""V07: every interval of the calendar has a value, and a value that is made of many readings has all of them."""

from __future__ import annotations

import numpy as np

from meterpulse.model.channel import Kind
from meterpulse.vee import MISSING, Context, Findings, Outcome, Profile, Rule, Settings
from meterpulse.vee.runs import runs_of


class Missing(Rule):
    """Evidence: intervals without a value in a gap, and how many a gap may have (0). Where a value is made of readings:
    the fewest that an interval of the span has, and how many it should have.

    Columns are UTC, so a local day of 23 or 25 hours has its own number of them and needs no care.
    """

    number = 7
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Spans of consecutive intervals that are missing or incomplete."""
        if profile.traits.kind is Kind.register:
            return Outcome.not_applicable(profile)  # an index may be read at any time
        first, after = profile.first, profile.after
        known = profile.quality[:, first:after] != MISSING
        row, low, high = runs_of(~known)
        found = [Findings.of(7, row, low + first, high + first, settings.severity, high - low, 0)]
        if profile.readings is not None:
            readings, wanted = profile.readings[:, first:after], profile.readings_expected
            row, low, high = runs_of(known & (readings < wanted))
            fewest = [readings[r, a:b].min() for r, a, b in zip(row, low, high, strict=True)]
            found.append(
                Findings.of(7, row, low + first, high + first, settings.severity, np.array(fewest, np.int64), wanted)
            )
        return Outcome(np.ones(len(profile), bool), Findings.concat(found))
