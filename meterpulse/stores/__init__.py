"""Where finished windows wait to be read.

A **chunk** holds neighbouring keys over neighbouring steps of one view: rows int64[keys, steps, measures], kept in blocks of
4,096 keys. Steps are the windows of the view; for days they are the (up to three) local days that a UTC day touches, as parts
that add up across UTC days. A chunk knows which of its steps came from batch. Rows with count 0 are absent, never zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 4_096
CHUNK_STEPS = {"usage_5m": 12, "usage_1h": 24, "usage_1d": 3, "area_1m": 60, "area_1h": 24, "area_1d": 3}
# What the record keeps of a UTC day where there is anything to say (see `overlay`): 5-minute steps, nearly always few.
SPARSE_STEPS = {"grades": 288, "record": 288, "area_record": 288}


class StoreFull(OSError):
    """No room in the store; nothing of the call was written."""


class StoreDamaged(OSError):
    """The store as a whole cannot be read; the next start sets it aside and has it rebuilt from the lake."""


class CorruptChunk(Exception):
    """A chunk's checksum does not match: the day must be rebuilt."""

    def __init__(self, view: str, block: int, start_ms: int):
        super().__init__(f"store: {view} block {block} at {start_ms} is damaged; run `meterpulse rebuild`")
        self.view, self.block, self.start_ms = view, block, start_ms


@dataclass(frozen=True, slots=True)
class Chunk:
    """rows int64[keys, steps, measures] of keys [block * BLOCK, ...) from start_ms on; `batch` is a bit per step."""

    view: str
    block: int
    start_ms: int
    rows: np.ndarray
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Sparse:
    """The few rows that a chunk has: places uint32[n], key within the block * steps + step, ascending; rows
    int64[n, measures], the first of which is not 0. An empty one removes the chunk."""

    view: str
    block: int
    start_ms: int
    keys: int
    places: np.ndarray
    rows: np.ndarray

    def differs_from(self, store: Store) -> bool:
        """Whether the store has something else in this place."""
        try:
            there = store.sparse(self.view, self.block, self.start_ms)
        except CorruptChunk:
            return True
        if there is None:
            return bool(len(self.places))
        return not (np.array_equal(there.places, self.places) and np.array_equal(there.rows, self.rows))


@dataclass(frozen=True, slots=True)
class Span:
    """One key's part of a chunk: rows int64[steps, measures]."""

    start_ms: int
    rows: np.ndarray
    batch: int

    def present(self, step_ms: int) -> Rows:
        """The steps that have readings."""
        steps = np.flatnonzero(self.rows[:, 0])
        batch = (np.uint64(self.batch) >> steps.astype(np.uint64) & np.uint64(1)).astype(bool)
        return Rows(self.start_ms + steps * step_ms, self.rows[steps], batch)


@dataclass(frozen=True, slots=True)
class Rows:
    """n windows of one key, in order of time: start int64[n] ms, rows int64[n, measures], batch bool[n]."""

    start: np.ndarray
    rows: np.ndarray
    batch: np.ndarray


class Store(ABC):
    """Upsert by (view, block, start). `write` is atomic and durable; readers never see half of it. `salvaged` says why
    the store begins anew, where it does."""

    salvaged: str | None

    @abstractmethod
    def write(
        self,
        chunks: Iterable[Chunk | Sparse],
        *,
        remove: Sequence[tuple[str, int, int]] = (),
        notes: Mapping[str, bytes] | Callable[[], Mapping[str, bytes]] | None = None,
        changed: Callable[[Chunk | None, Chunk], None] | None = None,
    ) -> None:
        """Puts chunks, removes (view, block, start) and keeps notes, in one transaction. Raises StoreFull.

        `changed` is told the old and the new chunk wherever rows differ (the old is None where there was none), and not of
        an old one that is damaged; `notes` may be a function, which is asked after that.
        """

    @abstractmethod
    def spans(self, view: str, key: int, start_ms: int, end_ms: int) -> list[Span]:
        """One key's chunks that start in [start_ms, end_ms), in order of time; raises CorruptChunk."""

    def series(self, view: str, key: int, start_ms: int, end_ms: int, step_ms: int) -> list[Rows]:
        """What `spans` finds, as the steps that have readings, in parts that follow each other; raises CorruptChunk."""
        return [span.present(step_ms) for span in self.spans(view, key, start_ms, end_ms)]

    @abstractmethod
    def newest(self, view: str, key: int, step_ms: int) -> int | None:
        """The end of the newest step that a key has; None where it is not found soon."""

    @abstractmethod
    def chunk(self, view: str, block: int, start_ms: int) -> Chunk | None:
        """A whole chunk; raises CorruptChunk."""

    @abstractmethod
    def sparse(self, view: str, block: int, start_ms: int) -> Sparse | None:
        """A whole chunk that was put as Sparse; raises CorruptChunk."""

    @abstractmethod
    def starts(self, view: str, block: int, start_ms: int, end_ms: int) -> list[int]:
        """The starts of a block's chunks in [start_ms, end_ms)."""

    @abstractmethod
    def expire(self, view: str, before_ms: int, limit: int = 2_000) -> int:
        """Remove chunks of a view that start before `before_ms`, up to `limit` at a time; how many."""

    @abstractmethod
    def verify(self) -> list[CorruptChunk]:
        """Every chunk whose rows do not match their sums."""

    @abstractmethod
    def note(self, name: str) -> bytes | None:
        """What was noted under this name."""

    @abstractmethod
    def notes(self, prefix: str) -> dict[str, bytes]:
        """All notes whose name begins so."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files."""
