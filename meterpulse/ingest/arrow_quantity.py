"""Quantities of an Arrow column as the checks take them: mantissa * 10 ** exponent of a unit.

A float stands for its shortest decimal (0.1 is a tenth). Multiplied by the unit's scale it is off by less than 2 ** -50
of itself, so away from the ties between two integers its rounding is the decimal's; near them the decimal itself is
rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numba import njit

from meterpulse.ingest.arrow_columns import Refuse, values_of
from meterpulse.ingest.checks import THOUSANDTHS, Limits
from meterpulse.ingest.contract import RowError
from meterpulse.ingest.layout import NO_UNIT
from meterpulse.ingest.record import decimal
from meterpulse.ingest.scalars import number
from meterpulse.ingest.vector import padded
from meterpulse.model.quantity import BY_CODE

_SCALE = np.array([float(u.scale) for u in BY_CODE])
_EXACT_MAX = 2.0**50


@dataclass
class Quantity:
    """Columns of `checks.Columns`; `wide` holds what no int64 does."""

    mantissa: np.ndarray  # int64[n]
    exponent: np.ndarray  # int16[n or 1]
    unit: np.ndarray  # uint8[n or 1]
    wide: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """In the order of `checks.Columns`."""
        return self.mantissa, self.exponent, self.unit

    def put_wide(self, row: int, mantissa: int, exponent: int) -> None:
        """A value outside of int64; needs a full `exponent`."""
        self.mantissa[row], self.exponent[row] = (1 if mantissa > 0 else -1), 1
        self.wide[row] = mantissa, exponent


def read(column: pa.Array, channel: np.ndarray, limits: Limits, refuse: Refuse) -> Quantity:
    """Of any type that the column may have; `refuse(row numbers, reason, detail)` is told what is no number."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        return _integers(column)
    if pa.types.is_decimal(column.type):
        return _decimals(column)
    if column.type == pa.float64():
        return _floats(column, channel, limits, refuse)
    if column.type == pa.float32():
        return _singles(column, refuse)
    return _texts(column.cast(pa.large_string()), refuse)


def _integers(column: pa.Array) -> Quantity:
    values = (column.fill_null(0) if column.null_count else column).to_numpy()
    out = Quantity(
        values.astype(np.int64), np.zeros(len(values), np.int16), np.full(len(values), THOUSANDTHS, np.uint8)
    )
    if values.dtype == np.uint64:
        out.mantissa[values > np.uint64(2**63 - 1)] = -(2**63)  # the one that overflows
    return out


def _decimals(column: pa.Array) -> Quantity:
    scale, n = column.type.scale, len(column)
    width = 256 if pa.types.is_decimal256(column.type) else 128
    if width == 128:
        column = column.cast(pa.decimal128(38, scale))
    words = width // 64
    parts = values_of(column.buffers()[1], np.int64, column.offset * words, n * words).reshape(n, words)
    mantissa = np.where(nulls, 0, parts[:, 0]) if (nulls := _nulls(column)) is not None else parts[:, 0].copy()
    out = Quantity(mantissa, np.full(n, -scale, np.int16), np.full(n, NO_UNIT, np.uint8))
    high = parts[:, 0] >> 63
    fits = (parts[:, 1:] == high[:, None]).all(axis=1) & (parts[:, 0] != -(2**63))
    for row in np.flatnonzero(~fits & (~nulls if nulls is not None else True)).tolist():
        out.put_wide(row, int.from_bytes(parts[row].tobytes(), "little", signed=True), -scale)
    return out


def _nulls(column: pa.Array) -> np.ndarray | None:
    return column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None


def _floats(column: pa.Array, channel: np.ndarray, limits: Limits, refuse: Refuse) -> Quantity:
    values = (column.fill_null(0.0) if column.null_count else column).to_numpy()
    n = len(values)
    out = Quantity(np.empty(n, np.int64), np.zeros(n, np.int16), np.full(n, THOUSANDTHS, np.uint8))
    unsure = np.zeros(n, np.bool_)
    if _products(values, channel, limits.count, limits.profile, limits.unit, out.mantissa, unsure):
        finite = np.isfinite(values)
        refuse(np.flatnonzero(~finite), "not_a_number", "quantity is not a finite number")
        for row in np.flatnonzero(unsure & finite).tolist():
            out.mantissa[row], out.exponent[row] = decimal(repr(float(values[row])))
            out.unit[row] = NO_UNIT
    return out


@njit(nogil=True, cache=True)
def _products(values, channel, count, profile_of, unit_of, quantity, unsure):  # type: ignore[no-untyped-def]
    """Thousandths of the base unit; `unsure` marks the rows that must be done exactly."""
    any_unsure = False
    for i in range(len(values)):
        x = values[i]
        scaled = x * _SCALE[unit_of[profile_of[channel[i]]]] if channel[i] < count else 0.0
        near = np.rint(scaled)
        off_tie = abs(abs(scaled - near) - 0.5)
        sure = (
            abs(scaled) < _EXACT_MAX
            and off_tie > abs(scaled) * 2.0**-50
            and (near != 0.0 or (x == 0.0 and not np.signbit(x)) or x > 0.0)
        )
        if sure:
            quantity[i] = np.int64(near)
        else:
            quantity[i] = 0
            unsure[i] = channel[i] < count or not np.isfinite(x)
            any_unsure |= unsure[i]
    return any_unsure


@njit(nogil=True, cache=True)
def _shortest(values, mantissa, exponent, plain):  # type: ignore[no-untyped-def]
    """The shortest decimal of each float32: the fewest decimals that lead back to it.

    Where double precision cannot tell, `plain` stays False.
    """
    for i in range(len(values)):
        x = np.float64(values[i])
        fraction, power_of_two = math.frexp(x)
        half = math.ldexp(
            1.0, power_of_two - 25
        )  # half the distance to the next float32; below a power of two it is less
        power = 1.0
        for places in range(10):
            scaled = x * power
            near = np.rint(scaled)
            if (
                abs(x) >= 2.0**24
                or abs(scaled) > 2.0**31
                or (x != 0.0 and near == 0.0 and places == 9)
                or (near == 0.0 and np.signbit(x))
            ):
                break
            distance = abs(near / power - x)
            if distance == 0.0 or (distance < half * 0.99 and abs(fraction) != 0.5):
                if abs(abs(scaled - near) - 0.5) > 1e-6:
                    mantissa[i], exponent[i], plain[i] = np.int64(near), -places, True
                break
            if distance < half * 1.01:  # too near to the border of what leads back
                break
            power *= 10.0


def _singles(column: pa.Array, refuse: Refuse) -> Quantity:
    values = (column.fill_null(0.0) if column.null_count else column).to_numpy()
    out, plain = _zeros(len(values)), np.zeros(len(values), np.bool_)
    _shortest(values, out.mantissa, out.exponent, plain)
    for row in np.flatnonzero(~plain).tolist():
        _put(out, row, str(values[row]), refuse)
    return out


def _texts(column: pa.Array, refuse: Refuse) -> Quantity:
    n = len(column)
    out, plain = _zeros(n), np.zeros(n, np.bool_)
    _, offsets, data = column.buffers()
    if n:
        offsets = values_of(offsets, np.int64, column.offset, n + 1)
        numbers(offsets, padded(data or b""), out.mantissa, out.exponent, plain)
    for row in np.flatnonzero(~plain).tolist():
        if column[row].is_valid:
            _put(out, row, column[row].as_py(), refuse)
    return out


def _zeros(n: int) -> Quantity:
    return Quantity(np.zeros(n, np.int64), np.zeros(n, np.int16), np.full(n, NO_UNIT, np.uint8))


def _put(out: Quantity, row: int, text: str, refuse: Refuse) -> None:
    """One value by its text, in Python."""
    try:
        mantissa, exponent = decimal(text)
    except RowError as error:
        refuse(np.array([row]), error.reason, error.detail)
        return
    if -(2**63) < mantissa < 2**63:
        out.mantissa[row], out.exponent[row] = mantissa, exponent
    else:
        out.put_wide(row, mantissa, exponent)


@njit(nogil=True, cache=True)
def numbers(offsets, data, mantissa, exponent, plain):  # type: ignore[no-untyped-def]
    text = np.zeros(32, np.uint8)  # texts follow each other without a gap, so each is read by itself
    for i in range(len(plain)):
        length = offsets[i + 1] - offsets[i]
        if 0 < length < 24:
            for j in range(length):
                text[j] = data[offsets[i] + j]
            text[length] = 0
            end, m, e = number(text, 0, False)
            if end == length:
                mantissa[i], exponent[i], plain[i] = m, e, True
