"""V18: a channel that has been estimated for long wants somebody to go there."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from meterpulse.model.window import DAY_MS
from meterpulse.vee import UNKNOWN, Context, Findings, Outcome, Profile, Rule, Settings


class ProlongedSettings(Settings):
    """From how many days of estimates on it is told."""

    days: int = Field(14, ge=1, le=3650)


class Prolonged(Rule):
    """Evidence: days that have been estimated, and from how many on it is told."""

    number = 18
    settings = ProlongedSettings

    def check(self, profile: Profile, context: Context, settings: ProlongedSettings) -> Outcome:
        """Channels that are still estimated at the end of what is judged: all judged intervals."""
        since = context.estimated_since
        if since is None:
            return Outcome.not_applicable(profile)
        end_ms = profile.start_ms + profile.after * profile.step_ms
        row = np.flatnonzero((since != UNKNOWN) & (since <= end_ms - settings.days * DAY_MS))
        days = (end_ms - since[row]) // DAY_MS
        found = Findings.of(18, row, profile.first, profile.after, settings.status, days, settings.days)
        return Outcome(np.ones(len(profile), bool), found)
