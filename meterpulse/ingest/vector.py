"""Sixty-four bytes at a time: the few vector instructions that the scanners need, as LLVM intrinsics.

Every function reads 64 bytes from `position` on, so buffers carry 64 bytes of padding (see `padded`).
Positions are relative and 64 means "not in these 64 bytes".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 64
_BYTES = ir.VectorType(ir.IntType(8), WIDTH)


def padded(body: bytes | memoryview) -> np.ndarray:
    """A copy of the body as uint8 with 64 zero bytes behind it."""
    out = np.empty(len(body) + WIDTH, np.uint8)
    out[: len(body)] = np.frombuffer(body, np.uint8)
    out[len(body) :] = 0
    return out


def _load(context: Any, builder: Any, array_type: Any, array: Any, position: Any) -> Any:
    start = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    loaded = builder.load(builder.bitcast(builder.gep(start, [position]), _BYTES.as_pointer()))
    loaded.align = 1
    return loaded


def _all(byte: int) -> Any:
    return ir.Constant(_BYTES, [byte] * WIDTH)


def _first(builder: Any, hits: Any) -> Any:
    return builder.cttz(builder.bitcast(hits, ir.IntType(64)), ir.Constant(ir.IntType(1), 0))


@intrinsic
def string_stop(typingctx, data, position):  # type: ignore[no-untyped-def]
    """Bytes before the first quote, backslash, control character or byte above 127."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        b = _load(context, builder, signature.args[0], *args)
        hits = builder.icmp_signed("<", b, _all(0x20))  # signed: bytes above 127 are below zero
        for byte in (0x22, 0x5C):
            hits = builder.or_(hits, builder.icmp_signed("==", b, _all(byte)))
        return _first(builder, hits)

    return types.int64(data, types.int64), codegen


@intrinsic
def csv_stop(typingctx, data, position):  # type: ignore[no-untyped-def]
    """Bytes before the first comma, quote, control character (line ends are some) or byte above 127."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        b = _load(context, builder, signature.args[0], *args)
        hits = builder.icmp_signed("<", b, _all(0x20))
        for byte in (0x22, 0x2C):
            hits = builder.or_(hits, builder.icmp_signed("==", b, _all(byte)))
        return _first(builder, hits)

    return types.int64(data, types.int64), codegen


@intrinsic
def line_stop(typingctx, data, position):  # type: ignore[no-untyped-def]
    """Bytes before the first newline."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        b = _load(context, builder, signature.args[0], *args)
        return _first(builder, builder.icmp_signed("==", b, _all(0x0A)))

    return types.int64(data, types.int64), codegen


@intrinsic
def same_bytes(typingctx, data, position, other):  # type: ignore[no-untyped-def]
    """How many bytes from `position` on equal those from `other` on, up to 64."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        array, position, other = args
        a = _load(context, builder, signature.args[0], array, position)
        b = _load(context, builder, signature.args[0], array, other)
        return _first(builder, builder.icmp_signed("!=", a, b))

    return types.int64(data, types.int64, types.int64), codegen


@njit(nogil=True, inline="always")
def string_end(data, position):  # type: ignore[no-untyped-def]
    """Position of the first byte that a plain string does not hold; the padding's zeros end every search."""
    while True:
        step = string_stop(data, position)
        position += step
        if step < 64:
            return position


@njit(nogil=True, inline="always")
def csv_end(data, position):  # type: ignore[no-untyped-def]
    """Position of the first byte that a plain CSV field does not hold."""
    while True:
        step = csv_stop(data, position)
        position += step
        if step < 64:
            return position


@njit(nogil=True, inline="always")
def line_end(data, position, end):  # type: ignore[no-untyped-def]
    """Position of the next newline, or `end`."""
    while position < end:
        step = line_stop(data, position)
        position += step
        if step < 64:
            return min(position, end)
    return end
