"""What the record said of windows that a rebuild changes: it stays the record's word until the day is recorded again.

An interval that is simply measured and validated has no row in the record. When its measured value becomes another, a row with
the value that was takes its place, in the same write: so the record can say later what was known before.
"""

from __future__ import annotations

import numpy as np

from meterpulse.model.quality import RAW, Quality
from meterpulse.model.window import DAY_MS, WINDOW_MS
from meterpulse.stores import Chunk, CorruptChunk, Sparse, Store
from meterpulse.stores.overlay import MISSING, STEPS, Overlay, overlay_of


class BeforeRebuild:
    """Of one block of a day that has a record. `known_s`: when what has no row of its own was learned; judged bool[keys] and step
    int64[keys], ms, as of the registry: see batch.loadprofiles."""

    def __init__(self, day: int, block: int, known_s: int, judged: np.ndarray, step: np.ndarray):
        self._day, self._block, self._known_s, self._judged, self._step = day, block, known_s, judged, step
        self._place: list[np.ndarray] = []
        self._was: list[np.ndarray] = []  # int64[k, 2]: count and sum
        self._overlay = Overlay.none()

    def begin(self, store: Store) -> None:
        """Looks at what the record says. Where that is damaged, it is made anew from what is measured."""
        try:
            self._overlay = overlay_of(store, self._block, self._day)
        except CorruptChunk:
            self._judged = self._judged[:0]

    def changed(self, old: Chunk | None, new: Chunk) -> None:
        """A chunk of 5-minute windows takes another's place."""
        if new.view != "usage_5m" or (old is not None and old.rows.shape[1] != new.rows.shape[1]):
            return
        keys = min(len(new.rows), len(self._judged))
        was = np.zeros((keys, new.rows.shape[1], 2), np.int64)
        if old is not None:
            n = min(keys, len(old.rows))
            was[:n] = old.rows[:n, :, :2]
        key, at = np.nonzero((was != new.rows[:keys, :, :2]).any(axis=2))
        self._place.append(key * STEPS + (new.start_ms - self._day * DAY_MS) // WINDOW_MS + at)
        self._was.append(was[key, at])

    def chunks(self) -> list[Sparse]:
        """The record with these rows, where there are any."""
        if not sum(map(len, self._place)):
            return []
        place, was = np.concatenate(self._place), np.concatenate(self._was)
        key = place // STEPS
        a_step = self._step[key] // WINDOW_MS
        place = key * STEPS + place % STEPS // a_step * a_step
        place, first = np.unique(place, return_index=True)
        new = ~np.isin(place, self._overlay.place)
        place, was = place[new], was[first[new]]
        key, known = place // STEPS, was[:, 0] > 0
        if not len(place):
            return []
        n, none = len(place), np.zeros(len(place), np.int64)
        quality = np.where(known, np.where(self._judged[key], int(Quality.VALIDATED), RAW), MISSING).astype(np.int32)
        rows = Overlay(
            place.astype(np.uint32), self._step[key] // 1000, was[:, 1], quality, was[:, 1], known, none,
            np.full(n, self._known_s, np.int64),
        )  # fmt: skip
        whole = Overlay.concat([self._overlay, rows])
        return [whole.chunk(self._block, self._day, max(len(self._judged), int(whole.key.max()) + 1))]
