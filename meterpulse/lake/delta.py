"""The lake as a Delta table on the local disk: `<data>/lake/readings`, partitioned by `day`.

The order of a write is the law: files, their directories, then the commit, then `position`. Any process may read the
table as Delta; one process at a time writes it, which a lock sees to. Delta's own library cross-checks what we wrote;
its writer is not used, because it syncs nothing and may abort the process on a full disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from meterpulse.lake import CorruptFile, Finding, Hole, Lake, LakeBroken, LakeFile, OffsetConflict
from meterpulse.lake import reader as parquet_reader
from meterpulse.lake.actions import Action, add_action, position_action, remove_action, rows_of
from meterpulse.lake.commits import Commits
from meterpulse.lake.compaction import ROWS_IN_MEMORY, in_channel_order
from meterpulse.lake.days import DayFiles, by_day
from meterpulse.lake.parts import (
    TEMPORARY,
    fsync_directory,
    full_disk_says_so,
    name_of,
)
from meterpulse.model.crashpoint import crash_point
from meterpulse.model.reading import Readings
from meterpulse.model.window import day_of_text, day_text

FILE_ROWS = 64 << 20
_FIELDS = (
    ("channel", "integer"),
    ("start", "timestamp"),
    ("seconds", "integer"),
    ("quantity", "long"),
    ("revision", "long"),
    ("quality", "integer"),
    ("day", "string"),
)
_SCHEMA_TEXT = json.dumps(
    {
        "type": "struct",
        "fields": [{"name": n, "type": t, "nullable": n == "quality", "metadata": {}} for n, t in _FIELDS],
    }
)


class DeltaLake(Lake):
    """`directory` is `<data>/lake`; `recovered` lists what opening had to mend; the options bound files and memory."""

    def __init__(self, directory: Path, *, file_rows: int = FILE_ROWS, rows_in_memory: int = ROWS_IN_MEMORY):
        self._root = Path(directory).absolute() / "readings"
        self._file_rows, self._rows_in_memory = file_rows, rows_in_memory
        self._broken: str | None = None
        self._mutex = threading.RLock()  # compacting may go on beside writing; only commits wait for each other
        with full_disk_says_so(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self._root)
        try:
            self._commits = Commits(self._root, "readings", _SCHEMA_TEXT)
            self.recovered = self._commits.recovered
            with full_disk_says_so(self._root):
                self._sweep()
        except BaseException:
            os.close(self._lock)
            raise

    @classmethod
    def open(cls, directory: Path, **options: Any) -> DeltaLake:
        """The lake in `directory`, created when it is not there, mended when it was damaged."""
        return cls(directory, **options)

    @property
    def position(self) -> int:
        return self._commits.state.position or 0

    def write(self, batches: Iterable[Readings], first: int, after: int) -> None:
        if not 0 <= first <= after:
            raise ValueError(f"[{first}, {after}) is not a range of offsets")
        if after <= self.position:
            return
        if first != self.position and self._commits.state.position is not None:
            raise OffsetConflict(first, after, self.position)
        with self._writing(), self._written(batches) as days, self._mutex:
            parts = days.publish("w", first, after, self._commits.state.version + 1)
            crash_point("lake.published")
            self._commits.commit([*map(add_action, parts), position_action(after)], "WRITE")
        self._checkpoint_when_due()

    def skip_to(self, offset: int) -> None:
        if offset > self.position:
            with self._writing(), self._mutex:
                self._commits.commit([position_action(offset)], "SKIP", {"from": self.position, "to": offset})

    def days(self) -> list[int]:
        return sorted({day_of_text(a["partitionValues"]["day"]) for a in self._adds()})

    def files(self, day: int) -> list[LakeFile]:
        return sorted(map(self._lake_file, self._adds(day)), key=parquet_reader.log_order)

    def read(self, files: list[LakeFile], channels: tuple[int, int] | None = None) -> Iterator[Readings]:
        return parquet_reader.read(files, channels)

    def compact(self, day: int, below: int | None = None, now_ms: int | None = None) -> bool:
        files = [f for f in self.files(day) if below is None or f.after <= below]
        if not files or (_is_compacted(files[0]) and all((f.first, f.after) == _range(files[0]) for f in files)):
            return False
        with self._writing(), self._scratch() as scratch:
            with self._written(in_channel_order(files, scratch, self._rows_in_memory)) as days, self._mutex:
                if not set(files) <= set(self.files(day)):
                    days.abandon()  # dropped or set aside meanwhile
                    return False
                first, after = files[0].first, max(f.after for f in files)
                parts = days.publish("c", first, after, self._commits.state.version + 1)
                if sum(p.rows for p in parts) != sum(f.rows for f in files):
                    raise RuntimeError(f"compacting {day_text(day)} changed the number of rows; nothing was replaced")
                when_ms = max(p.modified_ms for p in parts) if now_ms is None else now_ms
                removes = [remove_action(self._add(f.path), when_ms, "layout") for f in files]
                self._commits.commit([*removes, *(_unchanged(add_action(p)) for p in parts)], "OPTIMIZE")
        self._checkpoint_when_due()
        return True

    def vacuum(self, keep_seconds: int, now_ms: int) -> int:
        freed, state = 0, self._commits.state
        with self._mutex:
            for path, tombstone in list(state.removes.items()):
                if tombstone["deletionTimestamp"] + keep_seconds * 1000 <= now_ms:
                    freed += _delete(self._root / path)
                    del state.removes[path]
        return freed

    def drop(self, day: int) -> int:
        with self._writing(), self._mutex:
            adds = self._adds(day)
            if adds:
                removes = [remove_action(a, a["modificationTime"], "data") for a in adds]
                self._commits.commit_freeing_space(removes, "DELETE", {"day": day_text(day)})
            for path in [p for p in self._commits.state.removes if name_of(p).day == day]:
                _delete(self._root / path)
                del self._commits.state.removes[path]
            shutil.rmtree(self._aside / f"day={day_text(day)}", ignore_errors=True)
            self._commits.keep_reserve()
        return sum(map(rows_of, adds))

    def verify(self) -> list[Finding]:
        findings = [
            Finding("warning", path, problem, "open the lake anew: it mends this")
            for path, problem in self._commits.check()
        ]
        for file in (f for day in self.days() for f in self.files(day)):
            try:
                parquet_reader.check(file)
            except CorruptFile as error:
                what = (
                    "quarantine_file sets it aside; then refill its offsets from the log or import their source again"
                )
                findings.append(Finding("error", file.path, error.why, what))
        for hole in self.holes():
            problem = f"rows of {day_text(hole.day)} at log offsets [{hole.first}, {hole.after}) were taken out"
            findings.append(
                Finding("error", hole.path, problem, "refill them from the log, or import their source again")
            )
        return findings + self._second_opinion()

    def quarantine_file(self, path: str) -> Hole:
        add, name = self._add(path), name_of(path)
        kept = self._aside / f"day={day_text(name.day)}" / Path(path).name
        with self._writing(), self._mutex:
            kept.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._root / name.path, kept)
            except FileNotFoundError:
                kept.touch()
            except FileExistsError:
                pass  # a crash came between this and the commit
            fsync_directory(kept.parent)
            removes = [remove_action(add, add["modificationTime"], "data")]
            self._commits.commit(removes, "QUARANTINE", {"path": name.path})
            self._commits.state.removes.pop(name.path, None)
            _delete(self._root / name.path)
        return Hole(name.day, name.first, name.after, str(kept))

    def holes(self) -> list[Hole]:
        kept = sorted(self._aside.glob("day=*/*.parquet"))
        return [Hole(n.day, n.first, n.after, str(p)) for p, n in ((p, name_of(str(p))) for p in kept)]

    def refill(self, hole: Hole, batches: Iterable[Readings]) -> None:
        with self._writing(), self._written(_of_day(batches, hole.day)) as days, self._mutex:
            within = [f for f in self.files(hole.day) if f.first < hole.after and f.after > hole.first]
            if any((f.first, f.after) != (hole.first, hole.after) for f in within):
                raise ValueError(f"{hole.path} lies within a file that was compacted since; import its source again")
            parts = days.publish("r", hole.first, hole.after, self._commits.state.version + 1)
            when_ms = max((p.modified_ms for p in parts), default=0)
            removes = [remove_action(self._add(f.path), when_ms, "data") for f in within]
            self._commits.commit([*removes, *map(add_action, parts)], "REFILL")
            for other in self.holes():
                if (other.day, other.first, other.after) == (hole.day, hole.first, hole.after):
                    os.rename(other.path, f"{other.path}.refilled")
        self._checkpoint_when_due()

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock, self._broken = -1, "it was closed"

    # -- writing

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Refuse after a failure whose outcome is not known; say so where the disk is full."""
        if self._broken:
            raise LakeBroken(f"the lake in {self._root} cannot be written: {self._broken}; open it anew")
        try:
            with full_disk_says_so(self._root):
                yield
        except LakeBroken as error:
            self._broken = str(error)
            raise

    @contextmanager
    def _written(self, batches: Iterable[Readings]) -> Iterator[DayFiles]:
        """Finished files of the rows of `batches`, to be published and committed; removed where that fails."""
        days = DayFiles(self._root, self._file_rows)
        try:
            for batch in batches:
                days.add(batch)
            days.finish()
            yield days
        except LakeBroken:
            raise  # they may have been committed: the next opening judges
        except BaseException:
            days.abandon()
            raise

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        directory = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self._root))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _checkpoint_when_due(self) -> None:
        with self._mutex:
            self._commits.checkpoint_when_due()

    # -- what there is

    @property
    def _aside(self) -> Path:
        return self._root / "_aside"

    def _adds(self, day: int | None = None) -> list[Action]:
        adds = list(self._commits.state.adds.values())
        return adds if day is None else [a for a in adds if a["partitionValues"]["day"] == day_text(day)]

    def _add(self, path: str) -> Action:
        name = name_of(path)
        if name.path not in self._commits.state.adds:
            raise ValueError(f"{path} is not in the lake (any more)")
        return self._commits.state.adds[name.path]

    def _lake_file(self, add: Action) -> LakeFile:
        return name_of(add["path"]).lake_file(self._root, rows_of(add), add["size"])

    def _sweep(self) -> None:
        """Remove what a crash left: files that no commit names were never acknowledged."""
        for scratch in self._root.glob(f"{TEMPORARY}*"):
            shutil.rmtree(scratch, ignore_errors=True)
        state = self._commits.state
        for path in self._root.glob("day=*/*"):
            known = f"{path.parent.name}/{path.name}"
            if known not in state.adds and known not in state.removes:
                _delete(path)
        for directory in self._root.glob("day=*"):
            with suppress(OSError):  # not empty
                directory.rmdir()

    def _second_opinion(self) -> list[Finding]:
        """What Delta's own library makes of the table."""
        from deltalake import DeltaTable  # 40 MB that only this needs

        what = "open the lake anew; if it stays, keep the directory and report it"
        try:
            table = DeltaTable(str(self._root))
            theirs = {"/".join(Path(uri).parts[-2:]) for uri in table.file_uris()}
        except Exception as error:  # of whatever kind: it is a finding
            return [Finding("error", str(self._root), f"Delta readers cannot open the table: {error}", what)]
        if theirs == set(self._commits.state.adds) and table.version() == self._commits.state.version:
            return []
        return [Finding("error", str(self._root), "Delta readers see other files than we do", what)]


def _of_day(batches: Iterable[Readings], wanted: int) -> Iterator[Readings]:
    for batch in batches:
        for day, rows in by_day(batch):
            if day == wanted:
                yield rows


def _is_compacted(file: LakeFile) -> bool:
    return name_of(file.path).kind == "c"


def _range(file: LakeFile) -> tuple[int, int]:
    return file.first, file.after


def _unchanged(add: Action) -> Action:
    """Mark an added file as one that only lays rows out anew."""
    return {"add": {**add["add"], "dataChange": False}}


def _delete(path: Path) -> int:
    """Unlink; the bytes that were freed."""
    try:
        size = path.stat().st_size
        path.unlink()
        return size
    except FileNotFoundError:
        return 0


def _lock(root: Path) -> int:
    file = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise LakeBroken(f"another process writes the lake in {root}; stop it first") from None
    return file
