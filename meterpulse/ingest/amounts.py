"""Quantities in a file's own unit as int64 thousandths of the base unit, a whole column at a time, exact.

>>> amounts(["1.5", "0.0005", "x"], UNITS["Wh"].scale)
(array([1500,    0,    0]), {2: ('not_a_number', "'x' is not a finite decimal number such as 12.5")})
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pyarrow as pa

from meterpulse.ingest.arrow_quantity import numbers
from meterpulse.ingest.contract import RowError
from meterpulse.ingest.record import decimal
from meterpulse.ingest.vector import padded
from meterpulse.model.quantity import QUANTITY_MAX, UNITS

__all__ = ["UNITS", "amounts"]

_PLACES = 9
_MANTISSA_MAX = 10**12


def amounts(texts: Sequence[str], scale: Fraction) -> tuple[np.ndarray, dict[int, tuple[str, str]]]:
    """int64[n], rounded half to even once, and (reason, detail) by row of what cannot be taken (its amount is 0).

    `scale` is how many thousandths of the base unit one of the unit is.
    """
    column = pa.array(texts, pa.large_string())
    n = len(column)
    mantissa, exponent, plain = np.zeros(n, np.int64), np.zeros(n, np.int16), np.zeros(n, np.bool_)
    if n:
        _, offsets, data = column.buffers()
        offsets = np.frombuffer(offsets, np.int64, n + 1)
        numbers(offsets, padded(data or b""), mantissa, exponent, plain)
    out, plain = _scaled(mantissa, -exponent.astype(np.int64), plain, scale)
    refused: dict[int, tuple[str, str]] = {}
    for row in np.flatnonzero(~plain).tolist():
        try:
            out[row] = _exact(texts[row], scale)
        except RowError as error:
            out[row], refused[row] = 0, (error.reason, error.detail)
    return out, refused


def _scaled(
    mantissa: np.ndarray, places: np.ndarray, plain: np.ndarray, scale: Fraction
) -> tuple[np.ndarray, np.ndarray]:
    """The amounts of plain rows, and which rows they are; the others want Python's integers."""
    if scale.denominator != 1 or scale.numerator > 10**9:
        return np.zeros(len(mantissa), np.int64), np.zeros(len(mantissa), np.bool_)
    largest = min(_MANTISSA_MAX, (2**63 - 1) // scale.numerator)
    plain = plain & (np.abs(mantissa) <= largest) & (places <= _PLACES)
    product = np.where(plain, mantissa, 0) * scale.numerator
    divisor = 10 ** np.where(plain, places, 0)
    quotient, rest = np.divmod(product, divisor)
    quotient += (2 * rest > divisor) | ((2 * rest == divisor) & (quotient & 1 == 1))
    return quotient, plain & (np.abs(quotient) <= QUANTITY_MAX)


def _exact(text: str, scale: Fraction) -> int:
    mantissa, exponent = decimal(text)
    exact = round(mantissa * Fraction(10) ** exponent * scale)
    if abs(exact) > QUANTITY_MAX:
        raise RowError("overflow", f"{text[:40]} is more than a meter measures")
    return exact
