"""V19: a value that is already in the record gives way only to one that is as good, and a billed one never in silence."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Literal

import numpy as np
from pydantic import Field

from meterpulse.vee import Context, Decision, Findings, Outcome, Profile, Rule, Status
from meterpulse.vee.amounts import Amount, Factor, PerUtility
from meterpulse.vee.replacing import decide, rank_of
from meterpulse.vee.runs import compiled


class ReplaceSettings(PerUtility):
    """Between values that are as good, a change is taken up to the absolute amount of an interval, or up to `relative` of
    the old value, whichever is more.
    """

    absolute_electricity: Amount = "1 kWh"
    absolute_gas: Amount = "1 m3"
    absolute_water: Amount = "1 m3"
    relative: Factor = Field(Decimal("0.5"))
    severity: Literal["warn", "fail"] = "warn"


class Replace(Rule):
    """Evidence: the new value and the old one, in thousandths of the base unit; the decision says which one stands.

    Replacements that are in order are told too, as passed.
    """

    number = 19
    settings = ReplaceSettings
    after_grading = True

    def check(self, profile: Profile, context: Context, settings: ReplaceSettings) -> Outcome:
        """Single intervals that had another value before."""
        old = context.previous
        if old is None:
            return Outcome.not_applicable(profile)
        judged = profile.first, profile.after
        applies, changed = np.empty(len(profile), bool), np.empty(len(profile), bool)
        _compare(old.quantity, old.quality, profile.quantity, profile.quality, *judged, applies, changed)
        rows = np.flatnonzero(changed)
        if not len(rows):
            return Outcome(applies)
        absolute = settings.amount("absolute", profile.traits.utility, profile.traits.unit) or 0
        before, quality, now, graded, billed = (
            values[rows, slice(*judged)]
            for values in (old.quantity, old.quality, profile.quantity, profile.quality, old.billed)
        )
        decision = decide(before, quality, now, graded, billed, absolute, Fraction(settings.relative))
        had, has = rank_of(quality) > 0, rank_of(graded) > 0
        row, column = np.nonzero((decision != Decision.NONE) & had & has & (before != now))
        chosen, first = decision[row, column], column + profile.first
        status = np.where(chosen == Decision.REPLACE, Status.PASS, settings.status)
        found = Findings.of(19, rows[row], first, first + 1, status, now[row, column], before[row, column], chosen)
        return Outcome(applies, found)


@compiled
def _compare(old, old_quality, new, new_quality, first, after, applies, changed):  # type: ignore[no-untyped-def]
    """Which rows have two values for any interval, and which have two that differ: few, as a rule."""
    for r in range(len(new)):
        both = differ = 0
        for c in range(first, after):
            two = (old_quality[r, c] != -1) & (new_quality[r, c] != -1)
            both += two
            differ += two & (old[r, c] != new[r, c])
        applies[r], changed[r] = both > 0, differ > 0
