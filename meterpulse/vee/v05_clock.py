"""V05: a device's clock agrees with ours: a small drift is told, a value from the future is not believed."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from meterpulse.model.window import SECOND_MS
from meterpulse.vee import MISSING, UNKNOWN, Context, Findings, Outcome, Profile, Rule, Settings, Status


class ClockSettings(Settings):
    """Drift either way is a warning beyond `drift_seconds`; ahead by more than `ahead_seconds` is a failure.

    On arrival such a reading is quarantined, with the reason `future`.
    """

    drift_seconds: int = Field(180, ge=1, le=86_400)
    ahead_seconds: int = Field(300, ge=1, le=86_400)


class Clock(Rule):
    """Evidence: milliseconds ahead of our clock (behind it: below zero), and the limit that is passed."""

    number = 5
    settings = ClockSettings
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: ClockSettings) -> Outcome:
        """Single intervals."""
        if context.clock_ms is None:
            return Outcome.not_applicable(profile)
        judged = slice(profile.first, profile.after)
        ahead = context.clock_ms[:, judged]
        known = (ahead != UNKNOWN) & (profile.quality[:, judged] != MISSING)
        drift_ms, ahead_ms = settings.drift_seconds * SECOND_MS, settings.ahead_seconds * SECOND_MS
        row, column = np.nonzero(known & ((ahead > min(drift_ms, ahead_ms)) | (ahead < -drift_ms)))
        measured = ahead[row, column]
        early = measured > ahead_ms
        first = column + profile.first
        status = np.where(early, settings.status, Status.WARN)
        limit = np.where(early, ahead_ms, np.where(measured > 0, drift_ms, -drift_ms))
        return Outcome.where(known, Findings.of(5, row, first, first + 1, status, measured, limit))
