"""V15: a meter that says the same number all day is stuck."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from meterpulse.model.channel import Kind
from meterpulse.model.window import MINUTE_MS
from meterpulse.vee import Context, Findings, Outcome, Profile, Rule, Settings
from meterpulse.vee.runs import any_known, collect, compiled, put


class FlatlineSettings(Settings):
    """From how many hours of the same value on it is told."""

    hours: int = Field(24, ge=1, le=24 * 366)


class Flatline(Rule):
    """Evidence: minutes with the same value, and from how many on it is told. Zeros and gaps are not a flat line."""

    number = 15
    settings = FlatlineSettings

    def check(self, profile: Profile, context: Context, settings: FlatlineSettings) -> Outcome:
        """Runs that reach into the judged intervals; they may begin in the known ones before."""
        minutes = profile.step_ms // MINUTE_MS
        needed = -(-settings.hours * 60 // minutes)
        if profile.traits.kind is Kind.register or profile.quantity.shape[1] < needed or needed < 2:
            return Outcome.not_applicable(profile)
        judged = profile.first, profile.after
        table = collect(_flat, profile.quantity, profile.quality, *judged, needed, minutes)
        applies = any_known(profile.quality, *judged, np.empty(len(profile), bool))
        return Outcome(applies, Findings.of_table(15, table, settings.status))


@compiled
def _flat(quantity, quality, first, after, needed, minutes, table):  # type: ignore[no-untyped-def]
    k, columns = 0, quantity.shape[1]
    for r in range(len(quantity)):
        same = 0
        for c in range(1, columns):
            same += (quantity[r, c] == quantity[r, c - 1]) & (quantity[r, c] != 0)
        if same < needed - 1:
            continue
        begin = 0
        for c in range(1, columns + 1):
            ends = (
                c == columns or quantity[r, c] != quantity[r, begin] or quality[r, c] == -1 or quality[r, begin] == -1
            )
            if ends:
                length = c - begin
                told = length >= needed and quantity[r, begin] != 0 and quality[r, begin] != -1
                if told and c > first and begin < after:
                    k = put(table, k, r, begin, c, length * minutes, needed * minutes)
                begin = c
    return k
