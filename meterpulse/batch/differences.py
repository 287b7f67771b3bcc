"""Where a rebuild replaces what people were answered before: by how much, and why.

A **difference** is a window of a channel whose row from batch is not the row that speed had. It is found as the rows are
written, in the same transaction, so that a crash neither forgets nor doubles it; over several rebuilds of a day it always
compares with speed's own answer. Its cause is proven and not assumed:

- late: batch has more readings, as many at most as speed has laid aside for that window, and where it has all of these, its
  sum is larger by exactly their sum, and nothing that stood before was lost from minimum and maximum;
- revision: a reading with a revision above 0 stands there, and speed had laid readings aside for it;
- duplicate: as many readings with other values, because an imported one came first and the later one does not count;
- recovery: the day is rebuilt because something was lost or damaged, and what stood there proves nothing;
- unexplained: anything else. One of the layers is wrong.

What the record changes after that (see `record`) is told beside it by interval: estimate, edit, or rule change where another
version of the rules gave another value. There, speed is what was measured, and batch what is effective.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from meterpulse.model.aside import IMPORTED, LATE, REVISED, Known
from meterpulse.model.window import DAY_MS, HOUR_MS, WINDOW_MS, WINDOWS_A_DAY
from meterpulse.stores import BLOCK, Chunk, Store
from meterpulse.stores.overlay import MISSING, Overlay

CAUSES = ("late", "duplicate", "revision", "estimate", "edit", "rule change", "recovery", "unexplained")
NOTE = "difference"  # of the store: difference/<day>/<block>
_LATE, _DUPLICATE, _REVISION, _ESTIMATE, _EDIT, _RULE, _RECOVERY, UNEXPLAINED = range(len(CAUSES))
ROW = np.dtype(
    [
        ("channel", "<u4"),  # dense index
        ("window", "<u2"),  # of the UTC day: its first 5 minutes
        ("minutes", "<u2"),  # how long it is: 60 where the windows of 5 minutes had expired
        ("cause", "u1"),
        ("count", "<i4"),  # readings more than speed had
        ("batch", "<i8"),  # sum of the window as it is now, thousandths of the base unit
        ("delta", "<i8"),  # more than speed had
        ("found_ms", "<i8"),
    ]
)


@dataclass(frozen=True)
class Compared:
    """What a rebuild of a UTC day is compared with, and when: bool[288] windows that speed `held`, and those since it was
    `running` (from its first window on), what it has laid aside, and how many hours have no windows of 5 minutes any more."""

    held: np.ndarray
    running: np.ndarray
    known: Known
    now_ms: int
    expired_hours: int = 0

    @classmethod
    def of(
        cls, day: int, held: Mapping[int, int], known: Known, now_ms: int, expired_before_ms: int = -(1 << 62)
    ) -> Compared:
        """held: a bit for every window that speed answered, by day."""
        bits = np.array([held.get(day, 0) >> w & 1 for w in range(WINDOWS_A_DAY)], bool)
        began_before = any(other < day for other in held)
        hours = min(24, max(0, -(-(expired_before_ms - day * DAY_MS) // HOUR_MS)))
        return cls(bits, np.logical_or.accumulate(bits) | began_before, known, now_ms, hours)


@dataclass
class BlockDifferences:
    """The differences of one block of channels and one day, while its rows are written: revised uint8[channels, 288] and dropped
    int32[channels, 288] of the rebuild, and the note that was `kept` of the rebuild before."""

    day: int
    block: int
    revised: np.ndarray
    dropped: np.ndarray
    compared: Compared
    kept: bytes | None
    found: list[np.ndarray] = field(default_factory=list)

    def changed(self, old: Chunk | None, new: Chunk) -> None:
        """As `Store.write` calls it. Windows of 5 minutes are compared, and hours where these had expired."""
        expired = self.compared.expired_hours
        if new.view == "usage_5m" and new.start_ms >= self.day * DAY_MS + expired * HOUR_MS:
            self._compare(old, new, new.rows.shape[1], 5)
        elif new.view == "usage_1h" and old is not None:
            self._compare(old, new, expired, 60)

    def _compare(self, old: Chunk | None, new: Chunk, steps: int, minutes: int) -> None:
        before = np.zeros_like(new.rows)
        by_speed = np.zeros(new.rows.shape[1], bool)
        if old is not None:
            n, m = min(len(new.rows), len(old.rows)), min(new.rows.shape[1], old.rows.shape[1])
            before[:n, :m], steps = old.rows[:n, :m], min(steps, m)  # beside a single window there may be others
            by_speed[:m] = [not old.batch >> s & 1 for s in range(m)]
        wide, begin = minutes // 5, (new.start_ms - self.day * DAY_MS) // WINDOW_MS
        # Days that are imported whole, with no speed layer at work in them, are not compared row by row.
        if not (by_speed.any() or self.compared.running[begin : begin + wide * steps].any()):
            return
        own, step = np.nonzero((before[:, :steps] != new.rows[:, :steps]).any(axis=2))
        if not len(own):
            return
        first = begin + step * wide
        was, now, channel = before[own, step], new.rows[own, step], new.block * BLOCK + own
        windows = first[:, None] + np.arange(wide)
        late = self._laid_aside(LATE, channel, first, wide)[0]
        # What an import brings for a window that speed never answered differs from nothing that was shown.
        answered = (
            by_speed[step] | self.compared.held[windows].any(axis=1) | (self.compared.running[first] & (late > 0))
        )
        rows = np.zeros(len(own), ROW)
        rows["channel"], rows["window"], rows["minutes"], rows["found_ms"] = (
            channel,
            first,
            minutes,
            self.compared.now_ms,
        )
        rows["cause"] = self._causes(was, now, own, windows, channel)
        rows["count"], rows["batch"], rows["delta"] = now[:, 0] - was[:, 0], now[:, 1], now[:, 1] - was[:, 1]
        self.found.append(rows[answered])

    def _laid_aside(self, kind: int, channel: np.ndarray, first: np.ndarray, wide: int) -> tuple[np.ndarray, ...]:
        low = channel.astype(np.int64) * WINDOWS_A_DAY + first
        return self.compared.known.of(kind, low, low + wide)

    def _causes(
        self, was: np.ndarray, now: np.ndarray, own: np.ndarray, windows: np.ndarray, channel: np.ndarray
    ) -> np.ndarray:
        """uint8[n], for rows int64[n, 5] that differ, of the block's channels `own`; windows int64[n, wide] of the day."""
        n, first, wide = len(own), windows[:, 0], windows.shape[1]
        if self.compared.known.is_doubted:
            return np.full(n, _RECOVERY, np.uint8)
        late, late_sum = self._laid_aside(LATE, channel, first, wide)
        imported, imported_sum = self._laid_aside(IMPORTED, channel, first, wide)
        revisions, _ = self._laid_aside(REVISED, channel, first, wide)
        is_revised = self.revised[own[:, None], windows].any(axis=1)
        has_dropped = self.dropped[own[:, None], windows].any(axis=1)
        more, added = now[:, 0] - was[:, 0], late + imported
        if self.compared.known.is_whole_day:  # for which windows is not known any more
            added, revisions, imported = (np.full(n, np.int64(1) << 62) for _ in range(3))
        exact = (more < added) | (now[:, 1] - was[:, 1] == late_sum + imported_sum)
        stood = (was[:, 0] == 0) | ((now[:, 2] <= was[:, 2]) & (now[:, 3] >= was[:, 3]))
        # An import may have come before a reading that speed took, so that this one does not count.
        is_late = (more > 0) & (more <= added) & (is_revised | (imported > 0) | (exact & stood))
        is_revision = is_revised & (more >= 0) & (more <= added) & (revisions + added > 0)
        is_duplicate = (more == 0) & has_dropped & (imported > 0)
        return np.select([is_late, is_revision, is_duplicate], [_LATE, _REVISION, _DUPLICATE], UNEXPLAINED).astype(
            np.uint8
        )

    def notes(self) -> dict[str, bytes]:
        """What to keep in the store, of this and earlier rebuilds; nothing where batch says what speed had said."""
        if not self.found:
            return {}
        kept = np.zeros(0, ROW) if self.kept is None else unpack(self.kept)
        return {note_of(self.day, self.block): pack(merged(kept, np.concatenate(self.found)))}


def merged(before: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Differences from speed's answer, of those from it (`before`) and those from the batch before (`found`), sorted by channel
    and window. The newer cause stands but for an unexplained one; what is as speed had it again is no difference."""
    if not len(found):
        return before
    # What was told by 5 minutes adds up to the hour that is compared now.
    hours = found[found["minutes"] == 60]
    if len(hours):
        before = _by_the_hour(before, hours)
    rows = np.concatenate([before, found])
    order = np.lexsort((np.arange(len(rows)), rows["minutes"], rows["window"], rows["channel"]))
    rows = rows[order]
    key = rows["channel"].astype(np.int64) * (WINDOWS_A_DAY * 2) + rows["window"] * 2 + (rows["minutes"] == 60)
    last = np.append(key[1:] != key[:-1], True)
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    out = rows[last]
    for name in ("count", "delta"):
        out[name] = np.add.reduceat(rows[name].astype(np.int64), first)
    worst = np.maximum.reduceat(np.where(rows["cause"] == UNEXPLAINED, UNEXPLAINED, 0), first)
    out["cause"] = np.maximum(out["cause"], worst)
    return out[(out["count"] != 0) | (out["delta"] != 0) | (out["cause"] == UNEXPLAINED) | _is_new(rows, first)]


def _is_new(rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Found once only: neither count nor sum need differ where a minimum or a last value does."""
    return np.diff(np.append(first, len(rows))) == 1


def _by_the_hour(before: np.ndarray, hours: np.ndarray) -> np.ndarray:
    wanted = set(zip(hours["channel"].tolist(), hours["window"].tolist(), strict=True))
    out = before.copy()
    for row in out:
        hour = int(row["window"]) // 12 * 12
        if row["minutes"] == 5 and (int(row["channel"]), hour) in wanted:
            row["window"], row["minutes"] = hour, 60
    return out


def note_of(day: int, block: int) -> str:
    """The name under which the store keeps a block's differences."""
    return f"{NOTE}/{day}/{block}"


def record_note_of(day: int, block: int) -> str:
    """As `note_of`, of what differs between measured and effective values."""
    return f"{NOTE}/{day}/{block}/record"


def of_day(store: Store, day: int) -> np.ndarray:
    """ROW[n]: all differences of a UTC day, sorted by block."""
    notes = store.notes(f"{NOTE}/{day}/")
    blocks = sorted((int(name.split("/")[2]), data) for name, data in notes.items())
    return np.concatenate([np.zeros(0, ROW), *(unpack(data) for _, data in blocks)])


def pack(rows: np.ndarray) -> bytes:
    """As a note in the store."""
    return (
        zlib.compress(np.ascontiguousarray(rows.view(np.uint8).reshape(-1, ROW.itemsize).T).tobytes(), 1)
        if len(rows)
        else b""
    )


def unpack(data: bytes) -> np.ndarray:
    """The inverse of `pack`: ROW[n]."""
    columns = np.frombuffer(zlib.decompress(data), np.uint8).reshape(ROW.itemsize, -1)
    return np.ascontiguousarray(columns.T).reshape(-1).view(ROW)


def of_record(
    kept: bytes | None, before: Overlay, after: Overlay, block: int, edit: int, is_new_rule: np.ndarray, now_ms: int
) -> bytes:
    """What a record answers otherwise than was measured, packed for `record_note_of`; empty where it does not.

    before, after: the block's overlays; kept: the note until now; edit: the number of the method of edits; is_new_rule bool[keys]:
    the record before was made by other rules. What is as it was keeps its cause and the time at which it was found.
    """
    told = after.take(after.change != 0)
    if not len(told):
        return b""
    rows = np.zeros(len(told), ROW)
    rows["channel"], rows["window"], rows["minutes"] = block * BLOCK + told.key, told.step, told.seconds // 60
    rows["count"] = (told.quality != MISSING).astype(np.int32) - told.has_measured
    rows["batch"], rows["delta"], rows["found_ms"] = told.quantity, told.change, now_ms
    at = np.minimum(np.searchsorted(before.place, told.place), max(len(before) - 1, 0))
    same = np.zeros(len(told), bool)
    if len(before):
        same = (
            (before.place[at] == told.place)
            & (before.quantity[at] == told.quantity)
            & (before.method[at] == told.method)
        )
    rows["cause"] = np.select([told.method == edit, ~same & is_new_rule[told.key]], [_EDIT, _RULE], _ESTIMATE)
    if kept:
        old = unpack(kept)
        place = (old["channel"].astype(np.int64) - block * BLOCK) * WINDOWS_A_DAY + old["window"]
        at = np.minimum(np.searchsorted(place, told.place), len(old) - 1)
        same &= place[at] == told.place
        for name in ("cause", "found_ms"):
            rows[name] = np.where(same, old[name][at], rows[name])
    return pack(rows)
