"""Usage with the record over it: what stands instead of what was measured, and how good each window is.

`values=measured`, the default, is what meters said and nothing else; `values=effective` is what bills are made of. The quality of
a window is the worst of its intervals, so that one estimate in a day shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from meterpulse.batch.loadprofiles import is_judged
from meterpulse.model.groups import group_index
from meterpulse.model.quality import ESTIMATES, Quality
from meterpulse.model.window import DAY_MS, GRAINS, WINDOW_MS, local_midnight
from meterpulse.serving.usage import aligned
from meterpulse.serving.values import overlay_rows, standing
from meterpulse.stores import Rows
from meterpulse.stores.overlay import MISSING

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

# Of ESPI's codes, an index into answers.WORDS.
_RANK = np.full(256, 2, np.int64)
_RANK[[Quality.VALID, Quality.VALIDATED, Quality.VERIFIED, Quality.REVENUE]] = 0
_RANK[Quality.RAW], _RANK[Quality.EDITED], _RANK[Quality.QUESTIONABLE] = 1, 3, 5
_RANK[sorted(ESTIMATES)] = 4
_ESTIMATED, _QUESTIONABLE = 4, 5


def of_channel(
    p: Pipeline, rows: Rows, values: str, channel: int, zone: str, grain: str, start_ms: int, end_ms: int
) -> tuple[Rows, np.ndarray | None]:
    """The windows of a channel as `values` wants them, and the grade of each; None where nothing of it has a record (raw)."""
    low, high = aligned(zone, grain, start_ms, end_ms)
    if not _any_recorded(p, low, high):
        return rows, None
    start, change, rank = _changes(p, channel, low, high, values)
    table = p.registry.table
    judged = is_judged(table.profiles, int(table.profile[channel]))
    return _merged(p, rows, start, change, rank, values, zone, grain, judged=judged)


def of_area(
    p: Pipeline, rows: Rows, values: str, area: int, utility: int, direction: int, zone: str, grain: str, start_ms: int, end_ms: int
) -> tuple[Rows, np.ndarray | None]:  # fmt: skip
    """The same of an area; where anything of a window is not measured it counts as estimated."""
    low, high = aligned(zone, grain, start_ms, end_ms)
    if not _any_recorded(p, low, high):
        return rows, None
    start, change = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if values == "effective":
        group = group_index(area, utility, direction)
        parts = p.store.series("area_record", group, low - low % DAY_MS, high, WINDOW_MS)
        start = np.concatenate([start, *(part.start for part in parts)])
        change = np.concatenate([change, *(part.rows[:, 1] for part in parts)])
        here = (start >= low) & (start < high)
        start, change = start[here], change[here]
    return _merged(p, rows, start, change, np.full(len(start), _ESTIMATED), values, zone, grain, judged=True)


def _any_recorded(p: Pipeline, low: int, high: int) -> bool:
    days = p.rebuilder.recording.days
    return any(day in days for day in range(low // DAY_MS, -(-high // DAY_MS)))


def _changes(p: Pipeline, channel: int, low: int, high: int, values: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(start int64[k], effective minus measured int64[k], rank int64[k]) of the intervals with something to say."""
    start, overlay = overlay_rows(p, channel, low, high)
    has_value = overlay.quality != MISSING
    rank = np.where(has_value, _RANK[overlay.quality & 0xFF], _QUESTIONABLE)
    if values == "measured":  # what was replaced is in doubt; what was filled is no reading
        own = overlay.has_measured
        rank = np.where(overlay.change != 0, _QUESTIONABLE, rank)[own]
        return start[own], np.zeros(len(rank), np.int64), rank
    parts = [(start, overlay.change, rank)]
    for day in p.rebuilder.recording.waiting(low // DAY_MS, -(-high // DAY_MS)):
        # The record is older than what was measured or decided since.
        first, after = max(day * DAY_MS, low), min((day + 1) * DAY_MS, high)
        parts = [tuple(c[(s < first) | (s >= after)] for c in (s, d, r)) for s, d, r in parts]  # type: ignore[misc]
        s = standing(p, channel, first, after)
        stands = s.quality != MISSING
        was = np.where(s.measured_quality != MISSING, s.measured, 0)
        parts.append((s.start[stands], (s.effective - was)[stands], _RANK[s.quality[stands] & 0xFF]))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))  # type: ignore[return-value]


def _merged(
    p: Pipeline,
    rows: Rows,
    start: np.ndarray,
    change: np.ndarray,
    rank: np.ndarray,
    values: str,
    zone: str,
    grain: str,
    *,
    judged: bool,
) -> tuple[Rows, np.ndarray]:
    window = _window_of(start, zone, grain)
    if values == "effective":
        every = np.union1d(rows.start, window)
        merged = np.zeros((len(every), rows.rows.shape[1]), np.int64)
        batch = np.ones(len(every), bool)
        at = np.searchsorted(every, rows.start)
        merged[at], batch[at] = rows.rows, rows.batch
        np.add.at(merged[:, 1], np.searchsorted(every, window), change)
        rows = Rows(every, merged, batch)
    if not len(rows.start):
        return rows, np.zeros(0, np.uint8)
    # A local day of 25 hours has its last hour in the same UTC day or the next.
    first, last = rows.start // DAY_MS, (rows.start + (GRAINS[grain] - WINDOW_MS)) // DAY_MS
    noted = p.rebuilder.recording.days
    recorded = np.array([day in noted for day in range(int(first[0]), int(last[-1]) + 1)])
    whole = recorded[first - first[0]] & recorded[last - first[0]]
    worst = np.where(whole & judged, 0, 1)
    at = np.minimum(np.searchsorted(rows.start, window), len(rows.start) - 1)
    inside = rows.start[at] == window
    np.maximum.at(worst, at[inside], rank[inside])
    return rows, worst.astype(np.uint8)


def _window_of(start: np.ndarray, zone: str, grain: str) -> np.ndarray:
    """int64[k]: the start of the window that holds each instant."""
    if grain != "1d" or not len(start):
        return start // GRAINS[grain] * GRAINS[grain]
    first, last = int(start.min()) // DAY_MS - 2, int(start.max()) // DAY_MS + 2
    days = np.array([local_midnight(zone, day) for day in range(first, last + 1)], np.int64)
    return days[np.searchsorted(days, start, "right") - 1]
