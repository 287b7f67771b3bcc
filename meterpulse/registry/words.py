"""Loads by address that numba itself does not have: unaligned words, a whole cache line compared at once, prefetch.

The compiled loops of `cells` pass addresses (`array.ctypes.data`) to their small helpers instead of arrays: helpers
with plain numbers are inlined, ones with arrays are not. The caller holds the arrays for as long as the loop runs.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_LINE = ir.VectorType(_WORD, 8)


def _pointer(builder, address, to):
    return builder.inttoptr(address, to.as_pointer())


@intrinsic
def load8(typingctx, address):
    """The little-endian uint64 at an address, aligned or not."""

    def build(context, builder, signature, args):
        return builder.load(_pointer(builder, args[0], _WORD), align=1)

    return types.uint64(types.uint64), build


@intrinsic
def load1(typingctx, address):
    """The byte at an address, as uint64."""

    def build(context, builder, signature, args):
        return builder.zext(builder.load(_pointer(builder, args[0], _BYTE)), _WORD)

    return types.uint64(types.uint64), build


@intrinsic
def prefetch(typingctx, address):
    """Ask for the cache line at an address, which is read a little later. Any address will do: a wrong one is
    ignored."""

    def build(context, builder, signature, args):
        byte, word = _BYTE.as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), (byte, word, word, word))
        fetch = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
        builder.call(fetch, (builder.inttoptr(args[0], byte), word(0), word(3), word(1)))
        return context.get_dummy_value()

    return types.void(types.uint64), build


@intrinsic
def match_line(typingctx, address, fingerprint):
    """The largest of the 8 words at a 64-byte-aligned address whose upper half is `fingerprint`; 0 if none is."""

    def build(context, builder, signature, args):
        line = builder.load(_pointer(builder, args[0], _LINE), align=64)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
        one = builder.insert_element(ir.Constant(_LINE, ir.Undefined), args[1], ir.IntType(32)(0))
        wanted = builder.shuffle_vector(one, ir.Constant(_LINE, ir.Undefined), lanes)
        upper = builder.lshr(line, ir.Constant(_LINE, [32] * 8))
        kept = builder.select(builder.icmp_unsigned("==", upper, wanted), line, ir.Constant(_LINE, [0] * 8))
        name = "llvm.vector.reduce.umax.v8i64"
        largest = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(_WORD, (_LINE,)), name
        )
        return builder.call(largest, (kept,))

    return types.uint64(types.uint64, types.uint64), build
