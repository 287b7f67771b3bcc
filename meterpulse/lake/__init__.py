"""The lake: every reading forever, as it arrived, in files that any data tool can read.

Rows live in days (UTC day of their start). A file says which offsets of the log it holds, so that the lake itself knows
up to where it has taken the log (`position`), and a range that is written twice counts once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meterpulse.model.reading import Readings


@dataclass(frozen=True, slots=True, order=True)
class LakeFile:
    """One file: the rows of `day` whose log offsets are in [first, after). Sorting by (day, first) is log order."""

    day: int  # UTC day, days since the epoch
    first: int
    after: int
    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `verify` found. `severity` is "error" (rows cannot be read) or "warning" (nothing is lost)."""

    severity: str
    path: str
    problem: str
    what_to_do: str


@dataclass(frozen=True, slots=True)
class Hole:
    """Rows that were taken out with a damaged file: those of `day` with log offsets in [first, after)."""

    day: int
    first: int
    after: int
    path: str  # where the damaged bytes are kept


class LakeFull(OSError):
    """There is no room; nothing of the call was taken. Free space and call again."""


class LakeBroken(OSError):
    """The lake must not be written through this object any more; open it anew. The message says why."""


class CorruptFile(Exception):
    """A data file is missing or damaged. `quarantine_file(path)` takes it out, `refill` puts its rows back."""

    def __init__(self, path: str, why: str):
        super().__init__(f"{path} is damaged: {why}; see `meterpulse doctor`")
        self.path, self.why = path, why

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.why)


class OffsetConflict(ValueError):
    """A range that neither begins at `position` nor was committed as a whole; write from `position` on."""

    def __init__(self, first: int, after: int, position: int):
        super().__init__(f"offsets [{first}, {after}) do not continue the lake, which holds all below {position}")
        self.first, self.after, self.position = first, after, position

    def __reduce__(self) -> tuple[type, tuple[int, int, int]]:
        return type(self), (self.first, self.after, self.position)


class Lake(ABC):
    """Readings by day, durable and exactly once.

    One process at a time has the lake open. One thread writes; compacting, dropping and vacuuming may go on in another.
    Any process may read files that it was told of; one that `vacuum` or `drop` has deleted since raises CorruptFile
    ("it is missing"): ask for the files again.
    """

    @property
    @abstractmethod
    def position(self) -> int:
        """The log offset up to which everything is committed and on disk."""

    @abstractmethod
    def write(self, batches: Iterable[Readings], first: int, after: int) -> None:
        """The rows of log offsets [first, after) in log order; durable on return.

        A range that is already committed is ignored (its batches are not even drawn). Raises LakeFull with nothing
        taken, OffsetConflict where the range does not begin at `position`, LakeBroken where the disk failed.
        """

    @abstractmethod
    def skip_to(self, offset: int) -> None:
        """Move `position` over offsets that the log has lost; the gap is noted in the table's history."""

    @abstractmethod
    def days(self) -> list[int]:
        """The UTC days that have rows, ascending."""

    @abstractmethod
    def files(self, day: int) -> list[LakeFile]:
        """The files of a day in log order."""

    @abstractmethod
    def read(self, files: list[LakeFile], channels: tuple[int, int] | None = None) -> Iterator[Readings]:
        """Rows of the files in log order, only lo <= channel < hi; raises CorruptFile before damage is served."""

    @abstractmethod
    def compact(self, day: int, below: int | None = None, now_ms: int | None = None) -> bool:
        """Rewrite the files of a day (with after <= `below`) sorted by channel and start; False if they are.

        Duplicates and revisions stay, in log order. The files that were replaced stay on disk until `vacuum`.
        """

    @abstractmethod
    def vacuum(self, keep_seconds: int, now_ms: int) -> int:
        """Delete files that were replaced at least `keep_seconds` ago; the bytes that this freed."""

    @abstractmethod
    def drop(self, day: int) -> int:
        """Forget a day and delete its files at once; how many rows it had."""

    @abstractmethod
    def verify(self) -> list[Finding]:
        """Read everything and say what is wrong; empty when all is well."""

    @abstractmethod
    def quarantine_file(self, path: str) -> Hole:
        """Take a damaged or missing file out of the table, keeping its bytes aside; says which rows are affected."""

    @abstractmethod
    def holes(self) -> list[Hole]:
        """What was taken out and not filled again."""

    @abstractmethod
    def refill(self, hole: Hole, batches: Iterable[Readings]) -> None:
        """Put rows back from the batches of log offsets [hole.first, hole.after); other days' rows are ignored."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the table so that another process may write it."""
