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
        judged = slice(profile.first, profile.after)
        absolute = settings.amount("absolute", profile.traits.utility, profile.traits.unit) or 0
        before, quality = old.quantity[:, judged], old.quality[:, judged]
        now, graded = profile.quantity[:, judged], profile.quality[:, judged]
        decision = decide(before, quality, now, graded, old.billed[:, judged], absolute, Fraction(settings.relative))
        had, has = rank_of(quality) > 0, rank_of(graded) > 0
        row, column = np.nonzero((decision != Decision.NONE) & had & has & (before != now))
        chosen, first = decision[row, column], column + profile.first
        status = np.where(chosen == Decision.REPLACE, Status.PASS, settings.status)
        found = Findings.of(19, row, first, first + 1, status, now[row, column], before[row, column], chosen)
        return Outcome.where(had & has, found)
