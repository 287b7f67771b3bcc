"""Settings that are amounts or factors: written as people write them, used as exact integers.

>>> thousandths("0.5 kWh"), floor_times(np.array([7]), Decimal("0.25")).tolist()
(500000, [1])
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from meterpulse.model.channel import Utility
from meterpulse.model.quantity import Unit, to_thousandths, unit_of
from meterpulse.vee import Settings

_INT64_MAX = 2**63 - 1


def parsed(text: str) -> tuple[int, Unit]:
    """Thousandths of the base unit, and the unit, of `0.5 kWh`; raises ValueError."""
    number, _, unit = text.strip().partition(" ")
    try:
        value = Decimal(number)
    except ArithmeticError:
        raise ValueError(f"takes a number and a unit such as 0.5 kWh, not {text[:40]!r}") from None
    if not unit or not value.is_finite() or value < 0:
        raise ValueError(f"takes a number from 0 on and a unit such as 0.5 kWh, not {text[:40]!r}")
    return to_thousandths(value, unit_of(unit)), unit_of(unit)


def thousandths(text: str) -> int:
    """Thousandths of the base unit of `0.5 kWh`."""
    return parsed(text)[0]


def _checked(text: str) -> str:
    parsed(text)
    return text


Amount = Annotated[str, AfterValidator(_checked)]
Factor = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=6)]


class PerUtility(Settings):
    """Settings with an amount for each utility, named `<name>_electricity`, `<name>_gas` and `<name>_water`."""

    def amount(self, name: str, utility: Utility, unit: Unit) -> int | None:
        """Thousandths of the base unit; None where it measures something else than `unit` does (gas in kWh)."""
        value, own = parsed(getattr(self, f"{name}_{utility.name}"))
        return value if own.dimension == unit.dimension else None


def floor_times(values: np.ndarray, factor: Decimal | Fraction) -> np.ndarray:
    """int64: floor(value * factor), exact, at most what 64 bits hold. Values are not negative.

    A whole number is more than value * factor exactly when it is more than this.
    """
    ratio = Fraction(factor)
    top, bottom = ratio.numerator, ratio.denominator
    largest = int(values.max(initial=0))
    if largest // bottom * top + top < _INT64_MAX and bottom * top < _INT64_MAX:
        return values // bottom * top + values % bottom * top // bottom
    return np.array([min(int(v) * top // bottom, _INT64_MAX) for v in values.ravel()], np.int64).reshape(values.shape)
