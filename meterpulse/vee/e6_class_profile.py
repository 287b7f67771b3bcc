"""E6: the load profile of the customer's class, at the customer's level (NEM12 method 57)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from meterpulse.model.quality import Quality
from meterpulse.model.window import DAY_MS
from meterpulse.vee import UNKNOWN, Estimator
from meterpulse.vee.estimation import Filling, packed
from meterpulse.vee.gaps import Gaps, Known
from meterpulse.vee.ratios import at_own_level


class ClassProfileSettings(BaseModel):
    """The customer's level is that of `days` days on either side; a single known day is enough."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int = Field(28, ge=1, le=400)


class ClassProfile(Estimator):
    """What all of the class used then, times the customer's share in it."""

    settings = ClassProfileSettings

    def fill(self, known: Known, gaps: Gaps, settings: ClassProfileSettings) -> Filling:
        """Wherever the class is known and the customer's share can be told."""
        profile = known.support.class_profile
        if profile is None:
            return Filling.nothing(gaps)
        a_day = max(1, DAY_MS // known.profile.step_ms)
        quality = packed(Quality.FORECAST, "S", 57)
        return at_own_level(
            known, gaps, profile[None, :], (profile != UNKNOWN)[None, :], quality, settings.days * a_day, a_day
        )
