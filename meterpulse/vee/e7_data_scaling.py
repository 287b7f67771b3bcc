"""E7: last year's shape at this year's level (NEM12 method 24)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from meterpulse.model.quality import Quality
from meterpulse.model.window import DAY_MS
from meterpulse.vee import Estimator
from meterpulse.vee.estimation import Filling, packed
from meterpulse.vee.gaps import Gaps, Known, sound_of
from meterpulse.vee.ratios import at_own_level


class DataScalingSettings(BaseModel):
    """The level is that of `days` days on either side; at least a seventh of them must be known in both years."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int = Field(28, ge=1, le=400)


class DataScaling(Estimator):
    """Value of 364 days before, times what the days around the gap use now against what they used then."""

    settings = DataScalingSettings

    def fill(self, known: Known, gaps: Gaps, settings: DataScalingSettings) -> Filling:
        """Wherever last year was measured and the level can be told."""
        before = known.support.last_year
        if before is None:
            return Filling.nothing(gaps)
        a_day = max(1, DAY_MS // known.profile.step_ms)
        reach, enough = settings.days * a_day, max(1, 2 * settings.days * a_day // 7)
        quality = packed(Quality.REFERENCE_DAY, "S", 24)
        return at_own_level(known, gaps, before.quantity, sound_of(before.quality), quality, reach, enough)
