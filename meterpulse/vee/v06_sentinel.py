"""V06: a number of all ones is what a meter says when it has nothing to say: no value."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from meterpulse.vee import Context, Findings, Outcome, Profile, Rule, Settings
from meterpulse.vee.runs import any_known, collect, compiled, put
from meterpulse.vee.sentinels import patterns_of


class SentinelSettings(Settings):
    """Widths in bits of the meters' numbers. A pattern counts in the channel's unit and in thousandths of the base
    unit; the narrow ones, which are ordinary amounts in thousandths, only in the channel's unit.
    """

    bits: tuple[int, ...] = Field((16, 24, 32, 40, 48), min_length=1)


class Sentinel(Rule):
    """Evidence: the value, and the pattern, in thousandths of the base unit."""

    number = 6
    settings = SentinelSettings
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: SentinelSettings) -> Outcome:
        """Single intervals. A sum of many readings cannot show a pattern: there it is caught on arrival."""
        if profile.readings is not None and profile.readings_expected > 1:
            return Outcome.not_applicable(profile)
        patterns = patterns_of(profile.traits.unit, settings.bits)
        judged = profile.first, profile.after
        table = collect(_all_ones, profile.quantity, profile.quality, *judged, patterns)
        applies = any_known(profile.quality, *judged, np.empty(len(profile), bool))
        return Outcome(applies, Findings.of_table(6, table, settings.status))


@compiled
def _all_ones(quantity, quality, first, after, patterns, table):  # type: ignore[no-untyped-def]
    k, least = 0, patterns[0]
    for r in range(len(quantity)):
        large = 0
        for c in range(first, after):
            large += quantity[r, c] >= least
        if large:
            for c in range(first, after):
                if quantity[r, c] >= least and quality[r, c] != -1:
                    for pattern in patterns:
                        if quantity[r, c] == pattern:
                            k = put(table, k, r, c, c + 1, pattern, pattern)
    return k
