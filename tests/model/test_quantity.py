"""Quantities convert exactly, in every unit, once."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meterpulse.model.quantity import (
    BY_CODE,
    QUANTITY_MAX,
    UNITS,
    OutOfRange,
    UnknownUnit,
    decimal_text,
    from_thousandths,
    to_thousandths,
    unit_of,
)

UNIT = st.sampled_from(sorted(UNITS))
# An independent table: what one unit is in thousandths of Wh, mL, mV..., from the definitions of the units.
THOUSANDTHS = {
    "kWh": "1000000", "Wh": "1000", "MWh": "1000000000", "kvarh": "1000000", "varh": "1000", "kVAh": "1000000",
    "m3": "1000000", "L": "1000", "gal": "3785.411784", "ft3": "28316.846592", "ccf": "2831684.6592",
    "W": "1000", "kW": "1000000", "V": "1000", "A": "1000",
    "therm": "263701000/9",
    "VAh": "1000", "var": "1000", "kvar": "1000000", "VA": "1000", "kVA": "1000000",
}  # fmt: skip
WIDE = Context(prec=80)


def test_every_unit_is_what_its_definition_says():
    assert {name: UNITS[name].scale for name in UNITS} == {name: Fraction(text) for name, text in THOUSANDTHS.items()}
    assert [u.code for u in BY_CODE] == list(range(len(UNITS)))


@settings(max_examples=300, deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=None), UNIT)
def test_a_quantity_is_rounded_half_to_even_once(value, name):
    exact = Fraction(value) * Fraction(THOUSANDTHS[name])
    assume(abs(exact) < QUANTITY_MAX)
    wide = WIDE.divide(Decimal(exact.numerator), Decimal(exact.denominator))
    assert to_thousandths(value, UNITS[name]) == int(wide.to_integral_value(ROUND_HALF_EVEN, WIDE))


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**63) + 1, 2**63 - 1), UNIT)
def test_an_answer_says_exactly_what_is_stored_and_comes_back_as_it_was(quantity, name):
    unit = UNITS[name]
    text = decimal_text(quantity, unit)
    assert "e" not in text.lower() and not text.startswith("+") and (text == "0" or text.strip("-").rstrip("0") != "")
    assert text == "0" or "." not in text or not text.endswith("0")
    assert Decimal(text) == from_thousandths(quantity, unit)
    if unit.scale.denominator == 1:
        assert Decimal(text) * Decimal(THOUSANDTHS[name]) == quantity
    assume(abs(quantity) <= QUANTITY_MAX)
    assert to_thousandths(Decimal(text), unit) == quantity


@pytest.mark.parametrize(
    ("text", "unit", "want"),
    [
        ("0.0000005", "kWh", 0),
        ("0.0000015", "kWh", 2),
        ("0.0000025", "kWh", 2),
        ("-0.0000015", "kWh", -2),
        ("1e-30", "kWh", 0),
        ("1E3", "kWh", 10**9),
        ("0.1", "gal", 379),
    ],
)
def test_ties_go_to_the_even_number(text, unit, want):
    assert to_thousandths(Decimal(text), UNITS[unit]) == want


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e30", "100000000.000001", "-100000000.000001"])
def test_what_no_meter_measures_is_refused_and_sums_of_ninety_thousand_fit(text):
    with pytest.raises(OutOfRange):
        to_thousandths(Decimal(text), UNITS["kWh"])


def test_the_largest_quantity_fits():
    assert to_thousandths(Decimal("100000000"), UNITS["kWh"]) == QUANTITY_MAX
    assert to_thousandths(Decimal("-100000000"), UNITS["kWh"]) == -QUANTITY_MAX
    assert 90_000 * QUANTITY_MAX < 2**63


def test_units_are_found_in_any_case_and_unknown_ones_are_named():
    assert unit_of("KWH") is UNITS["kWh"] and unit_of("m³") is UNITS["m3"] and unit_of(" litre ") is UNITS["L"]
    with pytest.raises(UnknownUnit, match="furlong.*known are kWh"):
        unit_of("furlong")
