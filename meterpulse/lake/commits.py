"""The transaction log of a Delta table (protocol 1/2): a commit is whole and on disk or not there at all.

A commit is written aside, synced, and then linked to its number; its first line counts and hashes the rest. Checkpoints
are Parquet with page checksums; the two newest are kept, with every commit after the older one. So a reader of Delta
sees an ordinary table, and damage to any one file of `_delta_log` is found on opening and mended: a torn checkpoint by
the one before, a damaged commit by the names of the files that it added (see parts.py), which are on disk before it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from meterpulse.lake import LakeBroken
from meterpulse.lake.actions import (
    Action,
    Damaged,
    State,
    birth,
    checkpoint_bytes,
    parse_commit,
    read_checkpoint,
    sealed,
)
from meterpulse.lake.names import actions_from_names, drops_from_absence, parts_by_version
from meterpulse.lake.parts import TEMPORARY, fsync, fsync_directory, full_disk_says_so

CHECKPOINT_EVERY = 100
_RESERVE_BYTES = 1 << 18
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


class Commits:
    """The log of the table in `root`; `recovered` says what had to be mended on opening."""

    def __init__(self, root: Path, name: str, schema_text: str):
        self._root, self._directory = root, root / "_delta_log"
        self._name, self._schema_text = name, schema_text
        self._reserve = self._directory / ".reserve"
        self.recovered: list[str] = []
        self._checkpointed = -1
        with full_disk_says_so(root):
            self._directory.mkdir(parents=True, exist_ok=True)
            for left in self._directory.glob(f"{TEMPORARY}*"):
                left.unlink()
            self._finish_taking_back()
            self.state = self._load()
            if self.state.version < 0:
                self.commit([], "CREATE TABLE")
            elif self.state.meta is not None and self.state.meta["schemaString"] != schema_text:
                # Columns are only ever added: files without them stay as they are, and readers see nulls.
                self.commit([{"metaData": {**self.state.meta, "schemaString": schema_text}}], "ADD COLUMNS")
            # What a killed process linked may not be on disk yet; nothing may rely on it before it is.
            fsync_directory(self._directory)
            fsync_directory(root)
            fsync_directory(root.parent)
            self.keep_reserve()

    def commit(self, actions: Sequence[Action], operation: str, note: Action | None = None) -> int:
        """Write the next commit; on return it is on disk. Raises OSError with nothing changed, or LakeBroken."""
        version = self.state.version + 1
        if version == 0:
            actions = [*birth(self._name, self._schema_text), *actions]
        self._write_commit(version, actions, operation, note or {})
        self.state.apply(version, actions)
        return version

    def commit_freeing_space(self, actions: Sequence[Action], operation: str, note: Action) -> int:
        """`commit` that also works on a full disk, in the room that was set aside for it."""
        try:
            return self.commit(actions, operation, note)
        except LakeBroken:
            raise
        except OSError:
            self._reserve.unlink(missing_ok=True)
            return self.commit(actions, operation, note)

    def keep_reserve(self) -> None:
        """Set room aside for `commit_freeing_space`, as long as there is any."""
        with suppress(OSError):
            if not self._reserve.exists() and shutil.disk_usage(self._root).free > 64 * _RESERVE_BYTES:
                self._write_aside(os.urandom(_RESERVE_BYTES), self._reserve)

    def _write_commit(self, version: int, actions: Sequence[Action], operation: str, note: Action) -> None:
        target = self._commit_path(version)
        temporary = self._write_aside(sealed(actions, operation, note))
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise LakeBroken(f"another process has written {target.name}; stop it and open the lake anew") from None
        finally:
            with suppress(OSError):
                temporary.unlink()
        try:
            fsync_directory(self._directory)
        except OSError as error:
            raise LakeBroken(error.errno, f"commit {version} may or may not be on disk; open the lake anew") from error

    def checkpoint_when_due(self) -> None:
        """Every so many commits one file with the whole state, after which older commits are deleted.

        It is only a shortcut: where there is no room for it the log just grows until there is.
        """
        if self.state.version - self._checkpointed >= CHECKPOINT_EVERY:
            with suppress(OSError):
                self.checkpoint()

    def checkpoint(self) -> None:
        """Write the state as a checkpoint and clean up behind the checkpoint before it."""
        version = self.state.version
        self._forget_deleted()
        data, rows = checkpoint_bytes(self.state)
        path = self._directory / f"{version:020d}.checkpoint.parquet"
        self._write_aside(data, path)
        hint = {"version": version, "size": rows, "sizeInBytes": len(data), "numOfAddFiles": len(self.state.adds)}
        self._write_aside(json.dumps(hint).encode(), self._directory / "_last_checkpoint")
        fsync_directory(self._directory)
        self._checkpointed = version
        self._clean_up()

    def check(self) -> list[tuple[str, str]]:
        """(file, problem) of commits and checkpoints that do not read back as they were written."""
        bad = []
        for path in sorted(self._directory.iterdir()):
            try:
                if _COMMIT.fullmatch(path.name):
                    parse_commit(path.read_bytes())
                elif _CHECKPOINT.fullmatch(path.name):
                    read_checkpoint(path)
            except (Damaged, OSError) as error:
                bad.append((str(path), str(error)))
        return bad

    # -- opening

    def _load(self) -> State:
        numbers = sorted(_numbers(self._directory, _COMMIT))
        state = self._newest_checkpoint()
        for path in (self._commit_path(number) for number in numbers if number <= state.version):
            if _is_damaged(path):
                self.recovered.append(f"{path.name}: torn or changed; the checkpoint after it serves")
                self._move_aside(path)
        last = max([state.version, *numbers])
        parts: dict[int, list[str]] | None = None
        for version in range(state.version + 1, last + 1):
            try:
                actions = parse_commit(self._commit_path(version).read_bytes())
            except (Damaged, OSError) as error:
                parts = parts_by_version(self._root) if parts is None else parts
                why = "missing" if isinstance(error, FileNotFoundError) else str(error)
                mended = self._mended(version, state, why, parts.get(version, []), version == last)
                if mended is None:
                    self._take_back_from(version)
                    break
                actions = mended
            state.apply(version, actions)
        if state.version >= 0 and state.meta is None:
            raise LakeBroken(
                f"{self._directory} says nothing about its table; restore it from a backup or move it away"
            )
        return state

    def _newest_checkpoint(self) -> State:
        for version in sorted(_numbers(self._directory, _CHECKPOINT), reverse=True):
            path = self._directory / f"{version:020d}.checkpoint.parquet"
            try:
                state = read_checkpoint(path)
            except (Damaged, OSError) as error:
                self.recovered.append(f"{path.name}: {error}; the one before it serves")
                self._move_aside(path)
                continue
            state.version = self._checkpointed = version
            break
        else:
            state = State()
        hint = self._directory / "_last_checkpoint"
        if hint.exists() and not _hint_is(hint, state.version):
            hint.unlink()  # torn, or of the checkpoint before; it is but a hint
        return state

    def _mended(self, version: int, state: State, why: str, parts: Sequence[str], is_last: bool) -> list[Action] | None:
        """Rebuild a damaged commit from the names of the files that it added; None where it is to be taken back."""
        path = self._commit_path(version)
        try:
            actions = actions_from_names(self._root, parts, state)
        except Damaged as error:
            self.recovered.append(f"{path.name}: {why}; {error}")
            return None
        if not actions:
            actions = drops_from_absence(self._root, state)
        if version == 0:
            actions = [*birth(self._name, self._schema_text), *actions]
        elif not actions and is_last:
            self.recovered.append(f"{path.name}: {why}; it added no files and is taken back")
            return None
        if path.exists():
            os.link(path, self._aside_name(path))
        # Put in the damaged one's place at once: a commit whose number is not there never was.
        self._write_aside(sealed(actions, "REPAIR", {"why": why}), path)
        self.recovered.append(f"{path.name}: {why}; rebuilt from the files it added ({len(parts)})")
        return actions

    def _take_back_from(self, version: int) -> None:
        """The table ends before `version`; the rest is kept aside. Noted first, so that a kill leaves no half of it."""
        note = self._directory / ".taking-back"
        self._write_aside(str(version).encode(), note)
        for number, paths in parts_by_version(self._root).items():
            for path in paths if number >= version else []:
                self._move_aside(Path(path))
        for number in _numbers(self._directory, _COMMIT):
            if number >= version:
                self._move_aside(self._commit_path(number))
        note.unlink()

    def _finish_taking_back(self) -> None:
        with suppress(FileNotFoundError, ValueError):
            self._take_back_from(int((self._directory / ".taking-back").read_text()))

    # -- files

    def _commit_path(self, version: int) -> Path:
        return self._directory / f"{version:020d}.json"

    def _write_aside(self, data: bytes, target: Path | None = None) -> Path:
        """Write and sync a temporary file; moved over `target` where one is given."""
        temporary = self._directory / f"{TEMPORARY}{uuid.uuid4().hex}"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            view = memoryview(data)
            while len(view):
                view = view[os.write(file, view) :]
            fsync(file, temporary)
            if target is not None:
                os.rename(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        finally:
            os.close(file)
        return target or temporary

    def _aside_name(self, path: Path) -> Path:
        aside = self._root / "_aside" / "damaged"
        aside.mkdir(parents=True, exist_ok=True)
        return aside / f"{path.name}.{uuid.uuid4().hex[:8]}"

    def _move_aside(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            os.rename(path, self._aside_name(path))

    def _forget_deleted(self) -> None:
        """Tombstones are kept as long as their files are there; that is what they are for."""
        gone = [path for path in self.state.removes if not (self._root / path).exists()]
        for path in gone:
            del self.state.removes[path]

    def _clean_up(self) -> None:
        """Two checkpoints stay, and the commits after the older one."""
        checkpoints = sorted(_numbers(self._directory, _CHECKPOINT))
        if len(checkpoints) < 2:
            return
        for old in checkpoints[:-2]:
            (self._directory / f"{old:020d}.checkpoint.parquet").unlink()
        for version in _numbers(self._directory, _COMMIT):
            if version <= checkpoints[-2]:
                self._commit_path(version).unlink()


def _numbers(directory: Path, pattern: re.Pattern[str]) -> list[int]:
    return [int(m[1]) for m in map(pattern.fullmatch, os.listdir(directory)) if m]


def _hint_is(path: Path, version: int) -> bool:
    try:
        return json.loads(path.read_bytes())["version"] == version
    except (ValueError, KeyError, TypeError, OSError):
        return False


def _is_damaged(path: Path) -> bool:
    try:
        parse_commit(path.read_bytes())
    except (Damaged, OSError):
        return True
    return False
