"""E7: the average daily load, whatever the type of day (NEM12 method 25): when nothing says which days are alike."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from meterpulse.model.quality import Quality
from meterpulse.vee import Estimator
from meterpulse.vee.days import apart, means
from meterpulse.vee.estimation import Filling, packed
from meterpulse.vee.gaps import Gaps, Known


class AverageDaySettings(BaseModel):
    """How many days, from how far on either side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int = Field(1, ge=1, le=60)
    within_days: int = Field(60, ge=1, le=400)


class AverageDay(Estimator):
    """The mean of the nearest days of any type, at the same time of day; one day is enough."""

    settings = AverageDaySettings

    def fill(self, known: Known, gaps: Gaps, settings: AverageDaySettings) -> Filling:
        """Each local day of a gap by itself."""
        quality = packed(Quality.REFERENCE_DAY, "S", 25)
        return means(known, gaps, apart(known), settings.days, quality, settings.within_days)
