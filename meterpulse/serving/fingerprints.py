"""Fingerprints of derived tables, a UTC day and a view each: whether a rebuild brought everything back, to the last bit.

A fingerprint is BLAKE2b over what is served, not over files: the windows that have readings, with their numbers, in order. So it
does not depend on which layer made a window, on the order of arrival, or on how a chunk is packed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from meterpulse.batch.loadprofiles import is_judged
from meterpulse.model.problem import Problem
from meterpulse.model.quality import RAW, Quality
from meterpulse.model.window import DAY_MS, day_of_text, day_text
from meterpulse.serving.repair import repairs
from meterpulse.stores import BLOCK, CHUNK_STEPS, SPARSE_STEPS
from meterpulse.stores.overlay import Overlay

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
        for view in (*CHUNK_STEPS, *SPARSE_STEPS):
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
            place, rows = _rows(p, view, block, start)
            if not len(rows):
                continue
            digest.update(np.array((block, start), "<i8").tobytes())
            digest.update(np.ascontiguousarray(np.column_stack((place, rows)), "<i8").tobytes())
            count += len(rows)
    return count, digest.hexdigest()


def _rows(p: Pipeline, view: str, block: int, start_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64[n], key within the block and step as one number; int64[n, measures]) of a chunk's rows."""
    nothing = np.empty(0, np.int64), np.empty((0, 1), np.int64)
    if view in SPARSE_STEPS:
        sparse = p.store.sparse(view, block, start_ms)
        if sparse is None:
            return nothing
        if view == "record":
            return _stands(p, Overlay.decoded(sparse.places, sparse.rows), block)
        return sparse.places.astype(np.int64), sparse.rows
    chunk = p.store.chunk(view, block, start_ms)
    if chunk is None:
        return nothing
    key, step = np.nonzero(chunk.rows[:, :, 0])
    return key * chunk.rows.shape[1] + step, chunk.rows[key, step]


def _stands(p: Pipeline, overlay: Overlay, block: int) -> tuple[np.ndarray, np.ndarray]:
    """The record without when it was learned, and without rows that are only there to tell that: values as they were measured,
    of the quality that a value without a row has."""
    table = p.registry.table
    judged = np.array([is_judged(table.profiles, n) for n in range(len(table.profiles.kind))], bool)
    usual = np.where(judged[np.asarray(table.profile)[block * BLOCK + overlay.key]], int(Quality.VALIDATED), RAW)
    plain = overlay.has_measured & (overlay.quality == usual) & (overlay.change == 0) & (overlay.method == 0)
    told = overlay.take(np.flatnonzero(~plain))
    return told.place.astype(np.int64), told.encoded()[:, :5]
