"""Killed at any instant, or with the disk full: what was acknowledged is there, whole, and nothing else is."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy.exc import OperationalError

from meterpulse.model.channel import NOT_FOUND, Channel
from meterpulse.model.problem import Problem
from meterpulse.registry import Registry
from meterpulse.registry.columns import Column
from meterpulse.registry.ledger import Ledger

BATCH = 300

WRITER = f"""
import os, signal, sys
import pyarrow as pa
from meterpulse.registry import Registry
from meterpulse.registry.columns import Column
from meterpulse.registry.ledger import Ledger
from meterpulse.registry.texts import TextIndex

directory, point, first = sys.argv[1], sys.argv[2], int(sys.argv[3])

def die_at(owner, name, when):
    original = getattr(owner, name)
    def dying(*args, **kwargs):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, dying)

registry = Registry.open(directory)
for batch in range(first, first + 1000):
    ids = [f"channel-number-{{i}}" for i in range(batch * {BATCH}, (batch + 1) * {BATCH})]
    point != "random" and batch == first + 2 and die_at(*{{
        "before the commit": (Ledger, "commit", "before"),
        "after the commit": (Ledger, "commit", "after"),
        "before the sync of the ids": (TextIndex, "sync", "before"),
        "after the sync of the ids": (TextIndex, "sync", "after"),
        "before a change in place": (Column, "put", "before"),
        "after a change in place": (Column, "put", "after"),
        "before the redo is cleared": (Ledger, "clear_redo", "before"),
        "after the redo is cleared": (Ledger, "clear_redo", "after"),
    }}[point])
    words = {{"utility": ["gas"] * {BATCH}, "unit": ["m3"] * {BATCH}}}
    new = {{"id": ids, "customer": [f"of {{i}}" for i in ids], "area": [f"A{{batch}}"] * {BATCH}}}
    registry.register(pa.table(new | words))
    print("created", batch, flush=True)
    other = {{"id": ids, "area": [f"B{{batch}}"] * {BATCH}, "class": ["business"] * {BATCH}}}
    registry.register(pa.table(other | words))
    print("changed", batch, flush=True)
"""


def write_until_killed(directory, point: str, first: int, seconds: float | None) -> tuple[int, set[int]]:
    """Run the writer from batch `first` on and kill it; returns how many batches there are that it acknowledged, and
    which it acknowledged as changed."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(directory), point, str(first)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if seconds is not None:
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    seen = 1 if seconds is not None else 0  # the line that was read above
    changed = {int(line.split()[1]) for line in output.splitlines() if line.startswith("changed ")}
    return first + seen + output.count("created"), changed


def assert_whole(directory, created: int, changed: set[int]) -> int:
    """The registry holds what was acknowledged, in whole batches; returns how many."""
    with Registry.open(directory) as registry:
        table = registry.channels()
        count = table.num_rows
        assert count % BATCH == 0 and created * BATCH <= count <= (created + 1) * BATCH
        ids = [f"channel-number-{i}" for i in range(count)]
        assert table["id"].to_pylist() == ids
        assert table["customer"].to_pylist() == [f"of {id}" for id in ids]
        column = pa.array(ids, pa.large_string())
        offsets, data = np.frombuffer(column.buffers()[1], np.int64), np.frombuffer(column.buffers()[2], np.uint8)
        assert (registry.table.lookup(offsets[: count + 1], data) == np.arange(count)).all()
        for batch in range(count // BATCH):
            areas = set(table["area"][batch * BATCH : (batch + 1) * BATCH].to_pylist())
            classes = set(table["class"][batch * BATCH : (batch + 1) * BATCH].to_pylist())
            states = [({f"A{batch}"}, {"household"}), ({f"B{batch}"}, {"business"})]
            assert (areas, classes) in (states[1:] if batch in changed else states)
            history = [entry["field"] for entry in registry.history(f"channel-number-{batch * BATCH}")]
            assert history == ([] if classes == {"household"} else ["class", "area"])
        known = [{"id": f"channel-number-{i}", "utility": "gas", "unit": "m3"} for i in (0, count - 1) if count]
        out = registry.register(known)
        assert out.created == 0
        return count // BATCH


def test_killed_at_random_instants_it_goes_on_from_whole_registrations(tmp_path):
    chance, batches, all_changed = random.Random(20), 0, set()
    for _ in range(4):
        created, changed = write_until_killed(tmp_path, "random", batches, chance.uniform(0, 0.2))
        all_changed |= changed
        batches = assert_whole(tmp_path, created, all_changed)


@pytest.mark.parametrize(
    "point",
    [
        "before the sync of the ids",
        "after the sync of the ids",
        "before the commit",
        "after the commit",
        "before a change in place",
        "after a change in place",
        "before the redo is cleared",
        "after the redo is cleared",
    ],
)
def test_killed_at_each_step_it_goes_on_from_whole_registrations(tmp_path, point):
    created, changed = write_until_killed(tmp_path, point, 0, None)
    assert (created, changed) == (3 if "change" in point or "redo" in point else 2, {0, 1})
    batches = assert_whole(tmp_path, created, changed)
    assert batches == (
        2 if point in ("before the sync of the ids", "after the sync of the ids", "before the commit") else 3
    )
    with Registry.open(tmp_path) as registry:
        assert registry.register([Channel("new", "gas", "m3")]).indices.tolist() == [batches * BATCH]


def test_a_full_disk_is_told_and_nothing_is_half_registered(tmp_path, monkeypatch):
    channels = [Channel(f"E-{i}", "gas", "m3", customer=f"H-{i}", area="new") for i in range(100)]
    write = os.pwrite

    def full_after(calls: int):
        def pwrite(*args):
            nonlocal calls
            calls -= 1
            if calls < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(*args)

        return pwrite

    with Registry.open(tmp_path) as registry:
        registry.register(channels[:3])
        for calls in range(7):
            monkeypatch.setattr(os, "pwrite", full_after(calls))
            with pytest.raises(Problem, match="The disk is full") as caught:
                registry.register(channels[3:])
            assert caught.value.status == 507
            assert registry.table.count == 3
            assert registry.table.lookup_one("E-3") == NOT_FOUND
        monkeypatch.setattr(os, "pwrite", write)
        assert registry.register(channels[50:]).indices.tolist() == list(range(3, 53))
        assert registry.register(channels).indices.tolist() == [0, 1, 2, *range(53, 100), *range(3, 53)]
        assert registry.channels(customer="H-60")["id"].to_pylist() == ["E-60"]


def test_a_commit_that_fails_leaves_no_trace(tmp_path, monkeypatch):
    with Registry.open(tmp_path) as registry:
        registry.register([Channel("one", "gas", "m3", area="A")])
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "commit", _disk_full)
            with pytest.raises(OperationalError):
                registry.register([Channel("two", "water", "L", area="B"), Channel("one", "gas", "m3", area="C")])
            with pytest.raises(OperationalError):
                registry.add_area("D")
        assert registry.areas.names == ["A"]
        assert registry.channel("one")["area"] == "A"
        assert registry.register([Channel("three", "water", "L", area="E")]).indices.tolist() == [1]
        assert registry.areas.names == ["A", "E"]
        assert registry.table.lookup_one("two") == NOT_FOUND


def test_a_change_left_undone_by_a_killed_writer_is_done_by_the_next_one(tmp_path):
    def row(id, area):
        return {"id": id, "utility": "gas", "unit": "m3", "area": area}

    writer = Registry.open(tmp_path)
    writer.register([row("one", "A"), row("two", "A")])
    store = writer._store
    store.columns["area"].put = lambda *_: None  # dies before the file is changed
    store.ledger.clear_redo = lambda: None
    writer.register([row("one", "B")])
    reader = Registry.open(tmp_path)  # while the writer is alive, it is left to finish
    assert len(reader._store.ledger.redo()) == 1
    writer.close()
    reader.register([row("two", "C")])
    with Registry.open(tmp_path) as third:
        assert third.channels()["area"].to_pylist() == ["B", "C"]
    reader.close()


def test_names_of_refused_rows_do_not_get_into_the_saved_table(tmp_path):
    refused = {"id": "one", "utility": "water", "unit": "L", "customer": "X"}
    with Registry.open(tmp_path) as registry:
        registry.register([Channel("one", "gas", "m3", customer="W")])
        assert registry.register([refused]).refused == 1
    with Registry.open(tmp_path) as registry:
        registry.register([Channel("two", "gas", "m3", customer="Y"), Channel("three", "gas", "m3", customer="X")])
        assert registry.channels(customer="Y")["id"].to_pylist() == ["two"]
        assert registry.channels(customer="X")["id"].to_pylist() == ["three"]


def test_files_that_are_shorter_than_committed_are_refused(tmp_path):
    with Registry.open(tmp_path) as registry:
        registry.register([Channel(f"E-{i}", "gas", "m3") for i in range(10)])
    os.truncate(tmp_path / "channel.area", 12)
    with pytest.raises(Problem, match=r"channel.area holds 12 bytes of 40 that were committed; restore a backup"):
        Registry.open(tmp_path)


def test_what_lies_behind_the_committed_part_of_a_file_does_not_matter(tmp_path):
    with Registry.open(tmp_path) as registry:
        registry.register([Channel(f"E-{i}", "gas", "m3", area="A") for i in range(10)])
    column = Column(tmp_path / "channel.area", np.uint32, 10)
    column.write(10, np.arange(1000, dtype=np.uint32))
    column.close()
    cells = Column(tmp_path / "id.cells", np.uint64, 20)
    cells.write(20, np.full(500, 7, np.uint64))
    cells.close()
    with Registry.open(tmp_path) as registry:
        assert registry.register([Channel("new", "gas", "m3")]).indices.tolist() == [10]
        assert registry.channel("new")["area"] is None


def _disk_full(*_):
    raise OperationalError("insert", {}, Exception("disk I/O error"))
