"""V14: what is delivered is not negative. Energy that flows back has a channel of its own."""

from __future__ import annotations

import numpy as np

from meterpulse.model.channel import Direction, Kind
from meterpulse.vee import Context, Findings, Outcome, Profile, Rule, Settings
from meterpulse.vee.runs import any_known, collect, outside


class Negative(Rule):
    """Evidence: the quantity, and the least that is allowed (0), in thousandths of the base unit."""

    number = 14

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Single intervals below zero."""
        if profile.traits.kind is not Kind.interval or profile.traits.direction is not Direction.delivered:
            return Outcome.not_applicable(profile)
        n, judged = len(profile), (profile.first, profile.after)
        bounds = np.zeros(n, np.int64), np.full(n, 2**63 - 1, np.int64)
        table = collect(outside, profile.quantity, profile.quality, *judged, *bounds)
        applies = any_known(profile.quality, *judged, np.empty(n, bool))
        return Outcome(applies, Findings.of_table(14, table, settings.status))
