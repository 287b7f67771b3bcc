"""Usage with the record over it: what stands instead of what was measured, and how good each window is.

`values=measured`, the default, is what meters said and nothing else; `values=effective` is what bills are made of. The quality of
a window is the worst of its intervals, so that one estimate in a day shows.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, eq=False)
class Effective:
    """What stands: windows, `grade` uint8[n] (an index into answers.WORDS; None where nothing has a record, which is raw), and
    `is_replaced` bool[n]: windows with a reading that does not stand, whose least and largest tell nothing."""

    rows: Rows
    grade: np.ndarray | None = None
    is_replaced: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Changes:
    """k intervals that the record has something to say of."""

    start: np.ndarray  # int64[k], ms
    change: np.ndarray  # int64[k], effective minus measured, what is not known counting nothing
    rank: np.ndarray  # int64[k], an index into answers.WORDS
    is_known: np.ndarray  # bool[k]: it has an effective value
    is_replaced: np.ndarray  # bool[k]: it has a measured value that does not stand
    seconds: np.ndarray  # int64[k]

    def take(self, rows: np.ndarray) -> _Changes:
        return _Changes(*(getattr(self, name)[rows] for name in _Changes.__slots__))

    @classmethod
    def concat(cls, parts: list[_Changes]) -> _Changes:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))


def of_channel(
    p: Pipeline, rows: Rows, values: str, channel: int, zone: str, grain: str, start_ms: int, end_ms: int
) -> Effective:
    """The windows of a channel as `values` wants them."""
    low, high = aligned(zone, grain, start_ms, end_ms)
    if not _any_recorded(p, low, high):
        return Effective(rows)
    changes = _changes(p, channel, low, high, values)
    table = p.registry.table
    judged = is_judged(table.profiles, int(table.profile[channel]))
    readings = np.zeros(len(changes.start), np.int64)
    gone = np.flatnonzero(~changes.is_known & changes.is_replaced)
    if len(gone):  # what is not known any more is no reading of its window
        finest = p.usage_reader.channel(channel, zone, "5m", low, high)
        until = np.append(0, np.cumsum(finest.rows[:, 0]))
        first, after = (
            np.searchsorted(finest.start, changes.start[gone] + more) for more in (0, changes.seconds[gone] * 1000)
        )
        readings[gone] = until[after] - until[first]
    return _merged(p, rows, changes, readings, values, zone, grain, judged=judged)


def of_area(
    p: Pipeline, rows: Rows, values: str, area: int, utility: int, direction: int, zone: str, grain: str, start_ms: int, end_ms: int
) -> Effective:  # fmt: skip
    """The same of an area; where anything of a window is not measured it counts as estimated."""
    low, high = aligned(zone, grain, start_ms, end_ms)
    if not _any_recorded(p, low, high):
        return Effective(rows)
    start, change = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if values == "effective":
        group = group_index(area, utility, direction)
        parts = p.store.series("area_record", group, low - low % DAY_MS, high, WINDOW_MS)
        start = np.concatenate([start, *(part.start for part in parts)])
        change = np.concatenate([change, *(part.rows[:, 1] for part in parts)])
        here = (start >= low) & (start < high)
        start, change = start[here], change[here]
    n, none = len(start), np.zeros(len(start), np.int64)
    changes = _Changes(start, change, np.full(n, _ESTIMATED), np.ones(n, bool), np.zeros(n, bool), none)
    return _merged(p, rows, changes, none, values, zone, grain, judged=True)


def _any_recorded(p: Pipeline, low: int, high: int) -> bool:
    days = p.rebuilder.recording.days
    return any(day in days for day in range(low // DAY_MS, -(-high // DAY_MS)))


def _changes(p: Pipeline, channel: int, low: int, high: int, values: str) -> _Changes:
    start, overlay = overlay_rows(p, channel, low, high)
    is_known, was = overlay.quality != MISSING, overlay.has_measured
    rank = np.where(is_known, _RANK[overlay.quality & 0xFF], _QUESTIONABLE)
    is_replaced = was & (~is_known | (overlay.change != 0))
    if values == "measured":  # what was replaced is in doubt; what was filled is no reading
        rank = np.where(is_replaced, _QUESTIONABLE, rank)
        nothing = np.zeros(len(start), np.int64)
        return _Changes(start, nothing, rank, is_known, nothing > 0, overlay.seconds).take(was)
    parts = [_Changes(start, overlay.change, rank, is_known, is_replaced, overlay.seconds)]
    for day in p.rebuilder.recording.waiting(low // DAY_MS, -(-high // DAY_MS)):
        # The record is older than what was measured or decided since.
        first, after = max(day * DAY_MS, low), min((day + 1) * DAY_MS, high)
        parts = [part.take((part.start < first) | (part.start >= after)) for part in parts]
        s = standing(p, channel, first, after)
        known, read = s.quality != MISSING, s.measured_quality != MISSING
        change = np.where(known, s.effective, 0) - np.where(read, s.measured, 0)
        rank = np.where(known, _RANK[s.quality & 0xFF], _QUESTIONABLE)
        seconds = np.full(len(known), s.step_ms // 1000, np.int64)
        told = _Changes(s.start, change, rank, known, read & (~known | (change != 0)), seconds)
        parts.append(told.take(known | read))
    return _Changes.concat(parts)


def _merged(
    p: Pipeline,
    rows: Rows,
    changes: _Changes,
    readings: np.ndarray,
    values: str,
    zone: str,
    grain: str,
    *,
    judged: bool,
) -> Effective:
    """`readings` int64[k]: of how many readings an interval was made that is not known now."""
    window = _window_of(changes.start, zone, grain)
    if values == "effective":
        every = np.union1d(rows.start, window)
        merged = np.zeros((len(every), rows.rows.shape[1]), np.int64)
        batch = np.ones(len(every), bool)
        at = np.searchsorted(every, rows.start)
        merged[at], batch[at] = rows.rows, rows.batch
        at = np.searchsorted(every, window)
        np.add.at(merged[:, 1], at, changes.change)
        np.subtract.at(merged[:, 0], at, readings)
        stands = merged[:, 0] > 0
        stands[at[changes.is_known]] = True  # unknown is never zero: a window of nothing that is known has no row
        rows = Rows(every[stands], merged[stands], batch[stands])
    if not len(rows.start):
        return Effective(rows, np.zeros(0, np.uint8))
    # A local day of 25 hours has its last hour in the same UTC day or the next.
    first, last = rows.start // DAY_MS, (rows.start + (GRAINS[grain] - WINDOW_MS)) // DAY_MS
    noted = p.rebuilder.recording.days
    recorded = np.array([day in noted for day in range(int(first[0]), int(last[-1]) + 1)])
    whole = recorded[first - first[0]] & recorded[last - first[0]]
    worst = np.where(whole & judged, 0, 1)
    at = np.minimum(np.searchsorted(rows.start, window), len(rows.start) - 1)
    inside = rows.start[at] == window
    np.maximum.at(worst, at[inside], changes.rank[inside])
    is_replaced = np.zeros(len(rows.start), bool)
    is_replaced[at[inside & changes.is_replaced]] = True
    return Effective(rows, worst.astype(np.uint8), is_replaced)


def _window_of(start: np.ndarray, zone: str, grain: str) -> np.ndarray:
    """int64[k]: the start of the window that holds each instant."""
    if grain != "1d" or not len(start):
        return start // GRAINS[grain] * GRAINS[grain]
    first, last = int(start.min()) // DAY_MS - 2, int(start.max()) // DAY_MS + 2
    days = np.array([local_midnight(zone, day) for day in range(first, last + 1)], np.int64)
    return days[np.searchsorted(days, start, "right") - 1]
