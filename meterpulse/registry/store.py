"""The registry's files and its database as one thing that changes in steps, each of which happens wholly or not at
all."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from meterpulse.model.channel import NOT_FOUND
from meterpulse.model.problem import Problem
from meterpulse.registry.areas import Area, Areas
from meterpulse.registry.columns import Column, SnapshotColumn
from meterpulse.registry.intake import REFERENCES
from meterpulse.registry.ledger import Change, Ledger
from meterpulse.registry.profiles import ProfileBook
from meterpulse.registry.ranges import Ranges
from meterpulse.registry.table import Table
from meterpulse.registry.texts import TextIndex

HOT = {"profile": np.uint16, "area": np.uint32}
"""What the hot path reads per channel, by dense index. Profile is a number in the book, area one in `area_rows`,
NO_AREA where there is none; usage point, customer and meter, the REFERENCES, are numbers in `texts` of the same name,
NOT_FOUND where there is none."""


class Store:
    """`columns`, `texts`, `book` (profiles) and `area_rows` are the working state, changed by the one writer inside of
    `writing()`; `table` and `areas` are what readers see, replaced at each commit."""

    table: Table
    areas: Areas

    def __init__(self, directory: Path, url: str | None):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.ledger = Ledger(directory, url)
        self.columns: dict[str, Column] = {}
        self.texts: dict[str, TextIndex] = {}
        self._mutex = threading.RLock()
        self._lock: int | None = None
        self._load()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One writer at a time, in this process and among processes. An error inside leaves what was committed.

        Raises Problem 409 while another process writes, 507 when the disk is full.
        """
        with self._mutex:
            if self._lock is None:
                if not self._take_lock():
                    raise Problem(
                        409,
                        "registry-busy",
                        "Another process writes this registry",
                        f"{self.directory} is in use; register over that process's HTTP address or stop it first",
                    )
                if self.ledger.extents().get("version", 0) != self.version or self.ledger.redo():
                    self._load()
            try:
                yield
            except BaseException as error:
                if self._staged() or not isinstance(error, Problem) or error.status >= 500:
                    self._load()
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise Problem(507, "disk-full", "The disk is full", "free some space and register again") from error
                raise

    def commit(
        self,
        history: list[dict[str, Any]] | None = None,
        exchanges: list[dict[str, Any]] | None = None,
        redo: dict[str, tuple[np.ndarray, np.ndarray]] | None = None,
        edited_areas: list[int] | None = None,
    ) -> None:
        """Make all that was added, and these changes, durable and visible. `redo` has (channels, values) per column,
        the channels ascending and different."""
        for file in (*self.columns.values(), *self.texts.values()):
            file.sync()
        lengths = self._lengths()
        rows = [
            {"target": name, "channel": channel, "value": value}
            for name, (channels, values) in (redo or {}).items()
            for channel, value in zip(channels.tolist(), values.tolist(), strict=True)
        ]
        self.ledger.commit(
            Change(
                lengths | {"version": self.version + 1},
                profiles=list(enumerate(self.book.rows))[self._profiles :],
                areas=list(enumerate(self.area_rows))[self._areas :],
                edited_areas=[(number, self.area_rows[number]) for number in edited_areas or ()],
                history=history or [],
                exchanges=exchanges or [],
                redo=rows,
            )
        )
        self._committed = lengths
        if rows:
            for name, (channels, values) in redo.items():
                self.columns[name].put(channels, values)
                if name in self._ranges:
                    self._ranges[name].widen(channels, values)
                self.columns[name].sync()
            self.ledger.clear_redo()
        self._publish(areas_changed=bool(edited_areas) or len(self.area_rows) > self._areas)
        self.version += 1  # the last: who has seen this version sees what is in it

    def channels_of(self, reference: str, name: str) -> np.ndarray:
        """uint32[]: the channels of a usage point, customer or meter, ascending."""
        column = self.columns[reference].view[: self.table.count]
        number = self.texts[reference].view().find_one(name)
        return self._ranges[reference].indices_of(number, column) if number != NOT_FOUND else np.empty(0, np.uint32)

    def area_number(self, name: str) -> int | None:
        """The number of an area, also of one that is not committed yet."""
        return self._area_numbers.get(name)

    def add_area(self, area: Area) -> int:
        """The number of a new area."""
        self.area_rows.append(area)
        self._area_numbers[area.name] = len(self.area_rows) - 1
        return len(self.area_rows) - 1

    def save(self) -> None:
        """Write the hash tables that grew much since they were last written, and commit what they would hold."""
        if self._staged():
            self.commit()
        for text in self.texts.values():
            text.save()
        self._publish(areas_changed=False)

    def close(self) -> None:
        """Write the hash tables, close the files, let other processes write. Tables handed out stay readable."""
        with self._mutex:
            for text in self.texts.values():
                if self._lock is not None and not self._staged():
                    text.save(tail=0)
                text.abandon()
            for column in self.columns.values():
                column.close()
            self.ledger.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _load(self) -> None:
        for file in self.columns.values():
            file.close()
        for text in self.texts.values():
            text.abandon()
        extents = self.ledger.extents()
        self.count = extents.get("channels", 0)
        self.columns = {
            name: SnapshotColumn(self.directory / f"channel.{name}", dtype, self.count) for name, dtype in HOT.items()
        } | {name: Column(self.directory / f"channel.{name}", np.uint32, self.count) for name in REFERENCES}
        self._ranges = {name: Ranges() for name in REFERENCES}
        self.texts = {
            name: TextIndex(self.directory, name, extents.get(f"{name}.count", 0), extents.get(f"{name}.heap", 0))
            for name in ("id", *REFERENCES)
        }
        self.book = ProfileBook(self.ledger.profiles())
        self.area_rows = self.ledger.areas()
        self._area_numbers = {area.name: number for number, area in enumerate(self.area_rows)}
        self._committed = self._lengths()
        self._finish_redo()
        self._publish(areas_changed=True)
        self.version = extents.get("version", 0)

    def _lengths(self) -> dict[str, int]:
        """What counts of each file."""
        lengths = {"channels": self.count}
        for name, text in self.texts.items():
            lengths |= {f"{name}.count": text.count, f"{name}.heap": text.heap_used}
        return lengths

    def _staged(self) -> bool:
        """Whether something was added that is not committed."""
        return self._lengths() != self._committed

    def _finish_redo(self) -> None:
        """Put changes into the files that a killed process had committed; a living one is about to do it itself."""
        if not self.ledger.redo() or not (self._lock is not None or self._take_lock()):
            return
        for name, channel, value in self.ledger.redo():
            self.columns[name].put(np.array([channel]), np.array([value]))
        for column in self.columns.values():
            column.sync()
        self.ledger.clear_redo()

    def _publish(self, areas_changed: bool) -> None:
        if areas_changed:
            self.areas = Areas.of(self.area_rows)
        self._profiles, self._areas = len(self.book.rows), len(self.area_rows)
        profile, area = (self.columns[name].view[: self.count] for name in HOT)
        profile.flags.writeable = area.flags.writeable = False
        self.table = Table(self.count, profile, area, self.book.columns(), self.texts["id"].view())

    def _take_lock(self) -> bool:
        handle = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._lock = handle
        return True
