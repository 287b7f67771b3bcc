"""E2: what a check meter, or another meter at the same usage point, has measured instead (NEM12 method 11)."""

from __future__ import annotations

from meterpulse.model.quality import of_nem12
from meterpulse.vee import MISSING, Estimator, Nothing
from meterpulse.vee.estimation import Filling
from meterpulse.vee.gaps import Gaps, Known


class CheckMeter(Estimator):
    """The check meter's values, as they are. They are measurements, so no register scales them."""

    def fill(self, known: Known, gaps: Gaps, settings: Nothing) -> Filling:
        """Wherever the check meter has a value."""
        check = known.support.check
        if check is None:
            return Filling.nothing(gaps)
        cells = gaps.cells()
        return Filling(check.quantity[cells], check.quality[cells] != MISSING, of_nem12("S", 11))
