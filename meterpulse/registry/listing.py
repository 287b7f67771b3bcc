"""Channels as people and other programs see them: the public shape, as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa

from meterpulse.model.channel import NO_AREA, Utility
from meterpulse.model.problem import Problem
from meterpulse.registry.intake import REFERENCES
from meterpulse.registry.profiles import public_multiplier
from meterpulse.registry.store import Store

_WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("utility", _WORDS),
        ("unit", _WORDS),
        ("usage_point", pa.string()),
        ("meter", pa.string()),
        ("customer", pa.string()),
        ("direction", _WORDS),
        ("kind", _WORDS),
        ("interval_seconds", pa.int32()),
        ("multiplier", pa.float64()),
        ("digits", pa.int32()),
        ("class", _WORDS),
        ("area", _WORDS),
        ("time_zone", _WORDS),
        ("index", pa.uint32()),
    ]
)

_SCAN = 1 << 20
_BATCH = 1 << 17


def batches(
    store: Store,
    after: int = 0,
    limit: int | None = None,
    area: str | None = None,
    utility: str | None = None,
    customer: str | None = None,
    usage_point: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Channels with an index of at least `after` that pass all filters, ordered by index, in batches of SCHEMA."""
    table = store.table
    areas, left = store.areas, None if limit is None else max(limit, 0)
    if utility is not None and utility not in Utility.__members__:
        raise Problem(422, "bad-filter", "No such utility", f"utility takes {', '.join(Utility.__members__)}")
    of_profile = np.ones(65536, bool) if utility is None else table.profiles.utility == Utility[utility]
    inside = np.ones(len(areas) + 1, bool)
    if area is not None:
        number = areas.index(area)
        inside = np.append(areas.under(number) if number is not None else np.zeros(len(areas), bool), False)
    names = {"customer": customer, "usage_point": usage_point}
    names = {name: value for name, value in names.items() if value is not None}
    for found in _candidates(store, max(after, 0), table.count, names):
        found = found[of_profile[table.profile[found]] & inside[np.minimum(table.area[found], len(areas))]][:left]
        for at in range(0, len(found), _BATCH):
            yield rows_of(store, found[at : at + _BATCH])
        if left is not None:
            left -= len(found)
            if left <= 0:
                return


def _candidates(store: Store, first: int, count: int, names: dict[str, str]) -> Iterator[np.ndarray]:
    """uint32[]: the channels [first, count) of the references in `names`; without any, all, a part at a time."""
    if names:
        parts = [store.channels_of(reference, name) for reference, name in names.items()]
        found = reduce(np.intersect1d, parts)
        yield found[(found >= first) & (found < count)]
    else:
        for at in range(first, count, _SCAN):
            yield np.arange(at, min(at + _SCAN, count), dtype=np.uint32)


def rows_of(store: Store, indices: np.ndarray) -> pa.RecordBatch:
    """The channels of the indices, in SCHEMA."""
    table = store.table  # first: what it refers to is in the others, which may be newer
    book, areas = store.book.rows, store.areas
    profile = table.profile[indices]
    used, place = np.unique(profile, return_inverse=True)
    fields = [book[number].fields() for number in used.tolist()]
    area = table.area[indices]
    numbers = {name: store.columns[name].view[indices] for name in REFERENCES}
    texts = {name: store.texts[name].view().texts(number) for name, number in numbers.items()}
    columns = []
    for field in SCHEMA:
        if field.name == "id":
            column = table.ids(indices)
        elif field.name == "index":
            column = pa.array(indices, pa.uint32())
        elif field.name == "area":
            column = pa.DictionaryArray.from_arrays(
                pa.array(area.astype(np.int64), pa.int32(), mask=area == NO_AREA, safe=False),
                pa.array(areas.names, pa.string()),
            )
        elif field.name in texts:
            column = texts[field.name]
        else:
            values = [row[field.name] for row in fields]
            if field.name == "multiplier":
                values = [float(value) for value in values]
            column = _spread(values, place, field.type)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def public_shape(row: dict[str, Any], multiplier: str) -> dict[str, Any]:
    """One row of SCHEMA as the JSON shape, where a whole multiplier is a whole number."""
    return row | {"multiplier": public_multiplier(multiplier)}


def _spread(values: list[Any], place: np.ndarray, kind: pa.DataType) -> pa.Array:
    """values[place] as an Arrow column; words as a dictionary of the distinct ones."""
    if not pa.types.is_dictionary(kind):
        return pa.array(values, kind).take(pa.array(place))
    distinct = list(dict.fromkeys(values))
    code = np.array([distinct.index(value) for value in values], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(code[place], pa.int32()), pa.array(distinct, pa.string()))
