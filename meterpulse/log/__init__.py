"""The durable log: what `append` has returned is on disk. Everything after it (views, lake, stores) is a function of the log.

An entry is a packed batch of one source with a running offset. Entries are read in order; they are trimmed only behind what
every consumer has made durable elsewhere. A bad row goes, byte for byte, into the quarantine beside the log and with the
same fsync.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meterpulse.model.reading import Readings


class LogFull(OSError):
    """There is no room for another entry (disk or log.max_bytes); nothing of the batch was taken."""


class CorruptEntry(Exception):
    """An entry's checksum does not match; `offset` says which."""

    def __init__(self, offset: int, why: str):
        super().__init__(f"log entry {offset} is damaged: {why}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Record:
    """What a producer appends: one source's readings. `live` readings move that source's watermark, imports do not."""

    source: str
    readings: Readings
    received_ms: int
    live: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """What a consumer reads: a record with its place. `rows_before` counts all readings of earlier entries."""

    offset: int
    rows_before: int
    record: Record


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that did not count: its bytes as they came, and why. `key` is 0 until it is stored."""

    reason: str
    detail: str
    media_type: str
    source: str
    received_ms: int
    original: bytes
    key: int = 0


class Log(ABC):
    """Append-only, ordered, checksummed; every method may be called from several threads."""

    first: int
    end: int
    rows: int
    salvaged: str | None  # what opening had to mend

    @classmethod
    @abstractmethod
    def open(cls, directory: Path, settings: Any) -> Log:
        """The log of a city, to append to and to read; `settings` is the section `log` of the configuration, `directory` its
        folder among the city's data. Raises OSError where it is out of reach, ValueError for settings."""

    @classmethod
    @abstractmethod
    def follow(cls, directory: Path, settings: Any) -> Log:
        """The log that another process appends to, for reading; `refresh` sees what has come."""

    @abstractmethod
    def refresh(self, at_least: int = 0) -> None:
        """Sees what another process has appended, everything below `at_least` included."""

    @abstractmethod
    def append(
        self, records: Sequence[Record], bad: Sequence[Quarantined] = (), positions: Mapping[str, str] | None = None
    ) -> int:
        """All or nothing, durable on return; the offset of the first entry. Raises LogFull and OSError.

        `positions` are how far sources have been read, by name (200 bytes at most): they are kept with this append."""

    @abstractmethod
    def position(self, name: str) -> str | None:
        """What the last append that named it said; None where none did, or where damage took it."""

    @abstractmethod
    def read(self, offset: int) -> Entry | None:
        """The entry at `offset`, None at the end; raises CorruptEntry, and KeyError where it was trimmed."""

    @abstractmethod
    def trim(self, below: int) -> None:
        """Entries below this offset are needed no more; the space is used again from the next append on."""

    @abstractmethod
    def quarantined(self, after: int = 0, limit: int = 1000) -> Iterator[Quarantined]:
        """Rows that did not count with key > `after`, oldest first."""

    @abstractmethod
    def release(self, keys: Sequence[int]) -> int:
        """Forget quarantined rows (they were replayed or have expired); how many there were."""

    @property
    @abstractmethod
    def quarantined_ever(self) -> int:
        """Rows that were put in quarantine since the beginning."""

    @abstractmethod
    def following(self, offset: int) -> int:
        """The first offset from this one on that can be read; the end where there is none."""

    @abstractmethod
    def fast_forward(self, offset: int, rows: int = 0) -> None:
        """Give no offset below this one again, and count at least so many rows: consumers were further than a salvaged log."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the files."""
