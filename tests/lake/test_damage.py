"""What happens to the lake when bytes change, vanish or are cut off under it."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from meterpulse.lake import CorruptFile, LakeBroken
from meterpulse.lake.delta import DeltaLake
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS

DAY = 20_520


def _commit(lake: DeltaLake, back: int = 0) -> Path:
    return lake._root / "_delta_log" / f"{lake._commits.state.version - back:020d}.json"


def _checkpoints(lake: DeltaLake) -> list[Path]:
    return sorted((lake._root / "_delta_log").glob("*.checkpoint.parquet"))


def _torn(path: Path, how: str) -> None:
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    path.write_bytes(
        {
            "empty": b"",
            "zeros": bytes(len(data)),
            "half": data[: len(data) // 2],
            "whole lines missing": b"".join(lines[:-1]),
            "a digit changed": data.replace(b'"numRecords\\":100', b'"numRecords\\":101'),
        }[how]
    )
    assert path.read_bytes() != data


WAYS = ["empty", "zeros", "half", "whole lines missing", "a digit changed"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("back", [0, 1, 2])
def test_a_damaged_commit_is_rebuilt_from_the_files_it_added(lake, sweep, rows, reopen, how, back):
    for i in range(4):
        lake.write([sweep(DAY, i), sweep(DAY + 1, i)], i * 10, i * 10 + 10)
    expected = rows(lake)
    _torn(_commit(lake, back), how)
    lake = reopen(lake)
    assert lake.position == 40 and rows(lake) == expected and len(lake.recovered) == 1 and lake.verify() == []
    lake.write([sweep(DAY, 3)], 30, 40)
    assert rows(lake) == expected
    assert reopen(lake).recovered == []


@pytest.mark.parametrize("how", WAYS)
def test_a_damaged_last_commit_whose_files_are_damaged_too_is_taken_back_and_replayed(lake, sweep, rows, reopen, how):
    for i in range(3):
        lake.write([sweep(DAY, i), sweep(DAY + 1, i)], i, i + 1)
    expected = rows(lake)
    _torn(_commit(lake), how)
    Path(lake.files(DAY)[-1].path).write_bytes(b"")
    lake = reopen(lake)
    assert lake.position == 2 and len(rows(lake)) == 400 and lake.recovered and lake.verify() == []
    lake.write([sweep(DAY, 2), sweep(DAY + 1, 2)], 2, 3)
    assert rows(lake) == expected and lake.verify() == []


def test_a_damaged_commit_that_only_moved_the_position_moves_it_back(lake, sweep, rows, reopen):
    lake.write([sweep(DAY, 0)], 0, 1)
    lake.write([], 1, 9)
    _commit(lake).write_bytes(b"")
    lake = reopen(lake)
    assert lake.position == 1 and len(rows(lake)) == 100
    lake.write([], 1, 9)
    assert lake.position == 9


@pytest.mark.parametrize("later", [0, 1])
def test_a_day_stays_dropped_when_that_commit_is_damaged(lake, sweep, rows, reopen, later):
    lake.write([sweep(DAY, 0), sweep(DAY + 1, 0)], 0, 1)
    lake.drop(DAY)
    if later:
        lake.write([sweep(DAY + 1, 1)], 1, 2)
    _torn(_commit(lake, later), "half")
    lake = reopen(lake)
    assert lake.days() == [DAY + 1] and len(rows(lake)) == 100 + 100 * later and lake.verify() == []


@pytest.mark.parametrize("how", ["empty", "half"])
def test_a_damaged_compaction_counts_nothing_twice(lake, sweep, rows, reopen, how):
    for i in range(3):
        lake.write([sweep(DAY, i)], i, i + 1)
    lake.compact(DAY)
    expected = rows(lake)
    _torn(_commit(lake), how)
    lake = reopen(lake)
    assert rows(lake) == expected and lake.verify() == []


@pytest.mark.parametrize("how", ["empty", "half", "flipped", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(lake, sweep, rows, reopen, how):
    for i in range(250):
        lake.write([sweep(DAY, i, 5)], i, i + 1)
    expected = rows(lake)
    path = _checkpoints(lake)[-1]
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 3] ^= 4
        path.write_bytes(data)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: 0 if how == "empty" else len(data) // 2])
    lake = reopen(lake)
    assert rows(lake) == expected and lake.position == 250 and lake.verify() == []


def test_without_any_checkpoint_the_table_is_rebuilt_from_the_names_of_its_files(lake, sweep, rows, reopen):
    for i in range(330):
        lake.write([sweep(DAY + i % 2, i, 5)], i, i + 1)
        if i == 150:
            lake.compact(DAY)
            lake.vacuum(0, 1 << 60)
        if i == 250:
            lake.compact(DAY + 1)
    expected = rows(lake)
    for path in _checkpoints(lake):
        path.write_bytes(b"PAR1")
    lake = reopen(lake)
    assert rows(lake) == expected and lake.position == 330 and lake.verify() == []


@pytest.mark.parametrize("hint", [b"", b'{"versi', b'{"version":7,"size":3}'])
def test_a_torn_or_stale_hint_of_the_last_checkpoint_does_no_harm(lake, sweep, rows, reopen, hint):
    for i in range(120):
        lake.write([sweep(DAY, i, 5)], i, i + 1)
    (lake._root / "_delta_log" / "_last_checkpoint").write_bytes(hint)
    lake = reopen(lake)
    assert len(rows(lake)) == 600 and lake.verify() == []


@pytest.mark.parametrize("files_too", [0, 1])
def test_a_kill_in_the_middle_of_mending_loses_nothing(lake, sweep, rows, reopen, monkeypatch, files_too):
    for i in range(4):
        lake.write([sweep(DAY, i), sweep(DAY + 1, i)], i, i + 1)
    expected = rows(lake)
    _torn(_commit(lake, 1), "half")
    if files_too:
        Path(lake.files(DAY)[2].path).write_bytes(b"")
    rename = os.rename
    for nth in range(8):
        left = [nth]

        def stopping(old, new, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            rename(old, new)

        monkeypatch.setattr(os, "rename", stopping)
        try:
            lake = reopen(lake)
        except KeyboardInterrupt:
            continue
        finally:
            monkeypatch.undo()
        break
    lake = reopen(lake)
    for i in range(lake.position, 4):
        lake.write([sweep(DAY, i), sweep(DAY + 1, i)], i, i + 1)
    assert nth > 0 and rows(lake) == expected and lake.verify() == []
    assert len(list(lake._root.glob("_aside/damaged/w-*"))) == 4 * files_too


def test_leftovers_of_a_killed_write_are_removed_and_never_counted(lake, sweep, rows, reopen):
    lake.write([sweep(DAY, 0)], 0, 1)
    lake.write([sweep(DAY, 1)], 1, 2)
    uncommitted = Path(lake.files(DAY)[-1].path)
    _commit(lake).unlink()
    (uncommitted.parent / ".new-123").write_bytes(b"half a file")
    lake = reopen(lake)
    assert lake.position == 1 and len(rows(lake)) == 100
    assert [p.name for p in uncommitted.parent.iterdir()] == [Path(lake.files(DAY)[0].path).name]


def test_every_flipped_bit_is_found_before_a_row_is_served(lake, rows):
    rng = np.random.default_rng(7)
    lake.write(
        [Readings.of(rng.integers(0, 999, 3000), DAY * DAY_MS + np.arange(3000), 5, rng.integers(0, 60_000, 3000))],
        0,
        1,
    )
    file = lake.files(DAY)[0]
    data, random_ = Path(file.path).read_bytes(), random.Random(8)
    bits = random_.sample(range(len(data) * 8), 3000) + list(range(len(data) * 8 - 64 * 8, len(data) * 8))
    silent = []
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        Path(file.path).write_bytes(changed)
        try:
            list(lake.read([file]))
            silent.append(bit)
        except CorruptFile as error:
            assert error.path == file.path
    assert silent == []


@pytest.mark.parametrize("what", ["gone", "empty", "short", "flipped"])
def test_a_damaged_file_is_reported_set_aside_and_filled_again(lake, sweep, rows, reopen, what):
    for i in range(3):
        lake.write([sweep(DAY, i), sweep(DAY + 1, i)], i, i + 1)
    expected, file = rows(lake), lake.files(DAY)[1]
    data = bytearray(Path(file.path).read_bytes())
    data[100] ^= 1
    if what == "gone":
        Path(file.path).unlink()
    else:
        Path(file.path).write_bytes({"empty": b"", "short": data[:-9], "flipped": data}[what])
    lake = reopen(lake)
    with pytest.raises(CorruptFile):
        rows(lake)
    assert [(f.severity, f.path) for f in lake.verify()] == [("error", file.path)]
    lake.write([sweep(DAY, 3)], 3, 4)  # nothing else is held up
    hole = lake.quarantine_file(file.path)
    assert (hole.day, hole.first, hole.after) == (DAY, 1, 2) and lake.holes() == [hole]
    assert len(rows(lake)) == len(expected) and [f.path for f in lake.verify()] == [hole.path]
    if what == "flipped":
        assert Path(hole.path).read_bytes() == data
    lake = reopen(lake)
    lake.refill(hole, [sweep(DAY, 1), sweep(DAY + 1, 1)])
    lake = reopen(lake)
    lake.drop(DAY + 9)
    assert rows(lake, DAY)[:300] == [r for r in expected if r[1] // DAY_MS == DAY]
    assert lake.holes() == [] and lake.verify() == [] and len(rows(lake)) == len(expected) + 100


def test_compacting_a_damaged_day_changes_nothing(lake, sweep, reopen):
    for i in range(3):
        lake.write([sweep(DAY, i)], i, i + 1)
    files = lake.files(DAY)
    path = Path(files[1].path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFile):
        lake.compact(DAY)
    assert lake.files(DAY) == files and lake.position == 3
    assert not list(lake._root.glob("day=*/.new*")) + list(lake._root.glob(".new*"))


def test_after_a_failed_fsync_nothing_is_acknowledged_until_the_lake_is_opened_anew(
    lake, sweep, rows, reopen, monkeypatch
):
    lake.write([sweep(DAY, 0)], 0, 1)
    for nth in range(1, 7):
        left, fsync = [nth], os.fsync

        def failing(file, left=left, fsync=fsync):
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.EIO, "Input/output error")
            fsync(file)

        monkeypatch.setattr(os, "fsync", failing)
        at = lake.position
        with pytest.raises(LakeBroken, match="open"):
            lake.write([sweep(DAY, at), sweep(DAY + 1, at)], at, at + 1)
        monkeypatch.undo()
        with pytest.raises(LakeBroken, match="cannot be written"):
            lake.write([sweep(DAY, at), sweep(DAY + 1, at)], at, at + 1)
        lake = reopen(lake)
        if lake.position == at:
            lake.write([sweep(DAY, at), sweep(DAY + 1, at)], at, at + 1)
        assert lake.position == at + 1 and len(rows(lake)) == 100 + 200 * nth and lake.verify() == []


def test_verify_names_a_damaged_commit(lake, sweep):
    lake.write([sweep(DAY, 0)], 0, 1)
    path = _commit(lake)
    actions = [json.loads(line) for line in path.read_bytes().splitlines()]
    actions[1]["add"]["size"] += 1
    path.write_text("".join(json.dumps(a) + "\n" for a in actions))
    assert str(path) in [f.path for f in lake.verify()]
