"""The log: what append has returned is there after anything that leaves the bytes alone, and damage is found, never served.

Facts that take `place` hold for every engine; those that take a directory are about LMDB's file.
"""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from meterpulse import plugins
from meterpulse.config import load
from meterpulse.log import CorruptEntry, Log, LogFull, Quarantined, Record
from meterpulse.log.commit import Committer, merged
from meterpulse.log.lmdb import LmdbLog
from meterpulse.model.problem import Problem
from meterpulse.model.reading import Readings


def record(seed: int, n: int = 100, source: str = "http", live: bool = True) -> Record:
    rng = np.random.default_rng(seed)
    return Record(
        source, Readings.of(rng.integers(0, 1000, n), seed * 5000, 5, rng.integers(0, 1 << 40, n)), 1_000 + seed, live
    )


def bad(seed: int) -> Quarantined:
    return Quarantined("not_a_number", "quantity", "text/csv", "http", 1_000 + seed, b"\xff\x00row " * (1 + seed % 900))


def same(a: Record, b: Record) -> bool:
    return (a.source, a.received_ms, a.live) == (b.source, b.received_ms, b.live) and a.readings == b.readings


class Place:
    """Where a log of an engine is, for as many to open it as like; `open` makes it when it is not there."""

    def __init__(self, engine: str, directory: Path, **sections):
        self.engine, self.directory = engine, directory
        self.settings = load({"log": {"engine": engine, **sections}}).log
        self._opened: list[Log] = []

    def open(self, **changed) -> Log:
        log = plugins.implementation("log", self.engine).open(
            self.directory, self.settings.model_copy(update=changed) if changed else self.settings
        )
        self._opened.append(log)
        return log

    def follow(self) -> Log:
        self._opened.append(plugins.implementation("log", self.engine).follow(self.directory, self.settings))
        return self._opened[-1]

    def close(self) -> None:
        for log in self._opened:
            log.close()


def kafka_place(cluster, directory: Path, **more) -> Place:
    copies = min(len(cluster.nodes), 3)
    return Place(
        "kafka",
        directory,
        kafka={
            "servers": cluster.bootstrap,
            "topic_prefix": f"t{secrets.token_hex(6)}",
            "replication_factor": copies,
            "min_insync_replicas": max(copies - 1, 1),
            **more,
        },
    )


@pytest.fixture(params=plugins.available("log"))
def place(request, tmp_path):
    if request.param == "kafka":
        place = kafka_place(request.getfixturevalue("kafka"), tmp_path / "log")
    else:
        place = Place(request.param, tmp_path / "log")
    yield place
    place.close()


@pytest.fixture
def log(tmp_path):
    log = LmdbLog(tmp_path / "log", 64 << 20)
    yield log
    log.close()


def test_entries_come_back_as_they_were_in_order_with_the_rows_before_them(place):
    log = place.open()
    assert log.append([record(0), record(1, 7, "import:x", live=False)], [bad(0)]) == 0
    assert log.append([record(2, 1)]) == 2
    entries = [log.read(i) for i in range(3)]
    assert [e.rows_before for e in entries] == [0, 100, 107] and (log.first, log.end, log.rows) == (0, 3, 108)
    assert all(
        same(e.record, r)
        for e, r in zip(entries, [record(0), record(1, 7, "import:x", False), record(2, 1)], strict=True)
    )
    assert log.read(3) is None
    [row] = log.quarantined()
    assert (row.key, row.original, row.reason) == (1, bad(0).original, "not_a_number")


def test_everything_is_there_after_opening_again_and_offsets_go_on(place):
    log = place.open()
    log.append([record(0)], [bad(1), bad(2)], {"belt": "7", "road": "a"})
    log.append([], positions={"belt": "8"})
    assert log.release([1, 9]) == 1 and log.release([1]) == 0
    log.close()
    log = place.open()
    assert log.append([record(1)], [bad(3)]) == 1 and same(log.read(0).record, record(0)) and log.salvaged is None
    assert [row.key for row in log.quarantined()] == [2, 3] and log.quarantined_ever == 3 and log.quarantine_count == 2
    assert (log.position("belt"), log.position("road"), log.position("rail")) == ("8", "a", None)


def test_an_entry_of_any_size_comes_back_whole(place):
    log = place.open()
    assert log.append([record(0, 400_000), record(1, 1)]) == 0
    log.close()
    log = place.open()
    assert same(log.read(1).record, record(1, 1)) and same(log.read(0).record, record(0, 400_000))


def test_what_is_trimmed_is_gone_and_says_so(place):
    log = place.open()
    for i in range(10):
        log.append([record(i)])
    log.trim(6)
    assert same(log.read(2).record, record(2)), "trimming waits for the next append"
    log.append([record(10)])
    assert log.first == 6 == log.following(0)
    with pytest.raises(KeyError):
        log.read(5)
    assert same(log.read(6).record, record(6))
    log.close()
    log = place.open()
    assert (log.first, log.following(2), log.end, log.rows) == (6, 6, 11, 1100)
    with pytest.raises(KeyError):
        log.read(5)


def test_a_full_log_refuses_whole_batches_and_goes_on_when_its_consumers_have_caught_up(place):
    log, n = place.open(max_bytes=16 << 20), 0
    with pytest.raises(LogFull, match="log.max_bytes"):
        while True:
            log.append([record(n, 50_000)])
            n += 1
    assert n > 10 and log.end == n and log.rows == 50_000 * n
    with pytest.raises(LogFull):
        log.append([record(n, 50_000)])
    for _ in range(3):  # the space is used again and again
        log.trim(log.end - 2)
        for _ in range(n - 3):
            log.append([record(log.end, 50_000)])
    assert same(log.read(log.end - 1).record, record(log.end - 1, 50_000))
    if place.engine == "lmdb":
        assert (place.directory / "data.mdb").stat().st_size < 64 << 20


def test_no_offset_is_given_twice_to_a_log_whose_readers_were_further(place):
    log = place.open()
    log.append([record(0)])
    log.fast_forward(50, 7_000)
    assert log.append([record(1)]) == 50 and log.rows == 7_100 and log.following(1) == 50
    log.close()
    log = place.open()
    assert log.end == 51 and same(log.read(50).record, record(1)) and log.read(50).rows_before == 7_000


def test_another_process_reads_what_is_appended_meanwhile(place):
    log = place.open()
    log.append([record(0)])
    code = (
        "import sys; from pathlib import Path; from meterpulse import plugins; from meterpulse.config import Log\n"
        "settings = Log.model_validate_json(sys.argv[2])\n"
        "log = plugins.implementation('log', settings.engine).follow(Path(sys.argv[1]), settings)\n"
        "print(log.end, flush=True); input(); log.refresh(2); print(log.end, log.read(1).rows_before)"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, place.directory, place.settings.model_dump_json()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert reader.stdout.readline() == "1\n"
    log.append([record(1)])
    assert reader.communicate("\n")[0] == "2 100\n"


def test_a_city_stays_with_the_log_that_it_began_with(place):
    place.open().append([record(0)])
    others = [engine for engine in plugins.available("log") if engine != place.engine]
    assert others
    for engine in others:
        with pytest.raises(OSError, match="begin with a new data folder"):
            plugins.implementation("log", engine).open(place.directory, place.settings)


def test_a_reader_that_was_killed_does_not_keep_the_space(tmp_path):
    log = LmdbLog(tmp_path, 16 << 20)
    log.append([record(0)])
    code = (
        "import sys, os, signal; from pathlib import Path; from meterpulse.log.lmdb import LmdbLog\n"
        "log = LmdbLog(Path(sys.argv[1]), readonly=True)\n"
        "txn = log._env.begin(); print(txn.get(b'x'), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], stdout=subprocess.DEVNULL)
    for i in range(1, 700):
        log.append([record(i, 20_000)])
        log.trim(i - 3)
    assert (tmp_path / "data.mdb").stat().st_size < 80 << 20
    log.close()


# -- damage --------------------------------------------------------------------------------------------------------------


def filled(directory: Path, n: int = 24) -> tuple[list[Record], list[Quarantined]]:
    log = LmdbLog(directory, 64 << 20)
    records, rows = [record(i, 1 + i * 150) for i in range(n)], [bad(i * 37) for i in range(n)]
    for r, q in zip(records, rows, strict=True):
        log.append([r], [q])
    log.close()
    return records, rows


def test_a_file_that_was_not_filled_up_after_its_last_commit_is_no_damage(tmp_path):
    """LMDB counts pages that a transaction took at the end and gave back; a kill may come before they are there."""
    log = LmdbLog(tmp_path, 64 << 20)
    for i in range(3):
        log.append([record(i)], [bad(i)])
    with log._env.begin(write=True) as txn:
        txn.put(b"x" * 8, bytes(100_000), db=log._entries)
        txn.delete(b"x" * 8, db=log._entries)
    wanted = (log._env.info()["last_pgno"] + 1) * 4096
    log.close()
    assert (tmp_path / "data.mdb").stat().st_size < wanted, "else this test shows nothing"
    log = LmdbLog(tmp_path, 64 << 20)
    assert log.salvaged is None and [same(log.read(i).record, record(i)) for i in range(3)] == [True] * 3
    log.append([record(3)])
    log.close()


@pytest.mark.parametrize("part", [0.0, 0.003, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 0.9999])
def test_of_a_log_cut_short_every_whole_entry_is_saved_and_nothing_else_is_made_up(tmp_path, part):
    records, rows = filled(tmp_path)
    file = tmp_path / "data.mdb"
    os.truncate(file, int(file.stat().st_size * part))
    log = LmdbLog(tmp_path, 64 << 20)
    saved = 0
    for offset in range(len(records)):
        try:
            entry = log.read(offset)
        except KeyError:
            continue
        if entry is not None:
            assert same(entry.record, records[offset])
            saved += 1
    kept = {row.key: row.original for row in log.quarantined()}
    assert all(rows[key - 1].original == original for key, original in kept.items())
    assert saved == len(records) or "damaged" in log.salvaged
    assert saved or part < 0.3
    assert saved > 10 or part < 0.7
    assert log.quarantined_ever <= len(rows)
    at = log.append([record(99)])
    assert at == log.end - 1 and same(log.read(at).record, record(99))
    log.close()
    log = LmdbLog(tmp_path, 64 << 20)
    assert log.salvaged is None and same(log.read(at).record, record(99))
    log.close()


def test_a_flipped_bit_is_found_wherever_it_is_and_other_entries_are_read(tmp_path):
    """Bits of entries, of rows in quarantine and of the pages that lead to them, in copies of one file."""
    records, rows = filled(tmp_path / "good")
    good, rng = (tmp_path / "good" / "data.mdb").read_bytes(), random.Random(7)
    for trial in range(100):
        directory = tmp_path / f"bad{trial}"
        directory.mkdir()
        data = bytearray(good)
        place = rng.randrange(8192, len(data))  # the two first pages are LMDB's own heads: it takes the older of them
        data[place] ^= 1 << rng.randrange(8)
        (directory / "data.mdb").write_bytes(data)
    # In a process of its own: what LMDB does with a broken page must not be the end of the tests.
    read = subprocess.run(
        [sys.executable, "-c", _READER, tmp_path, Path(__file__).parent], capture_output=True, text=True
    )
    assert read.returncode == 0, f"{read.stdout[-200:]} {read.stderr[-600:]}"
    assert "wrong" not in read.stdout
    results = [(line.count("right"), line.count("found")) for line in read.stdout.splitlines()]
    assert len(results) == 100 and min(right for right, _ in results) >= len(records) - 2
    assert sum(found > 0 for _, found in results) >= 15


_READER = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_log import LmdbLog, CorruptEntry, record, bad, same
for trial in range(100):
    print(trial, end=" ")
    log = LmdbLog(Path(sys.argv[1]) / f"bad{trial}", 64 << 20)
    if log.salvaged: print("found", end=" ")
    for offset in range(24):
        try: entry = log.read(offset)
        except (CorruptEntry, KeyError): print("found", end=" "); continue
        if entry is None: print("found", end=" ")
        elif same(entry.record, record(offset, 1 + offset * 150)): print("right", end=" ")
        else: print("wrong", offset, end=" ")
    for row in log.quarantined():
        if row.reason == "damaged": print("found", end=" ")
        elif row.original != bad((row.key - 1) * 37).original: print("wrong row", row.key, end=" ")
    print(flush=True)
    log.close()
"""


# -- group commit --------------------------------------------------------------------------------------------------------


def test_small_records_of_one_source_become_few_entries_and_keep_their_order():
    records = [Record("a", Readings.of([i], i, 5, [i]), i) for i in range(5)] + [
        Record("b", Readings.of([9], 9, 5, [9]), 9)
    ]
    records += [Record("b", Readings.empty(), 9), Record("b", Readings.of([8], 8, 5, [8]), 10, live=False)]
    out = list(merged(records))
    assert [(r.source, r.live, r.readings.channel.tolist()) for r in out] == [
        ("a", True, [0, 1, 2, 3, 4]),
        ("b", True, [9]),
        ("b", False, [8]),
    ]


def test_what_arrives_during_an_fsync_shares_the_next_one_and_is_acknowledged_after_it(log):
    appended = []
    entered, go_on = threading.Event(), threading.Event()
    whole = log.append

    def slow(records, bad=(), positions=None):
        entered.set()
        go_on.wait(10)
        appended.append(len(records))
        return whole(records, bad)

    log.append = slow
    committer = Committer(log, 1 << 20)
    first = committer.submit(record(0))
    entered.wait(10)
    others = [committer.submit(Record(f"s{i}", Readings.of([i], i, 5, [i]), i)) for i in range(50)]
    assert not first.done() and not any(f.done() for f in others)
    go_on.set()
    for future in [first, *others]:
        future.result(10)
    assert appended == [1, 50] and log.end == 51
    committer.stop()
    with pytest.raises(Problem, match="stopping"):
        committer.submit(record(1))


def test_a_group_that_the_disk_refuses_is_refused_as_a_whole_and_the_next_is_taken(log):
    whole, failing = log.append, threading.Event()

    def append(records, bad=(), positions=None):
        if failing.is_set():
            raise LogFull("no room")
        return whole(records, bad)

    log.append = append
    failing.set()
    committer = Committer(log, 1 << 20)
    with pytest.raises(LogFull):
        committer.submit(record(0)).result(10)
    failing.clear()
    committer.submit(record(1)).result(10)
    assert log.end == 1 and same(log.read(0).record, record(1))
    committer.stop()


def test_too_much_waiting_is_refused_with_when_to_come_back(log):
    entered, go_on = threading.Event(), threading.Event()
    whole = log.append

    def slow(records, bad=(), positions=None):
        entered.set()
        go_on.wait(10)
        return whole(records, bad)

    log.append = slow
    committer = Committer(log, 250)
    taken = [committer.submit(record(0))]
    entered.wait(10)
    taken += [committer.submit(record(1)), committer.submit(record(2))]
    with pytest.raises(Problem) as refused:
        committer.submit(record(3))
    assert refused.value.status == 503 and refused.value.retry_after_seconds
    go_on.set()
    for future in taken:
        future.result(10)
    assert log.rows == 300
    committer.stop()


def test_an_entry_names_its_own_offset_so_that_no_page_mixed_up_is_served(log):
    log.append([record(0), record(1)])
    with log._env.begin(write=True) as txn:
        key0, key1 = (bytes(7) + bytes([i]) for i in (0, 1))
        txn.put(key0, txn.get(key1, db=log._entries), db=log._entries)
    with pytest.raises(CorruptEntry, match="entry 0"):
        log.read(0)
    assert same(log.read(1).record, record(1))
