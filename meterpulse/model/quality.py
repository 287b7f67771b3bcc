"""How good a value is. The codes are ESPI's (Green Button `QualityOfReading`), so they go out unchanged; NEM12 flags map one to one."""

from __future__ import annotations

from enum import IntEnum


class Quality(IntEnum):
    """ESPI QualityOfReading codes (NAESB REQ.21)."""

    VALID = 0
    EDITED = 7
    REFERENCE_DAY = 8
    LINEAR = 9
    QUESTIONABLE = 10
    DERIVED = 11
    FORECAST = 12
    RAW = 14
    VALIDATED = 17
    VERIFIED = 18
    REVENUE = 19

    @property
    def word(self) -> str:
        """The word shown to people."""
        return self.name.lower().replace("_", " ")
