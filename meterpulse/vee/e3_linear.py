"""E3: a straight line between the values on both sides of a short gap (NEM12 method 17)."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from meterpulse.model.quality import of_nem12
from meterpulse.vee import Estimator
from meterpulse.vee.estimation import Filling
from meterpulse.vee.gaps import Gaps, Known
from meterpulse.vee.runs import compiled


class LinearSettings(BaseModel):
    """A gap may last `minutes_max`; California allows 2 hours, Ontario's IESO 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes_max: int = Field(120, ge=1)


class Linear(Estimator):
    """Value i of n is (before * (n + 1 - i) + behind * i) / (n + 1), a half rounded up."""

    settings = LinearSettings

    def fill(self, known: Known, gaps: Gaps, settings: LinearSettings) -> Filling:
        """Short gaps whose neighbours on both sides were measured while supply was on."""
        sound = np.pad(known.sound, ((0, 0), (1, 1)))
        short = gaps.length * known.profile.step_ms <= settings.minutes_max * 60_000
        fits = short & sound[gaps.row, gaps.first] & sound[gaps.row, gaps.after + 1]
        value = np.zeros(gaps.offset[-1], np.int64)
        _line(known.profile.quantity, gaps.row, gaps.first, gaps.after, fits, gaps.offset, value)
        return Filling(value, np.repeat(fits, gaps.length), of_nem12("S", 17))


@compiled
def _line(quantity, row, first, after, fits, offset, value):  # type: ignore[no-untyped-def]
    for g in range(len(row)):
        if not fits[g]:
            continue
        steps = after[g] - first[g] + 1
        before, behind = quantity[row[g], first[g] - 1], quantity[row[g], after[g]]
        for i in range(1, steps):
            value[offset[g] + i - 1] = before + (2 * (behind - before) * i + steps) // (2 * steps)
