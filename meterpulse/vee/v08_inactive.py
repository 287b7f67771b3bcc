"""V08: nothing is used where nothing is connected."""

from __future__ import annotations

import numpy as np

from meterpulse.model.channel import Kind
from meterpulse.vee import Context, Findings, Outcome, Profile, Rule, Settings
from meterpulse.vee.runs import collect, compiled, put


class InactiveUse(Rule):
    """Evidence: what was used meanwhile, and what may be (0), in thousandths of the base unit."""

    number = 8
    needs_history = False

    def check(self, profile: Profile, context: Context, settings: Settings) -> Outcome:
        """Runs of intervals with use while the usage point is disconnected, or its meter not installed."""
        if context.inactive is None or profile.traits.kind is not Kind.interval:
            return Outcome.not_applicable(profile)
        spans = context.inactive
        table = collect(
            _used, profile.quantity, profile.quality, profile.first, profile.after, spans.row, spans.first, spans.after
        )
        return Outcome(np.ones(len(profile), bool), Findings.of_table(8, table, settings.status))


@compiled
def _used(quantity, quality, first, after, rows, lows, highs, table):  # type: ignore[no-untyped-def]
    k = 0
    for s in range(len(rows)):
        r, low, high = rows[s], max(first, lows[s]), min(after, highs[s])
        begin, total = -1, 0
        for c in range(low, high + 1):
            if c < high and quality[r, c] != -1 and quantity[r, c] > 0:
                begin = c if begin < 0 else begin
                total += quantity[r, c]
            elif begin >= 0:
                k = put(table, k, r, begin, c, total, 0)
                begin, total = -1, 0
    return k
