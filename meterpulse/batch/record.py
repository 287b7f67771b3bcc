"""The record of a day: one effective value per channel and interval. Measured, then validated, estimated, edited.

A day's record is a function of what was measured from two months before it to the day after it (and around the same date a year
ago), of the rules, and of the edits in force; so it can be made again at any time and is the same. It is made a block of
channels at a time, and only what differs from "measured, and validated" is written (see stores/overlay.py).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from meterpulse.batch.differences import of_record, record_note_of
from meterpulse.batch.exceptions import together
from meterpulse.batch.loadprofiles import judged_keys
from meterpulse.batch.recordblock import EDIT, City, Made, Maker
from meterpulse.model.crashpoint import crash_point
from meterpulse.model.groups import fold_up
from meterpulse.model.priority import CARRYING, step_back
from meterpulse.model.quality import RAW, Quality
from meterpulse.model.window import DAY_MS, WINDOW_MS
from meterpulse.stores import BLOCK, Sparse, Store
from meterpulse.stores.overlay import MISSING, STEPS, Overlay, Recorded, overlay_of
from meterpulse.vee.estimation import estimators
from meterpulse.worklist import Found

Keep = Callable[[int, pa.Table], None]  # (day, versions as lake.history.SCHEMA): durable on return
Install = Callable[[Callable[[], None]], None]
Offer = Callable[[int, Found, tuple[int, int]], None]  # (day, what fails, channels [low, high))


@dataclass(frozen=True, slots=True)
class RecordReport:
    """What became of a day: intervals that are not simply measured and validated, and what failed."""

    day: int
    rows: int
    findings: int
    seconds: float


def record(
    day: int,
    city: City,
    store: Store,
    install: Install,
    offer: Offer,
    keep: Keep,
    now_ms: int,
    *,
    is_followed: bool,
    blocks: list[int] | None = None,
) -> RecordReport:
    """Makes the record of a UTC day whose windows are in the store, of all blocks of channels or of some.

    `is_followed`: the day after it is in the store too, so that this is made of all that it depends on. `install` runs a write
    while nobody else writes windows; what the record said before is with `keep` before it is forgotten. The note of the day comes
    last: one that was cut short is not recorded, or as it was. Raises CorruptChunk.
    """
    began, now_s = time.perf_counter(), now_ms // 1000
    noted = store.note(f"record/{day}")
    recorded = methods_of(Recorded(now_s) if noted is None else Recorded.of(noted))
    maker = Maker(day, city, store, recorded, now_s)
    wanted = [b for b in range(-(-city.table.count // BLOCK)) if maker.concerns(b)] if blocks is None else blocks
    rows = findings = 0
    versions = dict(recorded.versions)
    with ThreadPoolExecutor(city.threads, "record", initializer=step_back, initargs=(CARRYING,)) as pool:
        for block, made in zip(wanted, _in_order(pool, maker.block, wanted, city.threads + 1), strict=True):
            keys = min(BLOCK, city.table.count - block * BLOCK)
            after = _with_times(made.before, made.overlay)
            if not (made.is_sound and after.equals(made.before)):
                name = record_note_of(day, block)
                profile = np.asarray(city.table.profile[block * BLOCK : block * BLOCK + keys])
                others = [n for n, v in made.versions.items() if recorded.versions.get(n, v) != v]
                told = of_record(
                    store.note(name),
                    made.before,
                    after,
                    block,
                    recorded.methods.index(EDIT),
                    np.isin(profile, others),
                    now_ms,
                )
                gone = superseded(day, block, made, after, noted, recorded, city, now_s)
                if len(gone):
                    keep(day, gone)
                    crash_point("record.kept")
                install(partial(store.write, [after.chunk(block, day, keys)], notes={name: told}))
            found = together(made.found)
            offer(day, found, (block * BLOCK, block * BLOCK + keys))
            rows, findings = rows + len(after), findings + len(found)
            versions |= made.versions
            crash_point("record.block")
    recorded = replace(recorded, versions=versions, is_followed=is_followed)
    notes = {f"record/{day}": recorded.text(), f"redo/{day}": b""}
    install(partial(store.write, _area_chunks(day, city, store), notes=notes))
    crash_point("record.day")
    return RecordReport(day, rows, findings, time.perf_counter() - began)


def methods_of(recorded: Recorded) -> Recorded:
    """With the names of all that rows may say made them, also of blocks that are recorded before their day is noted."""
    return recorded.with_methods([EDIT, *sorted(estimators())])


def _in_order(pool: ThreadPoolExecutor, work: Callable[[int], Made], items: list[int], ahead: int) -> Iterator[Made]:
    """Results in the order of the items, of which only a few are worked on ahead of who takes them."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _with_times(before: Overlay, after: Overlay) -> Overlay:
    """What is as it was keeps the time at which it was learned."""
    at = np.minimum(np.searchsorted(before.place, after.place), max(len(before) - 1, 0))
    if not len(before) or not len(after):
        return after
    same = before.place[at] == after.place
    for name in ("seconds", "quantity", "quality", "measured", "has_measured", "method"):
        same &= getattr(before, name)[at] == getattr(after, name)
    return replace(after, known_s=np.where(same, before.known_s[at], after.known_s))


def superseded(
    day: int, block: int, made: Made, after: Overlay, noted: bytes | None, recorded: Recorded, city: City, now_s: int
) -> pa.Table:
    """The versions of a block's intervals that end now, as lake.history.SCHEMA: rows that are others or gone, and of intervals
    without a row until now what was measured, if the day had a record."""
    before = made.before
    at = np.minimum(np.searchsorted(after.place, before.place), max(len(after) - 1, 0))
    stays = np.zeros(len(before), bool)
    if len(after):
        stays = (after.place[at] == before.place) & (after.known_s[at] == before.known_s)
    parts = [before.take(~stays)]
    if noted is not None and made.is_sound:
        fresh = after.take(after.has_measured & ~np.isin(after.place, before.place))
        judged = judged_keys(city.table, block)[fresh.key]
        n = len(fresh)
        plain = np.where(judged, int(Quality.VALIDATED), RAW).astype(np.int32)
        since = np.full(n, Recorded.of(noted).known_s, np.int64)
        parts.append(
            replace(fresh, quantity=fresh.measured, quality=plain, method=np.zeros(n, np.int64), known_s=since)
        )
    gone = Overlay.concat(parts)
    gone = gone.take(gone.known_s < now_s)  # what stood for less than a second was never told
    methods = pa.array(recorded.methods, pa.string()).take(pa.array(gone.method))
    has_value = gone.quality != MISSING
    return pa.table(
        {
            "channel": (block * BLOCK + gone.key).astype(np.int32),
            "start": pa.array((day * DAY_MS + gone.step * WINDOW_MS) * 1000, pa.timestamp("us", "UTC")),
            "seconds": gone.seconds.astype(np.int32),
            "quantity": pa.array(gone.quantity, mask=~has_value),
            "quality": pa.array(gone.quality, mask=~has_value),
            "measured": pa.array(gone.measured, mask=~gone.has_measured),
            "method": methods,
            "known_from": pa.array(gone.known_s * 1_000_000, pa.timestamp("us", "UTC")),
            "known_until": pa.array(np.full(len(gone), now_s * 1_000_000), pa.timestamp("us", "UTC")),
        }
    )


def _area_chunks(day: int, city: City, store: Store) -> list[Sparse]:
    """What the record changes in the totals of groups: (how many intervals, by how much) per group and 5-minute step."""
    group_of, rows = city.group_of, np.zeros((int(city.group_of.max(initial=0)) + 1, STEPS, 4), np.int64)
    for block in range(-(-city.table.count // BLOCK)):
        overlay = overlay_of(store, block, day)
        overlay = overlay.take(overlay.change != 0)
        group = group_of[block * BLOCK + overlay.key] if len(overlay) else np.empty(0, np.uint32)
        np.add.at(rows[:, :, 0], (group, overlay.step), 1)
        np.add.at(rows[:, :, 1], (group, overlay.step), overlay.change)
    rows[0] = 0  # nobody's
    rows = fold_up(rows, city.parents)
    chunks = []
    for block in range(-(-len(rows) // BLOCK)):
        part = rows[block * BLOCK : (block + 1) * BLOCK]
        places = np.flatnonzero(part[:, :, 0].reshape(-1)).astype(np.uint32)
        own = part.reshape(-1, 4)[places][:, :2]
        chunks.append(Sparse("area_record", block, day * DAY_MS, len(part), places, own))
    return chunks
