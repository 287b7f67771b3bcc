"""What was given to be registered, as checked columns: no object per row, one per distinct combination of traits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meterpulse.model.channel import Channel, ChannelError, check_name
from meterpulse.model.problem import Problem
from meterpulse.registry import cells
from meterpulse.registry.profiles import TRAITS

REFERENCES = ("usage_point", "customer", "meter")
"""The fields of a channel that name something outside of it."""

FIELDS = ("id", *REFERENCES, "area", *TRAITS)

_BATCH_ROWS = 1 << 18
_OBJECT_ROWS = 1 << 14
_WHY = {
    cells.EMPTY: "is empty; it takes a non-empty text",
    cells.TOO_LONG: "takes up to 200 bytes without control characters",
    cells.CONTROL: "takes up to 200 bytes without control characters",
    cells.NOT_UTF8: "is not valid UTF-8",
}


class Refusals:
    """Why rows of a batch were refused; the first reason of a row stands. Row i is fine while `code[i]` is 0."""

    def __init__(self, rows: int):
        self.code = np.zeros(rows, np.int32)
        self._messages: dict[str, int] = {}

    def refuse(self, rows: np.ndarray, message: str) -> None:
        """Refuse the rows (a mask or indices)."""
        mask = np.zeros(len(self.code), bool)
        mask[rows] = True
        mask &= self.code == 0
        if mask.any():
            self.code[mask] = self._messages.setdefault(message, len(self._messages) + 1)

    def refuse_choices(self, rows: np.ndarray, code: np.ndarray, messages: dict[int, str]) -> None:
        """Refuse those of the rows (indices) of which the code, one per row, has a message."""
        if messages:
            numbers = np.zeros(int(code.max(initial=0)) + 1, np.int32)
            for choice, message in messages.items():
                numbers[choice] = self._messages.setdefault(message, len(self._messages) + 1)
            new = np.where(code >= 0, numbers[code], 0)
            self.code[rows] = np.where(self.code[rows] == 0, new, self.code[rows])

    def first(self, limit: int) -> list[tuple[int, str]]:
        """(row, message) of the first refused rows."""
        messages = ["", *self._messages]
        return [(int(row), messages[self.code[row]]) for row in np.flatnonzero(self.code)[:limit]]


@dataclass(frozen=True)
class Texts:
    """A text column in Arrow's layout, and which rows have one."""

    offsets: np.ndarray
    data: np.ndarray
    present: np.ndarray


@dataclass(frozen=True)
class Choices:
    """A column of few different values: `code[i]` is the place of row i's value in `values`, -1 where there is none."""

    code: np.ndarray
    values: list[Any]


@dataclass(frozen=True)
class Intake:
    """A batch of checked rows. `told.values` are dicts of the traits that a row gives; what is not told is not in
    them."""

    rows: int
    id: Texts
    references: dict[str, Texts]
    area: Choices
    told: Choices
    refusals: Refusals

    @property
    def fine(self) -> np.ndarray:
        """bool[rows]: not refused so far."""
        return self.refusals.code == 0


def batches_of(source: Any) -> Iterator[tuple[pa.RecordBatch, dict[int, str]]]:
    """Record batches of channels, each with the rows that were no channel at all and why.

    `source` is an Arrow table, batch or reader, the path of a Parquet file, or any iterable of Channel and of dicts of
    the public shape. In batches, null means "not told".
    """
    if isinstance(source, pa.Table):
        return ((batch, {}) for batch in source.to_batches(max_chunksize=_BATCH_ROWS))
    if isinstance(source, pa.RecordBatch):
        return ((source.slice(at, _BATCH_ROWS), {}) for at in range(0, source.num_rows, _BATCH_ROWS))
    if isinstance(source, pa.RecordBatchReader):
        return (part for batch in source for part in batches_of(batch))
    if isinstance(source, str | Path):
        return ((batch, {}) for batch in pq.ParquetFile(source).iter_batches(_BATCH_ROWS))
    return _batches_of_objects(source)


def rows_of(source: Any) -> int | None:
    """How many rows a source has, where it says so beforehand."""
    if isinstance(source, pa.Table | pa.RecordBatch):
        return source.num_rows
    if isinstance(source, str | Path):
        return pq.read_metadata(source).num_rows
    return len(source) if isinstance(source, list | tuple) else None


def check(batch: pa.RecordBatch, not_channels: dict[int, str]) -> Intake:
    """The rows of a batch, checked one by one as far as that goes without the registry. Raises Problem for bad
    columns."""
    names = batch.schema.names
    unknown = sorted(set(names) - set(FIELDS) - {"index"})
    if unknown or len(set(names)) < len(names) or "id" not in names:
        fault = f"column {unknown[0]!r} is not known" if unknown else "columns must differ, and there must be an id"
        raise Problem(422, "bad-channels", "These are no channels", f"{fault}; known are {', '.join(FIELDS)}")
    refusals = Refusals(batch.num_rows)
    for row, message in not_channels.items():
        refusals.refuse(np.array([row]), message)
    id = _texts(batch, "id", refusals)
    refusals.refuse(~id.present, "id is missing; a channel needs id, utility and unit")
    references = {name: _texts(batch, name, refusals) for name in REFERENCES if name in names}
    area = _choices(batch, "area")
    wrong: dict[int, str] = {}
    for code, name in enumerate(area.values):
        try:
            check_name("area", name, optional=False)
        except ChannelError as error:
            wrong[code] = str(error)
    refusals.refuse_choices(np.arange(batch.num_rows), area.code, wrong)
    return Intake(batch.num_rows, id, references, area, _told(batch), refusals)


def _texts(batch: pa.RecordBatch, name: str, refusals: Refusals) -> Texts:
    column = _text_column(batch.column(name), name)
    rows = len(column)
    validity, ends, body = column.buffers()
    offsets = np.frombuffer(ends, np.int64)[column.offset : column.offset + rows + 1]
    data = np.frombuffer(body, np.uint8) if body else np.zeros(0, np.uint8)
    present = np.ones(rows, bool) if not column.null_count else column.is_valid().to_numpy(zero_copy_only=False)
    code = np.empty(rows, np.uint8)
    if cells.check_texts(offsets, data, code):
        for why, message in _WHY.items():
            refusals.refuse((code == why) & present, f"{name} {message}")
    return Texts(offsets, data, present)


def _text_column(column: pa.Array, name: str) -> pa.Array:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if (
        pa.types.is_null(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string(kind)
    ):
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        return column.cast(pa.large_string(), safe=False)
    raise Problem(422, "bad-channels", "These are no channels", f"column {name!r} is {kind}; it takes text")


def _choices(batch: pa.RecordBatch, name: str) -> Choices:
    if name not in batch.schema.names:
        return Choices(np.full(batch.num_rows, -1, np.int64), [])
    column = batch.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return Choices(np.full(batch.num_rows, -1, np.int64), [])
    encoded = column.dictionary_encode()
    code = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Choices(code, [_value(scalar) for scalar in encoded.dictionary])


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()  # no text: refused as such where it is looked at


def _told(batch: pa.RecordBatch) -> Choices:
    """The traits of the rows, as one column of the distinct combinations."""
    combined = np.zeros(batch.num_rows, np.int64)
    told: list[dict[str, Any]] = [{}]
    for name in TRAITS:
        if name not in batch.schema.names:
            continue
        trait = _choices(batch, name)
        size = len(trait.values) + 1
        pairs = combined * size + trait.code + 1
        codes = pa.array(pairs).dictionary_encode()
        combined = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        told = [
            told[pair // size] | ({name: trait.values[pair % size - 1]} if pair % size else {})
            for pair in codes.dictionary.to_pylist()
        ]
    return Choices(combined, told)


def _batches_of_objects(source: Iterable[Channel | dict[str, Any]]) -> Iterator[tuple[pa.RecordBatch, dict[int, str]]]:
    rest = iter(source)
    while objects := list(islice(rest, _OBJECT_ROWS)):
        rows, not_channels = [], {}
        for row, given in enumerate(objects):
            try:
                rows.append(_row_of(given))
            except ChannelError as error:
                rows.append({})
                not_channels[row] = str(error)
        kinds = {"interval_seconds": pa.int32(), "digits": pa.int32()}
        columns = [pa.array([row.get(name) for row in rows], kinds.get(name, pa.string())) for name in FIELDS]
        yield pa.RecordBatch.from_arrays(columns, list(FIELDS)), not_channels


def _row_of(given: Channel | dict[str, Any]) -> dict[str, Any]:
    """The told fields of a channel, checked, with the multiplier as text."""
    channel = given if isinstance(given, Channel) else Channel.from_dict(given)
    row = {name.rstrip("_"): getattr(channel, name) for name in Channel.__slots__}
    if channel is not given:
        row = {name: value for name, value in row.items() if given.get(name) is not None}
    return row | ({"multiplier": str(channel.multiplier)} if "multiplier" in row else {})
