"""E1: while supply was off nothing was used. That zero is a fact, never an estimate, and no register changes it."""

from __future__ import annotations

import numpy as np

from meterpulse.model.quality import Quality
from meterpulse.vee import Estimator, Nothing
from meterpulse.vee.estimation import Filling
from meterpulse.vee.gaps import Gaps, Known, covered


class Outage(Estimator):
    """Zero in confirmed outages, graded as validated (California's rule: outage intervals are actual data)."""

    def fill(self, known: Known, gaps: Gaps, settings: Nothing) -> Filling:
        """Zero where the whole interval lies in an outage."""
        off = covered(known.context.outages, known.profile)[gaps.cells()]
        return Filling(np.zeros(len(off), np.int64), off, int(Quality.VALIDATED))
