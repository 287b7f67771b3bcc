"""V09: nobody can use more than the service can carry."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np

from meterpulse.model.channel import Kind
from meterpulse.model.window import HOUR_MS
from meterpulse.vee import UNKNOWN, Context, Findings, Outcome, Profile, Rule, Settings
from meterpulse.vee.amounts import Amount, Factor, floor_times, parsed
from meterpulse.vee.runs import any_known, collect, outside


class MaximumSettings(Settings):
    """`margin` is how many times its rating a service may be seen to carry. The amounts are what an hour can take of a
    service whose own rating is not known: 200 A at 240 V, a G6 gas meter, a water meter with Q4 = 5 m3/h; businesses more.
    """

    margin: Factor = Decimal("1.1")
    household_electricity: Amount = "48 kWh"
    household_gas: Amount = "10 m3"
    household_water: Amount = "5 m3"
    business_electricity: Amount = "2000 kWh"
    business_gas: Amount = "650 m3"
    business_water: Amount = "100 m3"


class Maximum(Rule):
    """Evidence: the value, and rating x hours x margin, in thousandths of the base unit."""

    number = 9
    settings = MaximumSettings

    def check(self, profile: Profile, context: Context, settings: MaximumSettings) -> Outcome:
        """Single intervals."""
        rating = self._rating(profile, context, settings)
        if rating is None:
            return Outcome.not_applicable(profile)
        hours = Fraction(profile.step_ms, HOUR_MS) if profile.traits.kind is Kind.interval else Fraction(1)
        known = rating != UNKNOWN
        limit = np.full(len(profile), 2**63 - 1, np.int64)
        limit[known] = floor_times(rating[known], Fraction(settings.margin) * hours)
        low = np.full(len(profile), -(2**63), np.int64)
        judged = profile.first, profile.after
        table = collect(outside, profile.quantity, profile.quality, *judged, low, limit)
        applies = any_known(profile.quality, *judged, np.empty(len(profile), bool)) & known
        return Outcome(applies, Findings.of_table(9, table, settings.status))

    def _rating(self, profile: Profile, context: Context, settings: MaximumSettings) -> np.ndarray | None:
        """int64[n], thousandths that an hour can take (of a power gauge: that it can show); None: not known at all."""
        traits = profile.traits
        if traits.kind is Kind.register or (traits.kind is Kind.gauge and traits.unit.dimension != "power"):
            return None
        usual, unit = parsed(getattr(settings, f"{traits.klass.name}_{traits.utility.name}"))
        # A kilowatt is what uses a kilowatt-hour in an hour, and in thousandths both are the same number.
        comparable = unit.dimension == traits.unit.dimension or traits.unit.dimension == "power"
        fallback = np.full(len(profile), usual if comparable else UNKNOWN, np.int64)
        if context.rating is None:
            return fallback if comparable else None
        return np.where(context.rating == UNKNOWN, fallback, context.rating)
