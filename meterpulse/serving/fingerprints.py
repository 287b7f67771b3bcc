"""Fingerprints of derived tables, a UTC day and a view each: whether a rebuild brought everything back, to the last bit.

A fingerprint is BLAKE2b over what is served, not over files: the windows that have readings, with their numbers, in order. So it
does not depend on which layer made a window, on the order of arrival, or on how a chunk is packed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from meterpulse.model.problem import Problem
from meterpulse.model.window import DAY_MS, day_of_text, day_text
from meterpulse.serving.repair import repairs
from meterpulse.stores import BLOCK, CHUNK_STEPS

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline


@repairs
def fingerprints(p: Pipeline, start: str | None, end: str | None) -> dict[str, Any]:
    """The JSON of /v1/fingerprints: UTC days from `start` up to `end` (not included), every day of the lake where they are None.

    Raises Problem 422 for a text that is no day.
    """
    try:
        low, high = (None if text is None else day_of_text(text) for text in (start, end))
    except ValueError:
        raise Problem(422, "day", "Not a day", "start and end take UTC days such as 2026-03-08.") from None
    days = [day for day in sorted(p.lake.ask("days")) if (low is None or day >= low) and (high is None or day < high)]
    whole, rows = hashlib.blake2b(digest_size=16), []
    for day in days:
        for view in CHUNK_STEPS:
            count, digest = _of(p, view, day)
            if count:
                whole.update(f"{day} {view} {digest}".encode())
                rows.append({"day": day_text(day), "view": view, "rows": count, "fingerprint": digest})
    return {"fingerprint": whole.hexdigest(), "rows": rows}


def _of(p: Pipeline, view: str, day: int) -> tuple[int, str]:
    """How many rows a view has on a day, and their digest."""
    keys = p.keys.group_count() if view.startswith("area") else p.registry.table.count
    digest, count = hashlib.blake2b(digest_size=16), 0
    for block in range(-(-keys // BLOCK)):
        for start in p.store.starts(view, block, day * DAY_MS, (day + 1) * DAY_MS):
            chunk = p.store.chunk(view, block, start)
            if chunk is None:
                continue
            key, step = np.nonzero(chunk.rows[:, :, 0])
            rows = chunk.rows[key, step]
            place = np.column_stack((block * BLOCK + key, step, np.full(len(key), start)))
            digest.update(np.ascontiguousarray(np.column_stack((place, rows)), "<i8").tobytes())
            count += len(rows)
    return count, digest.hexdigest()
