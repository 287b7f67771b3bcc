"""Channels as people and other programs see them: the public shape, as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from meterpulse.model.channel import NO_AREA, NOT_FOUND, Utility
from meterpulse.model.problem import Problem
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
    table, areas, left = store.table, store.areas, limit
    wanted: dict[str, Any] = {}
    for name, value in (("customer", customer), ("usage_point", usage_point)):
        if value is not None:
            wanted[name] = store.texts[name].view().find_one(value)
            if wanted[name] == NOT_FOUND:
                return
    if utility is not None:
        if utility not in Utility.__members__:
            raise Problem(422, "bad-filter", "No such utility", f"utility takes {', '.join(Utility.__members__)}")
        of_profile = table.profiles.utility == Utility[utility]
    if area is not None:
        number = areas.index(area)
        if number is None:
            return
        inside = np.append(areas.under(number), False)
    for first in range(max(after, 0), table.count, _SCAN):
        part = slice(first, min(first + _SCAN, table.count))
        mask = np.ones(part.stop - first, bool)
        for name, value in wanted.items():
            mask &= store.columns[name].view[part] == value
        if utility is not None:
            mask &= of_profile[table.profile[part]]
        if area is not None:
            mask &= inside[np.minimum(table.area[part], len(areas))]
        found = np.flatnonzero(mask).astype(np.uint32) + np.uint32(first)
        found = found if left is None else found[: max(left, 0)]
        for at in range(0, len(found), _BATCH):
            yield rows_of(store, found[at : at + _BATCH])
        if left is not None:
            left -= len(found)
            if left <= 0:
                return


def rows_of(store: Store, indices: np.ndarray) -> pa.RecordBatch:
    """The channels of the indices, in SCHEMA."""
    table, book, areas = store.table, store.book.rows[:], store.areas
    profile = table.profile[indices]
    used, place = np.unique(profile, return_inverse=True)
    fields = [book[number].fields() for number in used.tolist()]
    area = table.area[indices]
    texts = {
        name: store.texts[name].view().texts(store.columns[name].view[indices])
        for name in ("usage_point", "meter", "customer")
    }
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
