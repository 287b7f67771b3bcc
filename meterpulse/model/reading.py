"""Readings travel in columns, from the wire to the view. A column that is the same in every row is kept once.

`pack` writes a batch as it goes to the log: a constant column as one number, a running sequence (a sweep over all channels)
as two, everything else as offsets from its minimum in the fewest bytes that hold them. Unpacking is a view and an addition.

>>> r = Readings.of(channel=[0, 1, 2], start=0, seconds=5, quantity=[7, 7, 9])
>>> len(pack(r)), unpack(pack(r)).quantity.tolist()
(176, [7, 7, 9])
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meterpulse.model.quality import RAW

COLUMNS: tuple[tuple[str, Any], ...] = (
    ("channel", np.uint32),
    ("start", np.int64),
    ("seconds", np.int32),
    ("quantity", np.int64),
    ("revision", np.int64),
    ("quality", np.int32),
)
_WITHOUT_QUALITY = len(COLUMNS) - 1  # as batches were packed before there was one


_RAW = np.full(1, RAW, np.int32)
_RAW.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """n readings in columns; `start`, `seconds`, `revision` and `quality` may have length 1, which stands for all rows."""

    channel: np.ndarray  # uint32[n], dense index
    start: np.ndarray  # int64[n or 1], ms since the epoch, UTC
    seconds: np.ndarray  # int32[n or 1]
    quantity: np.ndarray  # int64[n], thousandths of the base unit
    revision: np.ndarray  # int64[n or 1]
    quality: np.ndarray = field(default_factory=lambda: _RAW)  # int32[n or 1], packed: see model/quality.py

    @classmethod
    def of(
        cls, channel: Any, start: Any, seconds: Any, quantity: Any, revision: Any = 0, quality: Any = RAW
    ) -> Readings:
        """From anything array-like; scalars become constant columns."""
        given = (channel, start, seconds, quantity, revision, quality)
        columns = (np.atleast_1d(np.ascontiguousarray(v, dtype=t)) for v, (_, t) in zip(given, COLUMNS, strict=True))
        return cls(*columns)

    @classmethod
    def empty(cls) -> Readings:
        """No rows."""
        return cls.of([], [], [], [], [], [])

    def __len__(self) -> int:
        return len(self.channel)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Readings):
            return NotImplemented
        return len(self) == len(other) and all(np.array_equal(self.full(n), other.full(n)) for n, _ in COLUMNS)

    def full(self, name: str) -> np.ndarray:
        """A column at full length (a read-only broadcast where it is constant)."""
        column = getattr(self, name)
        return column if len(column) == len(self) else np.broadcast_to(column[:1], (len(self),))

    def take(self, rows: np.ndarray | slice) -> Readings:
        """The rows of a mask, an index array or a slice; constant columns stay constant."""
        n = len(self)
        return Readings(
            *(c if len(c) == 1 and n != 1 else c[rows] for c in (getattr(self, name) for name, _ in COLUMNS))
        )

    @staticmethod
    def concat(parts: Sequence[Readings]) -> Readings:
        """One batch of several, in order; a column stays constant where all parts agree on it."""
        parts = [p for p in parts if len(p)]
        if not parts:
            return Readings.empty()
        if len(parts) == 1:
            return parts[0]
        columns = []
        for name, _ in COLUMNS:
            own = [getattr(p, name) for p in parts]
            if name not in ("channel", "quantity") and all(len(c) == 1 and c[0] == own[0][0] for c in own):
                columns.append(own[0][:1])
            else:
                columns.append(np.concatenate([p.full(name) for p in parts]))
        return Readings(*columns)


_CONSTANT, _RUN, _OFFSETS = 0, 1, 2
_HEADER = struct.Struct("<4sIQ")
_COLUMN = struct.Struct("<BBHIqq")  # encoding, width in bytes, -, -, base, step
_MAGIC = b"MPR1"


def pack(readings: Readings) -> bytes:
    """The bytes of a batch as they go to the log."""
    n, parts = len(readings), []
    parts.append(_HEADER.pack(_MAGIC, len(COLUMNS), n))
    for name, _ in COLUMNS:
        parts.extend(_pack_column(getattr(readings, name), n))
    return b"".join(parts)


def _pack_column(column: np.ndarray, n: int) -> Iterable[Any]:
    if n == 0:
        return (_COLUMN.pack(_CONSTANT, 0, 0, 0, 0, 0),)
    first = int(column[0])
    low, high = (first, first) if len(column) == 1 else (int(column.min()), int(column.max()))
    if low == high:
        return (_COLUMN.pack(_CONSTANT, 0, 0, 0, low, 0),)
    if low == first and high - low == n - 1 and np.array_equal(column, np.arange(low, high + 1, dtype=column.dtype)):
        return (_COLUMN.pack(_RUN, 0, 0, 0, first, 1),)
    span = high - low
    width = next(w for w in (1, 2, 4, 8) if span < 1 << (8 * w))
    if width == 8:
        offsets = column.astype(np.int64).view(np.uint64) - np.uint64(low & 0xFFFFFFFFFFFFFFFF)
    else:
        # Written narrow at once, in numpy's own buffers: a full-width difference first took three times as long.
        offsets = np.empty(n, f"<u{width}")
        own = column.dtype if column.dtype == offsets.dtype else np.int64
        np.subtract(column, own(low) if own is np.int64 else own.type(low), out=offsets, dtype=own, casting="unsafe")
    padding = b"\0" * (-(n * width) % 8)
    return (_COLUMN.pack(_OFFSETS, width, 0, 0, low, 0), memoryview(offsets).cast("B"), padding)


def unpack(buffer: bytes | memoryview) -> Readings:
    """The batch that `pack` wrote; raises ValueError where the bytes are not one."""
    view = memoryview(buffer)
    if len(view) < _HEADER.size:
        raise ValueError("not a packed batch: too short")
    magic, columns, n = _HEADER.unpack_from(view, 0)
    if magic != _MAGIC or columns not in (len(COLUMNS), _WITHOUT_QUALITY):
        raise ValueError("not a packed batch: unknown magic or column count")
    at, out = _HEADER.size, []
    for name, dtype in COLUMNS[:columns]:
        encoding, width, _, _, base, step = _COLUMN.unpack_from(view, at)
        at += _COLUMN.size
        if encoding == _CONSTANT:
            repeat = n if name in ("channel", "quantity") or n == 0 else 1
            out.append(np.full(repeat, base, dtype))
        elif encoding == _RUN:
            out.append(np.arange(base, base + n * step, step, dtype=dtype))
        else:
            offsets = np.frombuffer(view, f"<u{width}", n, at)
            at += n * width + (-(n * width) % 8)
            out.append(_restore(offsets, base, width, dtype))
    return Readings(*out)


def _restore(offsets: np.ndarray, base: int, width: int, dtype: Any) -> np.ndarray:
    if width == 8:
        return (offsets + np.uint64(base & 0xFFFFFFFFFFFFFFFF)).view(np.int64).astype(dtype, copy=False)
    return offsets.astype(dtype) if base == 0 else np.add(offsets, dtype(base), dtype=dtype, casting="unsafe")
