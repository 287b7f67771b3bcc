"""E8: zero (NEM12 method 19). Off unless it is asked for: what is not known is not zero."""

from __future__ import annotations

import numpy as np

from meterpulse.model.quality import Quality
from meterpulse.vee import Estimator, Nothing
from meterpulse.vee.estimation import Filling, packed
from meterpulse.vee.gaps import Gaps, Known


class Zero(Estimator):
    """For channels that are known to use nothing, and whose register will say so; always tells."""

    def fill(self, known: Known, gaps: Gaps, settings: Nothing) -> Filling:
        """Every column."""
        cells = int(gaps.length.sum())
        return Filling(np.zeros(cells, np.int64), np.ones(cells, bool), packed(Quality.FORECAST, "S", 19))
