"""Checkpoints: the engine's arrays and the log offset they stand for, written beside each other and put in place by one rename.

Writing copies the arrays into the page cache while the engine waits (about a second for 26 million channels); the fsync is
done by another thread. A checkpoint is used only if every file has the checksum that its index says.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import xxhash

from meterpulse.model.aside import packed, unpacked
from meterpulse.model.crashpoint import crash_point
from meterpulse.model.reading import Readings, pack, unpack
from meterpulse.speed import Counters, Mark
from meterpulse.speed.embedded import Engine, Window


class CheckpointError(Exception):
    """The checkpoint cannot be used; the message says why."""


def write(engine: Engine, directory: Path) -> Path:
    """Copies the state into `directory/new-<offset>`; `settle` puts it in place. The engine must not move meanwhile."""
    target = directory / f"new-{engine.applied:020d}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    windows = []
    for window in engine.open_windows():
        name = f"{window.start_ms}"
        loose = pack(Readings.concat(window.loose)) if window.loose else b""
        parts = {"cells": memoryview(window.cells).cast("B"), "area": memoryview(window.area).cast("B"), "loose": loose}
        sums = {part: _save(target / f"{name}.{part}", data) for part, data in parts.items()}
        windows.append(
            {
                "start_ms": window.start_ms,
                "dtype": window.cells.dtype.str,
                "cells": window.cells.shape,
                "area": window.area.shape,
                "sums": sums,
            }
        )
    state = {
        "format": 1,
        "applied": engine.applied,
        "retired_ms": engine.retired_ms,
        "newest_ms": engine.watermark.newest_ms,
        "heard_ms": engine.watermark.heard_ms,
        "counters": asdict(engine.counters),
        "marks": {str(day): asdict(mark) for day, mark in engine.marks.items()},
        "asides": {str(day): aside.flags for day, aside in engine.asides.items()},
        "asides_sum": _save(target / "asides", packed(engine.asides)),
        "held": {str(day): bits for day, bits in engine.held.items()},
        "windows": windows,
    }
    body = json.dumps(state).encode()
    _save(target / "state.json", body + b"\n" + xxhash.xxh3_64_hexdigest(body).encode())
    return target


def settle(written: Path, keep: int = 1) -> int:
    """Makes a written checkpoint durable and current; removes all but the newest `keep`. Returns the oldest kept offset.

    One is enough: without it the open days are rebuilt from the lake. A second would keep a minute more of the log, which is
    gigabytes for a fleet, and mapped.
    """
    crash_point("checkpoint.written")
    for file in written.iterdir():
        _sync(file)
    _sync(written)
    final = written.with_name(written.name.replace("new-", "at-"))
    shutil.rmtree(final, ignore_errors=True)
    written.rename(final)
    _sync(final.parent)
    kept = sorted(final.parent.glob("at-*"))
    for old in kept[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    crash_point("checkpoint.settled")
    return int(kept[-keep:][0].name[3:])


def load_newest(engine: Engine, directory: Path) -> list[str]:
    """Puts the newest usable checkpoint into the engine, which stays as it is where there is none; says what was unusable."""
    troubles: list[str] = []
    directory.mkdir(parents=True, exist_ok=True)
    for half in directory.glob("new-*"):
        shutil.rmtree(half, ignore_errors=True)
    for found in sorted(directory.glob("at-*"), reverse=True):
        try:
            _load(engine, found)
            return troubles
        except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
            troubles.append(f"checkpoint {found.name} is not usable ({error})")
            shutil.rmtree(found, ignore_errors=True)
    return troubles


def _load(engine: Engine, directory: Path) -> None:
    body, _, check = (directory / "state.json").read_bytes().rpartition(b"\n")
    if xxhash.xxh3_64_hexdigest(body).encode() != check:
        raise CheckpointError("state.json is damaged")
    state = json.loads(body)
    windows = {}
    for w in state["windows"]:
        files = {part: _load_part(directory / f"{w['start_ms']}.{part}", total) for part, total in w["sums"].items()}
        cells = np.frombuffer(files["cells"], np.dtype(w["dtype"])).reshape(w["cells"])
        area = np.frombuffer(files["area"], np.int64).reshape(w["area"])
        loose = [unpack(bytes(files["loose"]))] if files["loose"] else []
        windows[w["start_ms"]] = Window(w["start_ms"], cells, area, loose)
    counters = Counters(**state["counters"])
    marks = {int(day): Mark(**mark) for day, mark in state["marks"].items()}
    asides = {}  # not in checkpoints that were written before there were differences
    if "asides" in state:
        told = bytes(_load_part(directory / "asides", state["asides_sum"]))
        asides = unpacked(told, {int(day): flags for day, flags in state["asides"].items()})
    held = {int(day): bits for day, bits in state.get("held", {}).items()}
    engine.windows, engine.applied, engine.retired_ms = windows, state["applied"], state["retired_ms"]
    engine.watermark.newest_ms, engine.watermark.heard_ms = state["newest_ms"], state["heard_ms"]
    engine.counters, engine.marks = counters, marks
    engine.asides, engine.held = asides, engine.held | held


def _save(path: Path, data: bytes | memoryview) -> str:
    """Writes it; returns the checksum. In small parts: a checksum keeps the interpreter for as long as it takes."""
    total, view = xxhash.xxh3_64(), memoryview(data).cast("B")
    with open(path, "wb", buffering=0) as file:
        for at in range(0, len(view), 1 << 22):
            part = view[at : at + (1 << 22)]
            total.update(part)
            while part:
                part = part[file.write(part) :]
    return total.hexdigest()


def _load_part(path: Path, total: str) -> bytearray:
    size = path.stat().st_size
    data = bytearray(size)
    with open(path, "rb", buffering=0) as file:
        view, at = memoryview(data), 0
        while at < size:
            got = file.readinto(view[at : at + (1 << 26)])
            if not got:
                break
            at += got
    if at != size or xxhash.xxh3_64_hexdigest(data) != total:
        raise CheckpointError(f"{path.name} is damaged")
    return data


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
