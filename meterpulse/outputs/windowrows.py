"""Rows of a view's windows as others read them: JSON objects with exact decimals, or Arrow columns in thousandths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

from meterpulse.model.channel import Direction, Utility
from meterpulse.model.groups import A_GROUP
from meterpulse.model.quantity import UNITS, Unit
from meterpulse.model.window import iso
from meterpulse.serving.answers import numbers
from meterpulse.serving.queries import area_unit
from meterpulse.stores import BLOCK

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_NAMES = ("quantity", "min", "max", "last")  # of the measures behind the count


@dataclass(frozen=True)
class Writer:
    """The keys of one block: `about` says what a row is of, `unit` in what it is measured, `adds_up` whether a sum means
    something."""

    block: int
    keys: Sequence[bytes]
    about: Sequence[dict[str, Any]]
    unit: Sequence[Unit]
    adds_up: Sequence[bool]

    def objects(
        self, view: str, own: np.ndarray, rows: np.ndarray, start_ms: int, step_ms: int, revision: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """(key, JSON object) of the keys `own`; rows int64[own, measures]. A row without readings is null, never zero."""
        head = {"view": view, "start": iso(start_ms), "seconds": step_ms // 1000, "revision": revision}
        for at, row in zip(own.tolist(), rows, strict=True):
            values: list[Any] = numbers(row[1:], self.unit[at]) if row[0] else [None] * (len(row) - 1)
            told = dict(zip(_NAMES, values, strict=False))
            if not self.adds_up[at]:
                told["quantity"] = None
            yield (
                self.keys[at],
                orjson.dumps(head | self.about[at] | {"unit": self.unit[at].name, "count": int(row[0])} | told),
            )

    def columns(self, own: np.ndarray, rows: np.ndarray, start_ms: int, step_ms: int, revision: int) -> pa.RecordBatch:
        """The same as columns: quantities int64, in thousandths of the base unit; null where there are no readings."""
        chosen = own.tolist()
        names = list(self.about[chosen[0]])
        empty = rows[:, 0] == 0
        sums = empty | ~np.array([self.adds_up[at] for at in chosen])
        n = len(chosen)
        columns = {name: pa.array([self.about[at][name] for at in chosen]) for name in names} | {
            "start": pa.array(np.full(n, start_ms), pa.timestamp("ms", "UTC")),
            "seconds": pa.array(np.full(n, step_ms // 1000, np.int32)),
            "revision": pa.array(np.full(n, revision, np.int64)),
            "unit": pa.array([self.unit[at].name for at in chosen]),
            "count": pa.array(rows[:, 0]),
        }
        for m, name in enumerate(_NAMES[: rows.shape[1] - 1], 1):
            columns[name] = pa.array(rows[:, m], mask=sums if name == "quantity" else empty)
        return pa.record_batch(columns)


def writer_of(p: Pipeline, base: str, block: int) -> Writer:
    """Of channels (`usage_5m`) or of groups (`area_1m`): an area's utility in one direction."""
    if base == "usage_5m":
        table = p.registry.channels(after=block * BLOCK, limit=BLOCK).select(
            ["id", "utility", "direction", "unit", "kind"]
        )
        rows = table.to_pylist()
        about = [{"channel": row["id"], "utility": row["utility"], "direction": row["direction"]} for row in rows]
        return Writer(
            block, [row["id"].encode() for row in rows], about, [UNITS[row["unit"]] for row in rows],
            [row["kind"] == "interval" for row in rows],
        )  # fmt: skip
    areas, units = p.registry.areas.names, {utility: area_unit(p, utility) for utility in Utility}
    keys, about, unit = [], [], []
    for group in range(block * BLOCK, min((block + 1) * BLOCK, 1 + A_GROUP * len(areas))):
        area, part = divmod(max(group - 1, 0), A_GROUP)
        utility, direction = Utility(part // 2), Direction(part % 2)
        name = areas[area] if group else ""  # group 0 is nobody's, and never has a row
        keys.append(f"{name}/{utility.name}/{direction.name}".encode())
        about.append({"area": name, "utility": utility.name, "direction": direction.name})
        unit.append(units[utility])
    return Writer(block, keys, about, unit, [True] * len(keys))
