"""V02: a message's unit is the channel's. (What cannot be converted at all is refused on arrival.)"""

from __future__ import annotations

import numpy as np

from meterpulse.vee import NOT_TOLD, Context, Findings, Outcome, Profile, Rule, Settings


class UnitIsRegistered(Rule):
    """Evidence: the code of the unit in the message, and of the registered one (model/quantity.py)."""

    number = 2
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Channels whose messages have another unit: all judged intervals."""
        if context.unit is None:
            return Outcome.not_applicable(profile)
        own, told = profile.traits.unit.code, context.unit
        applies = told != NOT_TOLD
        row = np.flatnonzero(applies & (told != own))
        return Outcome(
            applies, Findings.of(2, row, profile.first, profile.after, settings.status, told[row].astype(np.int64), own)
        )
