"""What the record said at any time: the versions of a channel's intervals, from the lake's history and the record as it is.

The history begins when a day is recorded for the first time. A version stands from the second at which it was learned until
another took its place; decisions of people count from the moment they were made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from meterpulse.batch.recordblock import EDIT
from meterpulse.lake import CorruptFile
from meterpulse.lake.history import files_of, versions
from meterpulse.model.problem import Problem
from meterpulse.model.window import DAY_MS
from meterpulse.serving.values import Standing, standing
from meterpulse.worklist.edits import Decision
from meterpulse.worklist.proposals import MISSING

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline


@dataclass(frozen=True, slots=True, eq=False)
class Versions:
    """k versions of intervals, by start and by when they were learned. Quantities in thousandths of the base unit; qualities
    packed, MISSING where there is no value."""

    start: np.ndarray  # int64[k], ms
    seconds: np.ndarray  # int64[k]
    measured: np.ndarray  # int64[k]
    has_measured: np.ndarray  # bool[k]
    quantity: np.ndarray  # int64[k]
    quality: np.ndarray  # int32[k]
    method: list[str]
    known_s: np.ndarray  # int64[k], seconds since 1970
    until_s: np.ndarray  # int64[k]; 0: it stands
    who: list[tuple[str, str] | None]  # author and reason of a person's decision

    def __len__(self) -> int:
        return len(self.start)


def standing_as_of(p: Pipeline, channel: int, start_ms: int, end_ms: int, as_of_ms: int) -> Standing:
    """Every interval of the record that starts in [start_ms, end_ms) as it was told at a time; without a value where nothing
    was known of it then."""
    now, then_s = standing(p, channel, start_ms, end_ms, as_of_ms), as_of_ms // 1000
    measured, graded = now.measured.copy(), now.measured_quality.copy()
    effective, quality, known_s, method = now.effective.copy(), now.quality.copy(), now.known_s.copy(), now.method[:]
    unknown = (known_s == 0) | (known_s > then_s)
    graded[unknown], quality[unknown] = MISSING, MISSING
    past = _past(p, channel, start_ms, end_ms)
    stood = (past.known_s <= then_s) & (then_s < past.until_s)
    place, odd = np.divmod(past.start - start_ms, now.step_ms)
    for i in np.flatnonzero(stood & (odd == 0) & (past.seconds * 1000 == now.step_ms)).tolist():
        at = int(place[i])
        measured[at], graded[at] = past.measured[i], (now.measured_quality[at] if past.has_measured[i] else MISSING)
        if past.has_measured[i] and graded[at] == MISSING:
            graded[at] = past.quality[i] if past.quality[i] != MISSING else 0
        effective[at], quality[at], known_s[at] = past.quantity[i], past.quality[i], past.known_s[i]
        method[at] = past.method[i]
    edits = p.desk.edits.edits_for((channel, channel + 1), start_ms, end_ms, as_of_ms)
    at = (edits.start_ms - start_ms) // now.step_ms
    known = graded != MISSING
    values = np.where(known, measured, effective)
    stands = edits.apply(values[None], quality[None], known[None], (np.zeros(len(edits), np.int64), at))
    effective[at[stands]] = values[at[stands]]
    for i in at[stands].tolist():
        method[i] = EDIT
    return replace(
        now,
        measured=measured,
        measured_quality=graded,
        effective=effective,
        quality=quality,
        known_s=known_s,
        method=method,
    )


def versions_of(p: Pipeline, channel: int, start_ms: int, end_ms: int) -> Versions:
    """Every version of the intervals that start in [start_ms, end_ms), those that stand included."""
    now, past = standing(p, channel, start_ms, end_ms), _past(p, channel, start_ms, end_ms)
    shown = np.flatnonzero((now.quality != MISSING) | (now.measured_quality != MISSING))
    n = len(shown)
    start = np.concatenate([past.start, now.start[shown]])
    known = np.concatenate([past.known_s, now.known_s[shown]])
    order = np.lexsort((known, start))
    method = [*past.method, *(now.method[at] for at in shown.tolist())]

    def both(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([old, new])[order]

    until = both(past.until_s, np.zeros(n, np.int64))
    named = [method[at] for at in order.tolist()]
    return Versions(
        start[order],
        both(past.seconds, np.full(n, now.step_ms // 1000)),
        both(past.measured, now.measured[shown]),
        both(past.has_measured, now.measured_quality[shown] != MISSING),
        both(past.quantity, now.effective[shown]),
        both(past.quality, now.quality[shown]),
        named,
        known[order],
        until,
        _who(p.desk.edits.decisions(channel, start_ms, end_ms), named, start[order], known[order], until),
    )


def _who(
    decisions: list[Decision], method: list[str], start: np.ndarray, known_s: np.ndarray, until_s: np.ndarray
) -> list[tuple[str, str] | None]:
    """Of each version whose method is "edit" the newest decision in force when it was recorded; of one that stands, now."""
    who: list[tuple[str, str] | None] = [None] * len(start)
    for i in (i for i, name in enumerate(method) if name == EDIT):
        own = [d for d in decisions if d.start_ms <= start[i] < d.end_ms]
        in_force = [d for d in own if d.undone_ms is None] if not until_s[i] else []
        since = int(known_s[i]) * 1000
        then = [d for d in own if d.at_ms < since + 1000 and (d.undone_ms is None or d.undone_ms > since)]
        if in_force or then:
            newest = (in_force or then)[-1]
            who[i] = newest.author, newest.reason
    return who


def _past(p: Pipeline, channel: int, start_ms: int, end_ms: int) -> Versions:
    """What does not stand any more; raises Problem 503 where that is damaged."""
    days = range(start_ms // DAY_MS, -(-end_ms // DAY_MS))
    try:
        rows = versions(files_of(p.data / "lake", days), channel)
    except CorruptFile as error:
        detail = "`meterpulse doctor` names the file. Without as_of and history the record is told as ever."
        raise Problem(503, "damaged", "A part of the history is damaged", detail) from error
    start = np.asarray(rows["start"].cast(pa.int64())) // 1000
    rows = rows.filter(pa.array((start >= start_ms) & (start < end_ms)))

    def whole(name: str, missing: int) -> np.ndarray:
        return np.asarray(rows[name].fill_null(missing)).astype(np.int64)

    def seconds(name: str) -> np.ndarray:
        return np.asarray(rows[name].cast(pa.int64())) // 1_000_000

    return Versions(
        np.asarray(rows["start"].cast(pa.int64())) // 1000,
        whole("seconds", 0),
        whole("measured", 0),
        np.asarray(rows["measured"].is_valid()),
        whole("quantity", 0),
        whole("quality", MISSING).astype(np.int32),
        rows["method"].to_pylist(),
        seconds("known_from"),
        seconds("known_until"),
        [None] * len(rows),
    )
