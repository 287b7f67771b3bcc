"""The log in Kafka: what the brokers confirm is there, what they do not confirm is found out, and one server writes at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_log import Place, bad, kafka_place, record, same  # noqa: E402

from tests.services import require  # noqa: E402

require("kafka")

import meterpulse.kafka  # noqa: E402
from meterpulse.kafka.numbered import parts_of  # noqa: E402
from meterpulse.kafka.transactions import Fenced, NothingTaken, NotKnown, Transactions  # noqa: E402
from meterpulse.log import CorruptEntry  # noqa: E402
from meterpulse.log.packed import encode  # noqa: E402


@pytest.fixture
def place(kafka, tmp_path):
    place = kafka_place(kafka, tmp_path / "log", timeout_seconds=10)
    yield place
    place.close()


def test_a_server_whose_log_was_taken_over_writes_no_more(place):
    old = place.open()
    old.append([record(0)])
    new = place.open()
    new.append([record(1)])
    for _ in range(2):
        with pytest.raises(Fenced, match="another server has taken over"):
            old.append([record(2)])
    assert new.append([record(3)]) == 2
    assert [same(new.read(i).record, record(n)) for i, n in enumerate((0, 1, 3))] == [True] * 3


def test_an_append_whose_outcome_was_not_told_is_found_committed_and_counts_once(place, monkeypatch):
    log, commit = place.open(), Transactions.commit

    def confirmed_without_a_word(self, messages):
        commit(self, messages)
        self._producer = None
        raise NotKnown("the answer was lost")

    log.append([record(0)])
    with monkeypatch.context() as patched:
        patched.setattr(Transactions, "commit", confirmed_without_a_word)
        assert log.append([record(1)], [bad(1)]) == 1
    assert log.append([record(2)]) == 2 and (log.rows, log.quarantined_ever) == (300, 1)
    assert [same(log.read(i).record, record(i)) for i in range(3)] == [True] * 3


def test_an_append_whose_outcome_was_not_told_is_found_given_up_and_its_offset_is_used_again(place, monkeypatch):
    log, commit = place.open(), Transactions.commit

    def begun_and_no_more(self, messages):
        with monkeypatch.context() as inner:
            inner.setattr(self, "_producer", _NeverCommits(self._producer))
            with contextlib.suppress(RuntimeError):
                commit(self, messages)
        self._producer = None
        raise NotKnown("the answer was lost")

    log.append([record(0)])
    with monkeypatch.context() as patched:
        patched.setattr(Transactions, "commit", begun_and_no_more)
        with pytest.raises(NotKnown):
            log.append([record(1)], [bad(1)])
    assert (log.end, log.rows) == (1, 100)
    assert log.append([record(2)], [bad(2)]) == 1 and log.rows == 200
    assert same(log.read(1).record, record(2)) and [q.original for q in log.quarantined()] == [bad(2).original]
    log.close()
    log = place.open()
    assert same(log.read(1).record, record(2)) and log.end == 2 and log.salvaged is None


class _NeverCommits:
    def __init__(self, producer):
        self._producer = producer

    def __getattr__(self, name):
        return getattr(self._producer, name)

    def commit_transaction(self, *_):
        self._producer.flush(10)  # the brokers have the messages, in a transaction that nobody ends
        raise RuntimeError


def test_a_damaged_entry_is_named_and_others_are_read(place):
    log = place.open()
    log.append([record(0), record(1)])
    value = bytearray(encode(2, 200, record(2)))
    value[len(value) // 2] ^= 4
    log._writer.commit(parts_of(log._entries.name, 2, 0, bytes(value)))
    log.fast_forward(3, 300)
    assert log.append([record(3)]) == 3
    with pytest.raises(CorruptEntry, match="entry 2"):
        log.read(2)
    assert same(log.read(1).record, record(1)) and same(log.read(3).record, record(3))


def test_entries_that_the_cluster_has_lost_are_told_and_their_offsets_stay_theirs(place):
    log = place.open()
    log.append([record(0)])
    log._commit(replace(log._state, end=7, last=6), [])  # as if six more had been confirmed
    log.close()
    log = place.open()
    assert "ends with entry 0, but entry 6 was confirmed" in log.salvaged
    assert log.append([record(1)]) == 7


def test_brokers_that_do_not_answer_are_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(meterpulse.kafka, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9: it does not answer.*check that the brokers run"):
        Place("kafka", tmp_path, kafka={"servers": "127.0.0.1:9"}).open()


def test_a_topic_that_would_forget_is_refused(place):
    from confluent_kafka.admin import AdminClient, NewTopic

    admin, prefix = AdminClient({"bootstrap.servers": place.settings.kafka.servers}), place.settings.kafka.topic_prefix
    admin.create_topics([NewTopic(f"{prefix}.log", 1, 1)])[f"{prefix}.log"].result(30)
    with pytest.raises(OSError, match=r"retention\.ms=604800000 and would forget; set it to -1"):
        place.open()


def test_client_properties_may_not_take_back_what_is_promised(tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("# ours\nsecurity.protocol = PLAINTEXT\n\nsasl.password=a=b\n")
    assert meterpulse.kafka.read_properties(file) == {"security.protocol": "PLAINTEXT", "sasl.password": "a=b"}
    file.write_text("acks=1")
    with pytest.raises(ValueError, match="line 1: acks is set by this program"):
        meterpulse.kafka.read_properties(file)


_WRITER = """
import sys; from pathlib import Path
sys.path[:0] = sys.argv[3:]
from meterpulse.config import Log as LogSettings
from test_log import record, plugins
settings = LogSettings.model_validate_json(sys.argv[2])
log = plugins.implementation("log", "kafka").open(Path(sys.argv[1]), settings)
while True:
    n = log.end
    log.append([record(n, 50), record(n + 1, 50)])
    print(n + 1, flush=True)
"""


@pytest.mark.crash
def test_a_writer_killed_at_any_moment_loses_nothing_that_it_acknowledged_and_leaves_no_half(place):
    place.open().close()
    here = Path(__file__).parent
    for after in (0.0, 0.013, 0.1):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, place.directory, place.settings.model_dump_json(), here, here.parents[1]],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        acknowledged = int(writer.stdout.readline())
        time.sleep(after)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        writer.wait()
        log = place.open()
        assert log.end % 2 == 0 and acknowledged < log.end <= acknowledged + 3 and log.rows == 50 * log.end
        assert all(same(log.read(n).record, record(n, 50)) for n in range(log.end)) and log.salvaged is None
        log.close()


@pytest.mark.slow
@pytest.mark.crash
def test_a_broker_that_is_killed_under_load_costs_nothing_that_was_acknowledged(three_brokers, tmp_path):
    place = kafka_place(three_brokers, tmp_path / "log", timeout_seconds=60)
    log, reader = place.open(), None
    stopping, failures = threading.Event(), []

    def write():
        while not stopping.is_set():
            try:
                log.append([record(log.end, 50)])
            except NothingTaken as refused:  # a sender would send it again
                failures.append(refused)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for node in (three_brokers.leader_of(f"{place.settings.kafka.topic_prefix}.log"),):
            time.sleep(0.5)
            before = log.end
            three_brokers.kill(node)
            give_up = time.monotonic() + 60
            while log.end < before + 30 and time.monotonic() < give_up:
                time.sleep(0.05)
            assert log.end >= before + 30
            three_brokers.start_node(node)
    finally:
        stopping.set()
        thread.join()
    log.append([record(log.end, 50)])
    reader = place.follow()
    assert reader.end == log.end and reader.rows == 50 * log.end
    assert all(same(reader.read(n).record, record(n, 50)) for n in range(log.end))
    place.close()
    three_brokers.ready()
