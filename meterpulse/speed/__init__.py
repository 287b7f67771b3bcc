"""The speed layer keeps the views of open windows as readings arrive, exactly.

A window is **fired** when the watermark has passed its end and can still be updated; it is **retired** when allowed lateness
has passed too. Retired windows belong to the store and to batch: whatever comes for them later, and whatever this layer cannot
apply exactly (a revision of a value that stands, an import), marks its day dirty, and batch rebuilds the day from the lake.
So every window has one owner at a time, and the boundary between them is one number: `retired_ms`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from meterpulse.log import Entry


@dataclass
class Mark:
    """A dirty day: it is clean when it is rebuilt from every reading below `after_offset`, with the windows from
    `window_start_ms` to `window_end_ms` retired."""

    after_offset: int
    window_end_ms: int
    rows: int = 0
    window_start_ms: int = -(1 << 61)


@dataclass
class Counters:
    """What became of the readings, since the first one."""

    rows: int = 0
    duplicates: int = 0
    late: int = 0
    revisions: int = 0
    imported: int = 0


@dataclass
class Retirement:
    """Windows that leave the speed layer, at which offset of the log, and the new boundary."""

    offset: int
    boundary_ms: int
    windows: list = field(default_factory=list)


class Speed(ABC):
    """An engine of the speed layer: log entries in, views of open windows out."""

    @abstractmethod
    def apply(self, entry: Entry) -> None:
        """The next entry of the log."""

    @abstractmethod
    def advance(self, now_ms: int, unheard_ms: int) -> None:
        """Time has passed: retire what the watermark has left behind. `unheard_ms` is how long no reading has come."""

    @abstractmethod
    def clean(self, day: int, below_offset: int, boundary_ms: int) -> bool:
        """Batch rebuilt a day from everything below an offset, up to the boundary: is it clean now?"""
