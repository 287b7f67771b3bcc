"""Arrow columns as numpy columns, without a copy where they are as ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterpulse.ingest.scalars import MS_MAX
from meterpulse.model.channel import NOT_FOUND, ChannelTable
from meterpulse.model.quality import RAW, is_packed, packed_of

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
Refuse = Callable[[np.ndarray, str, str], None]  # of row numbers, for a reason, with a detail


def is_text(kind: pa.DataType) -> bool:
    """Whether its values are texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def decoded(column: pa.Array) -> pa.Array:
    """Without run-end and dictionary encoding (a dictionary of texts stays: it is looked up once per word)."""
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_dictionary(column.type):
        if is_text(column.type.value_type) and not column.dictionary.null_count:
            return column
        return decoded(column.dictionary_decode())
    return column


def nulls(column: pa.Array) -> np.ndarray:
    """bool[n]."""
    return column.is_null().to_numpy(zero_copy_only=False)


def channels(column: pa.Array, table: ChannelTable) -> np.ndarray:
    """uint32[n]: the dense indices, NOT_FOUND where there is no such channel or none is given."""
    if pa.types.is_dictionary(column.type):
        words = channels(column.dictionary, table)
        if not len(words):
            return np.full(len(column), NOT_FOUND, np.uint32)
        found = words[column.indices.fill_null(0).to_numpy(zero_copy_only=False)]
    elif is_text(column.type):
        found = _looked_up(column, table)
    elif column.type == pa.uint32():
        found = (column.fill_null(NOT_FOUND) if column.null_count else column).to_numpy()
    else:
        wide = (column.fill_null(0) if column.null_count else column).to_numpy()
        found = np.where((wide >= 0) & (wide < NOT_FOUND), wide, NOT_FOUND).astype(np.uint32)
    if column.null_count:
        found = np.where(nulls(column), np.uint32(NOT_FOUND), found)
    return found


def _looked_up(column: pa.Array, table: ChannelTable) -> np.ndarray:
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    wide = pa.types.is_large_string(column.type)
    _, offsets, data = column.buffers()
    if offsets is None or not len(column):
        return np.full(len(column), NOT_FOUND, np.uint32)
    offsets = values_of(offsets, np.int64 if wide else np.int32, column.offset, len(column) + 1)
    texts = np.frombuffer(data, np.uint8) if data is not None and len(data) else np.zeros(1, np.uint8)
    return table.lookup(offsets, texts)


def values_of(buffer: pa.Buffer, kind: Any, first: int, count: int) -> np.ndarray:
    """`count` values of a buffer from the `first` on; what the buffer holds besides does not matter."""
    return np.frombuffer(buffer, kind, count, first * np.dtype(kind).itemsize)


def starts(column: pa.Array, refuse: Refuse) -> np.ndarray:
    """int64[n or 1] ms since the epoch; rows finer than a millisecond or out of the years 1970 to 2200 are refused."""
    unit = PER_SECOND[column.type.unit]
    raw = _int64(column.cast(pa.int64()), 0)
    low, high = int(raw.min()), int(raw.max())
    if low < 0 or high >= MS_MAX * unit // 1_000:
        outside = (raw < 0) | (raw >= min(MS_MAX * unit // 1_000, 2**63 - 1))
        refuse(np.flatnonzero(outside), "bad_time", "start is not in the years 1970 to 2200")
        raw = np.where(outside, 0, raw)
    if low == high:
        raw = raw[:1]
    if unit == 1:
        return raw * 1_000
    if unit == 1_000:
        return raw
    ms, finer = np.divmod(raw, unit // 1_000)
    if finer.any():
        refuse(np.flatnonzero(finer), "bad_time", "start is finer than a millisecond")
    return ms


def qualities(column: pa.Array, refuse: Refuse) -> np.ndarray:
    """int32[n], packed; raw for null. Rows with an unknown one are refused."""
    if is_text(column.type) or pa.types.is_dictionary(column.type):
        words = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        codes, unknown = np.full(len(words.dictionary) + 1, RAW, np.int32), {}
        for at, word in enumerate(words.dictionary.to_pylist()):
            try:
                codes[at] = packed_of(word)
            except ValueError as error:
                unknown[at] = str(error)
        index = words.indices.fill_null(len(words.dictionary)).to_numpy(zero_copy_only=False)
        for at, why in unknown.items():
            refuse(np.flatnonzero(index == at), "bad_quality", why)
        return codes[index]
    found = whole(column, RAW, -1)
    wrong = ~is_packed(found)
    if wrong.any():
        refuse(np.flatnonzero(wrong), "bad_quality", "not a packed quality; see the docs, or send a text such as S17")
        found = np.where(wrong, RAW, found)
    return found.astype(np.int32)


def whole(column: pa.Array, absent: int, too_large: int) -> np.ndarray:
    """int32 or int64[n]; `absent` for null, `too_large` for what int64 does not hold."""
    if column.type == pa.int32() and not column.null_count:
        return column.to_numpy()
    found = integers(column, 0)
    if found is None:
        raw = column.fill_null(0).to_numpy()
        found = np.where(raw > np.uint64(2**63 - 1), np.int64(too_large), raw.astype(np.int64))
    return np.where(nulls(column), np.int64(absent), found) if column.null_count else found


def integers(column: pa.Array, null: int) -> np.ndarray | None:
    """int64[n] with `null` in place of nulls, without a copy where it can be; None where a value does not fit."""
    if column.type == pa.uint64() and len(column) and (pc.max(column).as_py() or 0) > 2**63 - 1:
        return None
    return _int64(column, null)


def _int64(column: pa.Array, null: int) -> np.ndarray:
    return (column.fill_null(null) if column.null_count else column).to_numpy().astype(np.int64, copy=False)
