"""V04: a message's multiplier (of its current and voltage transformers) is the registered one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from meterpulse.vee import Context, Findings, Outcome, Profile, Rule, Settings


class MultiplierIsRegistered(Rule):
    """Evidence: the multiplier of the message and the registered one, in millionths, rounded down."""

    number = 4
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Channels whose messages have another multiplier: all judged intervals."""
        if context.multiplier is None:
            return Outcome.not_applicable(profile)
        top, bottom = context.multiplier[:, 0], context.multiplier[:, 1]
        applies, own = bottom != 0, profile.traits.multiplier
        # Few distinct multipliers: each is compared once, exactly, as a fraction.
        pairs, which = np.unique(context.multiplier, axis=0, return_inverse=True)
        differs = np.array([bool(b) and Fraction(int(t), int(b)) != own for t, b in pairs], bool)
        row = np.flatnonzero(differs[which.reshape(-1)]) if len(pairs) else np.empty(0, np.int64)
        measured = np.array([int(top[r]) * 10**6 // int(bottom[r]) for r in row], np.int64)
        limit = int(own * 10**6)
        return Outcome(applies, Findings.of(4, row, profile.first, profile.after, settings.status, measured, limit))
