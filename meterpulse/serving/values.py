"""Single intervals of a channel as people decide about them: what was measured, and what stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from meterpulse.model.quality import RAW
from meterpulse.model.window import DAY_MS, WINDOW_MS
from meterpulse.worklist.proposals import MISSING, Values

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline


def step_ms_of(p: Pipeline, channel: int) -> int:
    """How long an interval of the record is: the channel's own where that is at least five minutes and divides a day."""
    table = p.registry.table
    own = int(table.profiles.interval_seconds[int(table.profile[channel])]) * 1000
    return own if own >= WINDOW_MS and DAY_MS % own == 0 else WINDOW_MS


def values_of(p: Pipeline, channel: int, start_ms: int, end_ms: int) -> Values:
    """Every interval of the record that starts in [start_ms, end_ms); both are on its grid."""
    step = step_ms_of(p, channel)
    n = (end_ms - start_ms) // step
    raw, known = np.zeros(n, np.int64), np.zeros(n, bool)
    table = p.registry.table
    zone = table.profiles.zones[int(table.profiles.zone[int(table.profile[channel])])]
    rows = p.usage_reader.channel(channel, zone, "5m", start_ms, end_ms)
    at = (rows.start - start_ms) // step
    np.add.at(raw, at, rows.rows[:, 1])
    known[at] = True
    effective, quality = raw.copy(), np.where(known, RAW, MISSING).astype(np.int32)
    edits = p.desk.edits.edits_for((channel, channel + 1), start_ms, end_ms)
    place = (edits.start_ms - start_ms) // step
    edits.apply(effective[None], quality[None], known[None], (np.zeros(len(edits), np.int64), place))
    return Values(start_ms, step, raw, np.where(known, RAW, MISSING).astype(np.int32), effective, quality)
