"""E4: the mean of the nearest days of the same type, at the same time of day (NEM12 methods 14 and 15)."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from meterpulse.model.quality import of_nem12
from meterpulse.vee import Estimator
from meterpulse.vee.days import NEVER, apart, means, same_type
from meterpulse.vee.estimation import Filling
from meterpulse.vee.gaps import Gaps, Known


class ReferenceDaySettings(BaseModel):
    """How many days, from how far on either side. One day is NEM12's like day, more are its average like day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int = Field(3, ge=1, le=60)
    within_days: int = Field(60, ge=1, le=400)


class ReferenceDay(Estimator):
    """Types are Monday to Friday, Saturday, and Sunday with holidays; a holiday is never a reference itself."""

    settings = ReferenceDaySettings

    def fill(self, known: Known, gaps: Gaps, settings: ReferenceDaySettings) -> Filling:
        """Each local day of a gap by itself."""
        rank = np.where(same_type(known), apart(known), NEVER)
        quality = of_nem12("S", 14 if settings.days == 1 else 15)
        return means(known, gaps, rank, settings.days, quality, settings.within_days)
