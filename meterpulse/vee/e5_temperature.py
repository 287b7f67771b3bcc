"""E5: the mean of the days whose weather was most alike: temperature proxy days."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from meterpulse.model.quality import Quality
from meterpulse.vee import UNKNOWN, Estimator
from meterpulse.vee.days import NEVER, apart, means, same_type
from meterpulse.vee.estimation import Filling, packed
from meterpulse.vee.gaps import Gaps, Known


class TemperatureSettings(BaseModel):
    """How many days, from how far on either side, and by how many thousandths of a degree they may differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int = Field(3, ge=1, le=60)
    within_days: int = Field(60, ge=1, le=400)
    differ_max: int = Field(3_000, ge=0)


class Temperature(Estimator):
    """Days of the same type by how little their mean temperature differs, the nearer day first among equals."""

    settings = TemperatureSettings

    def fill(self, known: Known, gaps: Gaps, settings: TemperatureSettings) -> Filling:
        """Each local day of a gap by itself; nothing where the day's temperature is not known."""
        temperature = known.support.temperature
        if temperature is None:
            return Filling.nothing(gaps)
        told = temperature != UNKNOWN
        degrees = np.where(told, temperature, 0)
        differs = np.abs(degrees[:, None] - degrees[None, :])
        fits = same_type(known) & told[:, None] & told[None, :] & (differs <= settings.differ_max)
        rank = np.where(fits, differs * 1_000 + apart(known), NEVER)
        quality = packed(Quality.WEATHER, "S", 24)
        return means(known, gaps, rank, settings.days, quality, settings.within_days)
