"""The files of a lake that another process may be writing: no lock is taken, and nothing is mended."""

from __future__ import annotations

from pathlib import Path

from meterpulse.lake import LakeFile
from meterpulse.lake.actions import Damaged, State, parse_commit, read_checkpoint, rows_of
from meterpulse.lake.parts import name_of

_TRIES = 5


def published(directory: Path, table: str = "readings") -> list[LakeFile]:
    """What the newest whole commit says, sorted by day and log order; empty where there is no lake yet.

    Raises Damaged where no commit can be read: opening the lake mends that.
    """
    root = Path(directory).absolute() / table
    for last_try in (False,) * (_TRIES - 1) + (True,):
        try:
            adds = _state(root / "_delta_log").adds.values()
            return sorted(name_of(add["path"]).lake_file(root, rows_of(add), add["size"]) for add in adds)
        except FileNotFoundError:  # a checkpoint was written meanwhile, and the commits before it deleted
            if last_try:
                raise
    return []


def _state(log: Path) -> State:
    checkpoints = sorted(log.glob("*.checkpoint.parquet"), reverse=True)
    state = State()
    for path in checkpoints:
        try:
            state = read_checkpoint(path)
        except Damaged:
            continue
        state.version = int(path.name.partition(".")[0])
        break
    while (path := log / f"{state.version + 1:020d}.json").exists():
        state.apply(state.version + 1, parse_commit(path.read_bytes()))
    return state
