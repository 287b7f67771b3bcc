"""Single intervals of a channel: what was measured, and what stands after validation, estimation and edits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from meterpulse.batch.loadprofiles import is_judged, step_ms
from meterpulse.batch.record import methods_of
from meterpulse.batch.recordblock import EDIT
from meterpulse.model.channel import Kind
from meterpulse.model.quality import RAW, Quality
from meterpulse.model.window import DAY_MS, WINDOW_MS
from meterpulse.stores.overlay import Overlay, Recorded
from meterpulse.worklist.proposals import MISSING, Values

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Consecutive intervals of a channel's record, n of them. Quantities in thousandths of the base unit; qualities packed,
    MISSING where there is no value."""

    start_ms: int
    step_ms: int
    measured: np.ndarray  # int64[n]
    measured_quality: np.ndarray  # int32[n]
    effective: np.ndarray  # int64[n]
    quality: np.ndarray  # int32[n]
    method: list[str]  # an estimator's name, "edit", or ""
    known_s: np.ndarray  # int64[n], seconds since 1970; 0 where the day has no record yet

    @property
    def start(self) -> np.ndarray:
        """int64[n], ms."""
        return self.start_ms + np.arange(len(self.measured), dtype=np.int64) * self.step_ms


def step_ms_of(p: Pipeline, channel: int) -> int:
    """How long an interval of the record is: the channel's own where that is at least five minutes and divides a day."""
    table = p.registry.table
    return step_ms(table.profiles, int(table.profile[channel]))


def values_of(p: Pipeline, channel: int, start_ms: int, end_ms: int) -> Values:
    """Every interval of the record that starts in [start_ms, end_ms); both are on its grid."""
    s = standing(p, channel, start_ms, end_ms)
    return Values(start_ms, s.step_ms, s.measured, s.measured_quality, s.effective, s.quality)


def standing(p: Pipeline, channel: int, start_ms: int, end_ms: int, as_of_ms: int | None = None) -> Standing:
    """The same with how each value came about. Edits stand from the moment of their decision, before their day is recorded
    again. `as_of_ms`: edits that were in force then."""
    measured, graded, step = _measured(p, channel, start_ms, end_ms)
    n, known = len(measured), graded != MISSING
    table = p.registry.table
    judged = is_judged(table.profiles, int(table.profile[channel]))
    first_day = start_ms // DAY_MS
    recorded = p.rebuilder.recording.days
    noted = [recorded.get(day) for day in range(first_day, -(-end_ms // DAY_MS))]
    day_of = (start_ms + np.arange(n, dtype=np.int64) * step) // DAY_MS - first_day
    known_s = (
        np.array([0 if one is None else one.known_s for one in noted], np.int64)[day_of] if n else np.zeros(0, int)
    )
    plain = np.where(known_s > 0, int(Quality.VALIDATED), graded) if judged else graded
    effective, quality = measured.copy(), np.where(known, plain, MISSING).astype(np.int32)
    method = [""] * n
    start, overlay = overlay_rows(p, channel, start_ms, end_ms)
    place = (start - start_ms) // step
    # What came since the day was recorded goes before what the record said of it.
    up_to_date = overlay.has_measured & (measured[place] == overlay.measured) | ~known[place]
    fits = up_to_date & (overlay.seconds * 1000 == step) & ((start - start_ms) % step == 0)
    place, overlay = place[fits], overlay.take(fits)
    expired = overlay.has_measured & ~known[place]  # single windows are not kept as long as the record
    measured[place[expired]], graded[place[expired]] = overlay.measured[expired], RAW
    effective[place], quality[place], known_s[place] = overlay.quantity, overlay.quality, overlay.known_s
    names = {day: methods_of(noted[day] or Recorded(0)).methods for day in np.unique(day_of[place]).tolist()}
    for at, which in zip(place.tolist(), overlay.method.tolist(), strict=True):
        method[at] = names[int(day_of[at])][which]
    known = graded != MISSING
    edits = p.desk.edits.edits_for((channel, channel + 1), start_ms, end_ms, as_of_ms)
    at = (edits.start_ms - start_ms) // step
    values = np.where(known, measured, effective)
    stands = edits.apply(values[None], quality[None], known[None], (np.zeros(len(edits), np.int64), at))
    effective[at[stands]] = values[at[stands]]
    for i in at[stands].tolist():
        method[i] = EDIT
    return Standing(start_ms, step, measured, graded, effective, quality, method, known_s)


def overlay_rows(p: Pipeline, channel: int, start_ms: int, end_ms: int) -> tuple[np.ndarray, Overlay]:
    """What the record says of a channel's intervals that start in [start_ms, end_ms): their starts int64[k], and the rows;
    raises CorruptChunk."""
    parts = p.store.series("record", channel, start_ms - start_ms % DAY_MS, end_ms, WINDOW_MS)
    start = np.concatenate([np.zeros(0, np.int64), *(part.start for part in parts)])
    rows = np.concatenate([np.zeros((0, 6), np.int64), *(part.rows for part in parts)])
    here = (start >= start_ms) & (start < end_ms)
    return start[here], Overlay.decoded(np.zeros(int(here.sum()), np.uint32), rows[here])


def _measured(p: Pipeline, channel: int, start_ms: int, end_ms: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(quantity int64[n], quality int32[n], step in ms): sums of intervals, means of gauges (a half rounded to even), the last
    read of registers."""
    step = step_ms_of(p, channel)
    n = (end_ms - start_ms) // step
    table = p.registry.table
    number = int(table.profile[channel])
    zone, kind = table.profiles.zones[int(table.profiles.zone[number])], int(table.profiles.kind[number])
    rows = p.usage_reader.channel(channel, zone, "5m", start_ms, end_ms)
    at = (rows.start - start_ms) // step
    quantity, count = np.zeros(n, np.int64), np.zeros(n, np.int64)
    np.add.at(count, at, rows.rows[:, 0])
    if kind == Kind.register:
        quantity[at] = rows.rows[:, 4]
    else:
        np.add.at(quantity, at, rows.rows[:, 1])
    if kind == Kind.gauge:
        reads = np.maximum(count, 1)
        mean, rest = quantity // reads, quantity % reads
        quantity = mean + ((2 * rest > reads) | ((2 * rest == reads) & (mean % 2 == 1)))
    said = np.full((end_ms - start_ms) // WINDOW_MS, RAW, np.int64)
    for part in p.store.series("grades", channel, start_ms - start_ms % DAY_MS, end_ms, WINDOW_MS):
        here = (part.start >= start_ms) & (part.start < end_ms)
        said[(part.start[here] - start_ms) // WINDOW_MS] = part.rows[here, 0] - 1
    own = said[(rows.start - start_ms) // WINDOW_MS]
    low, high = np.full(n, 1 << 40), np.full(n, -1)
    np.minimum.at(low, at, own)
    np.maximum.at(high, at, own)
    quality = np.where(count == 0, MISSING, np.where(low == high, high, int(Quality.MIXED)))
    return quantity, quality.astype(np.int32), step
