"""V03: a value says that it covers the channel's interval."""

from __future__ import annotations

import numpy as np

from meterpulse.model.channel import Kind
from meterpulse.vee import MISSING, Context, Findings, Outcome, Profile, Rule, Settings


class IntervalIsRegistered(Rule):
    """Evidence: seconds of the value, and of the channel."""

    number = 3
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Single intervals of another length."""
        if context.seconds is None or profile.traits.kind is not Kind.interval:
            return Outcome.not_applicable(profile)
        judged, own = slice(profile.first, profile.after), profile.traits.interval_seconds
        seconds, known = context.seconds[:, judged], profile.quality[:, judged] != MISSING
        row, column = np.nonzero((seconds != own) & known)
        first = column + profile.first
        found = Findings.of(3, row, first, first + 1, settings.status, seconds[row, column], own)
        return Outcome.where(known, found)
