"""Rebuilding a damaged commit from the data files: their names say which commit added them, and what they replaced.

A commit is linked to its number after its files are on disk, so the files of a commit that exists are all there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from meterpulse.lake import CorruptFile
from meterpulse.lake.actions import Action, Damaged, State, add_action, position_action, remove_action
from meterpulse.lake.parts import Name, Part, name_of
from meterpulse.lake.reader import groups_of


def parts_by_version(root: Path) -> dict[int, list[str]]:
    """Paths of all data files on disk, by the commit that added them."""
    parts: dict[int, list[str]] = {}
    for path in sorted(root.glob("day=*/*.parquet")):
        with suppress(ValueError):
            parts.setdefault(name_of(str(path)).version, []).append(str(path))
    return parts


def actions_from_names(root: Path, parts: Sequence[str], state: State) -> list[Action]:
    """What a commit did, from the data files that bear its number. Raises Damaged where one of them is not whole."""
    adds: list[Action] = []
    removes: dict[str, Action] = {}
    position: list[Action] = []
    for path in parts:
        name, stat = name_of(path), os.stat(path)
        try:
            groups = groups_of(name.lake_file(root, 0, stat.st_size))
        except CorruptFile as error:
            raise Damaged(f"its file {name.path} is damaged too") from error
        channels = (min(g.low for g in groups), max(g.high for g in groups))
        rows, modified_ms = sum(g.rows for g in groups), stat.st_mtime_ns // 1_000_000
        adds.append(add_action(Part(name, rows, stat.st_size, channels, modified_ms)))
        if name.kind in "cr":
            removes |= {a["path"]: remove_action(a, modified_ms, "layout") for a in _covered(state, name)}
        else:
            position = [position_action(name.after)]
    return [*removes.values(), *adds, *position]


def drops_from_absence(root: Path, state: State) -> list[Action]:
    """A commit that added nothing may have dropped days: those of which no file is left."""
    days: dict[str, list[Action]] = {}
    for add in state.adds.values():
        days.setdefault(add["partitionValues"]["day"], []).append(add)
    gone = [adds for adds in days.values() if not any((root / a["path"]).exists() for a in adds)]
    return [remove_action(a, a["modificationTime"], "data") for adds in gone for a in adds]


def _covered(state: State, name: Name) -> list[Action]:
    return [a for a in state.adds.values() if _lies_in(name_of(a["path"]), name)]


def _lies_in(old: Name, new: Name) -> bool:
    return old.day == new.day and new.first <= old.first and old.after <= new.after
