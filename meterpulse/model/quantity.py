"""Quantities are int64 thousandths of the base unit of their dimension: mWh, mL, mV, mW, mA.

Integers make sums exact and independent of order, so every engine can be compared for equality. Conversion happens once,
on arrival, in exact rational arithmetic, rounded half to even.

>>> to_thousandths(Decimal("0.125"), unit_of("kWh"))
125000
>>> decimal_text(125000, unit_of("kWh"))
'0.125'
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

# No reading is larger: 100 GWh, or a tenth of a cubic kilometre. So a channel's day of 5-second readings adds up in 64 bits,
# and a city's sums have room for ninety thousand of the largest.
QUANTITY_MAX = 10**14


class UnknownUnit(ValueError):
    """No such unit; the message lists the ones there are."""


class OutOfRange(ValueError):
    """The quantity is larger than QUANTITY_MAX."""


@dataclass(frozen=True, slots=True)
class Unit:
    """`scale` is how many thousandths of the base unit one of this unit is; `places` the decimals that an exact answer needs."""

    name: str
    code: int
    dimension: str
    scale: Fraction

    @property
    def places(self) -> int:
        """Decimals after which an answer is cut: exact for units of ten, 9 for the others (gal, ft3)."""
        digits = len(str(self.scale)) - 1
        return digits if self.scale == 10**digits else 9


_US_GALLON = Fraction("3785.411784")  # mL: 231 cubic inches of 25.4 mm (NIST SP 811)
_CUBIC_FOOT = Fraction("28316.846592")  # mL: (304.8 mm)^3
_THERM = Fraction(105_480_400 * 1_000, 3_600)  # mWh: the U.S. therm of 105.4804 MJ (NIST SP 811)

_SCALES: tuple[tuple[str, str, Fraction], ...] = (
    ("kWh", "energy", Fraction(10**6)),
    ("Wh", "energy", Fraction(10**3)),
    ("MWh", "energy", Fraction(10**9)),
    ("kvarh", "reactive energy", Fraction(10**6)),
    ("varh", "reactive energy", Fraction(10**3)),
    ("kVAh", "apparent energy", Fraction(10**6)),
    ("m3", "volume", Fraction(10**6)),
    ("L", "volume", Fraction(10**3)),
    ("gal", "volume", _US_GALLON),
    ("ft3", "volume", _CUBIC_FOOT),
    ("ccf", "volume", _CUBIC_FOOT * 100),
    ("W", "power", Fraction(10**3)),
    ("kW", "power", Fraction(10**6)),
    ("V", "voltage", Fraction(10**3)),
    ("A", "current", Fraction(10**3)),
    ("therm", "energy", _THERM),
    ("VAh", "apparent energy", Fraction(10**3)),
    ("var", "reactive power", Fraction(10**3)),
    ("kvar", "reactive power", Fraction(10**6)),
    ("VA", "apparent power", Fraction(10**3)),
    ("kVA", "apparent power", Fraction(10**6)),
)
UNITS: dict[str, Unit] = {
    name: Unit(name, code, dimension, scale) for code, (name, dimension, scale) in enumerate(_SCALES)
}
BY_CODE: tuple[Unit, ...] = tuple(UNITS.values())
_ALIASES = {name.lower(): unit for name, unit in UNITS.items()} | {
    "m³": UNITS["m3"],
    "ft³": UNITS["ft3"],
    "liter": UNITS["L"],
    "litre": UNITS["L"],
    "gallon": UNITS["gal"],
    "us gallon": UNITS["gal"],
}


def unit_of(name: str) -> Unit:
    """The unit of that name, in any case; raises UnknownUnit."""
    unit = UNITS.get(name) or _ALIASES.get(name.strip().lower())
    if unit is None:
        raise UnknownUnit(f"unit {name[:40]!r} is not known; known are {', '.join(UNITS)}")
    return unit


def to_thousandths(value: Decimal, unit: Unit) -> int:
    """`value` of `unit` in thousandths of the base unit, rounded half to even once; raises OutOfRange."""
    if not value.is_finite() or value.adjusted() > 24:
        raise OutOfRange(f"{str(value)[:40]} {unit.name} is not a quantity that fits")
    if value.adjusted() < -40:
        return 0
    exact = round(Fraction(value) * unit.scale)
    if not -QUANTITY_MAX <= exact <= QUANTITY_MAX:
        raise OutOfRange(f"{str(value)[:40]} {unit.name} is more than a meter measures")
    return exact


_WIDE = Context(prec=60)


def from_thousandths(quantity: int, unit: Unit) -> Decimal:
    """The exact decimal in `unit` (units that are no power of ten: to nine decimals)."""
    if unit.scale.denominator == 1:
        value = _WIDE.divide(Decimal(int(quantity)), Decimal(unit.scale.numerator))
    else:
        value = _WIDE.divide(Decimal(int(quantity) * unit.scale.denominator), Decimal(unit.scale.numerator))
    if -value.as_tuple().exponent > unit.places:  # type: ignore[operator]
        value = value.quantize(Decimal(1).scaleb(-unit.places), context=_WIDE)
    return value


def decimal_text(quantity: int, unit: Unit) -> str:
    """`quantity` as plain digits in `unit`: no exponent, no trailing zeros."""
    scale = unit.scale
    if scale.denominator == 1 and scale == 10**unit.places:
        whole, part = divmod(abs(int(quantity)), scale.numerator)
        text = f"{whole}.{part:0{unit.places}d}".rstrip("0").rstrip(".")
    else:
        text = f"{abs(from_thousandths(quantity, unit)):f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"-{text}" if quantity < 0 and text != "0" else text
