"""E7: the value 364 days before, on the same day of the week (NEM12 method 23)."""

from __future__ import annotations

from meterpulse.model.quality import Quality
from meterpulse.vee import Estimator, Nothing
from meterpulse.vee.estimation import Filling, packed
from meterpulse.vee.gaps import Gaps, Known, sound_of


class PreviousYear(Estimator):
    """Last year's measured values, as they are."""

    def fill(self, known: Known, gaps: Gaps, settings: Nothing) -> Filling:
        """Wherever last year was measured."""
        before = known.support.last_year
        if before is None:
            return Filling.nothing(gaps)
        cells = gaps.cells()
        told = sound_of(before.quality)[cells]
        return Filling(before.quantity[cells], told, packed(Quality.REFERENCE_DAY, "S", 23))
