"""V01: a value delivered again is dropped; another value for the same time is told, and V19 says which one stands."""

from __future__ import annotations

from typing import Literal

import numpy as np

from meterpulse.vee import MISSING, Context, Findings, Outcome, Profile, Rule, Settings


class DuplicateSettings(Settings):
    """A revision is in order, so a finding is a warning."""

    severity: Literal["warn", "fail"] = "warn"


class Duplicate(Rule):
    """Evidence: deliveries with another value than the one that stands, and how many there may be (0)."""

    number = 1
    settings = DuplicateSettings
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Single intervals that were told differently more than once."""
        if context.repeats is None:
            return Outcome.not_applicable(profile)
        judged = slice(profile.first, profile.after)
        repeats, known = context.repeats[:, judged], profile.quality[:, judged] != MISSING
        row, column = np.nonzero((repeats > 0) & known)
        first = column + profile.first
        found = Findings.of(1, row, first, first + 1, settings.status, repeats[row, column], 0)
        return Outcome.where(known, found)
