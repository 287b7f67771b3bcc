"""E4: days that went like this one, by what is known on both sides of the gap (NEM12 method 15).

Every reference day gets points for what sets it apart: how far away it is, another type of day, another weekday, and how
its hours around the gap differ from those of the gap's own day. 64 points halve its weight. The days with the fewest points then say two
things: their weighted mean says how much was used in the whole gap, and the quantile of their values, the same one in
every interval and such that the sum is that mean, says when. (A mean in every interval would spread each kettle over all the
times that it was ever on; the median would lose it.) Last, the ends are drawn towards the measured neighbours: half
a quarter of the difference is left with every step into the gap.

Everything is whole numbers in a fixed order, so the same readings give the same estimate on every machine.
docs/vee-quality.md has what each part is worth.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from meterpulse.model.quality import of_nem12
from meterpulse.model.window import HOUR_MS
from meterpulse.vee import Estimator
from meterpulse.vee.estimation import Filling
from meterpulse.vee.gaps import NO_DAY, Gaps, Known
from meterpulse.vee.likeness import weigh
from meterpulse.vee.mixture import blend

WHOLE_DAYS_MAX = 3  # a gap that touches more local days is estimated day by day


class SimilarDaySettings(BaseModel):
    """Points and reach; the defaults are from docs/vee-quality.md. The step of points is a 64th of a halving."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days_max: int = Field(30, ge=1, le=60)  # as many of the best
    days_min: int = Field(3, ge=1, le=60)  # fewer are no evidence
    within_days: int = Field(60, ge=1, le=400)
    half_life_days: int = Field(30, ge=1)  # so far away costs 64 points
    other_type: int = Field(64, ge=0)
    other_weekday: int = Field(37, ge=0)
    unlikeness: int = Field(1500, ge=0)  # for hours that differ by their whole level
    around_hours: int = Field(24, ge=0, le=168)  # that are compared on each side


class SimilarDay(Estimator):
    """Weighted reference days, chosen by their likeness around the gap."""

    settings = SimilarDaySettings

    def fill(self, known: Known, gaps: Gaps, settings: SimilarDaySettings) -> Filling:
        """Every gap that has enough reference days; long gaps a local day at a time."""
        pieces, gap = _pieces(known, gaps)
        slots, quantity = known.slots, known.profile.quantity
        around = settings.around_hours * HOUR_MS // known.profile.step_ms
        prices = (settings.half_life_days, settings.other_type, settings.other_weekday, settings.unlikeness, around)
        shift = np.zeros((len(pieces), settings.days_max), np.int64)
        weight = np.zeros_like(shift)
        weigh(
            quantity, known.sound, known.reference, known.day_type, slots.weekday(), slots.day_of, slots.slot_of,
            slots.column, pieces.row, pieces.first, pieces.after, settings.within_days, prices, shift, weight,
        )  # fmt: skip
        weight[(weight > 0).sum(axis=1) < settings.days_min] = 0
        value = np.zeros(pieces.offset[-1], np.int64)
        told = np.zeros(pieces.offset[-1], bool)
        blend(
            quantity, known.sound, slots.day_of, slots.slot_of, slots.column, pieces.row, pieces.first, pieces.after,
            pieces.offset, shift, weight, value, told,
        )  # fmt: skip
        return Filling(value, told, of_nem12("S", 15), _days(known, pieces, gap, shift, weight))


def _pieces(known: Known, gaps: Gaps) -> tuple[Gaps, np.ndarray]:
    """Gaps, long ones cut where local days begin, and int64[pieces], which gap each is of."""
    day_of = known.slots.day_of
    cuts: list[tuple[int, int, int, int]] = []
    for g, (row, first, after) in enumerate(zip(gaps.row, gaps.first, gaps.after, strict=True)):
        edges = [first, after]
        if day_of[after - 1] - day_of[first] >= WHOLE_DAYS_MAX:
            edges = [first, *(np.flatnonzero(np.diff(day_of[first:after])) + first + 1), after]
        cuts += [(row, a, b, g) for a, b in zip(edges, edges[1:], strict=False)]
    table = np.array(cuts, np.int64).reshape(-1, 4)
    return Gaps(table[:, 0], table[:, 1], table[:, 2]), table[:, 3]


def _days(known: Known, pieces: Gaps, gap: np.ndarray, shift: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """int32[gaps, e]: the reference days of each gap, heaviest first, as seen from the first day of each piece."""
    day = known.slots.day[known.slots.day_of[pieces.first]][:, None] + shift
    day = np.where(weight > 0, day, NO_DAY).astype(np.int32)
    place = np.arange(len(gap)) - np.searchsorted(gap, gap)
    out = np.full((int(gap[-1]) + 1, int(place.max()) + 1, day.shape[1]), NO_DAY, np.int32)
    out[gap, place] = day
    return out.reshape(len(out), -1)
