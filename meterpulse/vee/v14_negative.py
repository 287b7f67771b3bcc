"""V14: what is delivered is not negative. Energy that flows back has a channel of its own."""

from __future__ import annotations

import numpy as np

from meterpulse.model.channel import Direction, Kind
from meterpulse.vee import MISSING, Context, Findings, Outcome, Profile, Rule, Settings


class Negative(Rule):
    """Evidence: the quantity, and the least that is allowed (0), in thousandths of the base unit."""

    number = 14

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Single intervals below zero."""
        if profile.traits.kind is not Kind.interval or profile.traits.direction is not Direction.delivered:
            return Outcome.not_applicable(profile)
        first = profile.first
        quantity = profile.quantity[:, first : profile.after]
        row, column = np.nonzero((quantity < 0) & (profile.quality[:, first : profile.after] != MISSING))
        column = column + first
        found = Findings.of(14, row, column, column + 1, settings.severity, profile.quantity[row, column], 0)
        return Outcome((profile.quality[:, first : profile.after] != MISSING).any(axis=1), found)
