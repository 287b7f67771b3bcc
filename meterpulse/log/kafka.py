"""The log in Kafka: an append is one transaction, and it is acknowledged when all in-sync copies have it.

Four topics of one partition each, so that entries have one order: `<prefix>.log` holds entries as they are packed everywhere,
`<prefix>.quarantine` refused rows, `<prefix>.released` the keys of those that are done with, and `<prefix>.state` what the log
counts. Every append writes to the first two and to the last in one transaction. The offset of an entry is ours: it is in the
message's key, and its place in Kafka is looked for (`kafka/numbered.py`).

When the brokers do not say whether a transaction was committed, the writer is opened anew, which settles it, and the state
tells: nothing is sent twice blindly, and no offset is given twice. A second server that opens the log takes it over; the
first one can write no more.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash

from meterpulse.config import ConfigError
from meterpulse.config import Log as Settings
from meterpulse.kafka import Connection, make_topics
from meterpulse.kafka.numbered import Numbered, NumberedTopic, parts_of
from meterpulse.kafka.transactions import Fenced, NotKnown, Outgoing, Transactions
from meterpulse.kafka.trimming import Trimming
from meterpulse.log import CorruptEntry, Entry, Log, LogFull, Quarantined, Record
from meterpulse.log.packed import decode, decode_bad, encode, encode_bad

_log = logging.getLogger("meterpulse.log")
_WRITER_CACHE_BYTES, _READER_CACHE_BYTES = 256 << 20, 32 << 20
_TRIM_EVERY_SECONDS = 1.0
_SEEN_SECONDS = 5.0  # a committed transaction is seen in all its topics at once but for a moment
_TOPIC = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "segment.bytes": str(64 << 20)}


@dataclass(frozen=True, slots=True)
class _State:
    """What the log counts, as the last append left it; `number` counts the states themselves."""

    number: int = 0
    end: int = 0
    rows: int = 0
    first: int = 0
    last: int = -1  # the newest entry; its successor is `end`, unless consumers were further
    size: int = 0  # bytes of all entries ever
    first_size: int = 0  # of those before `first`
    next_bad: int = 1
    first_bad: int = 1
    bad_size: int = 0
    first_bad_size: int = 0
    next_released: int = 0
    token: str = ""  # of the append that wrote it
    positions: Mapping[str, str] = field(default_factory=dict)

    def pack(self) -> bytes:
        body = orjson.dumps({f.name: getattr(self, f.name) for f in fields(self)})
        return xxhash.xxh3_64_digest(body) + body

    @classmethod
    def unpack(cls, value: bytes) -> _State | None:
        """None where the checksum does not hold."""
        return cls(**orjson.loads(value[8:])) if xxhash.xxh3_64_digest(value[8:]) == value[:8] else None


class KafkaLog(Log):
    """See Log. `max_bytes` bounds what is not trimmed yet and the quarantine; the brokers hold each byte once per copy."""

    def __init__(self, settings: Settings, writer: Transactions | None):
        kafka = settings.kafka
        self._max_bytes, self._writer = settings.max_bytes, writer
        self._connection = connection_of(settings)
        names = (f"{kafka.topic_prefix}.{name}" for name in ("log", "quarantine", "released", "state"))
        cache = _READER_CACHE_BYTES if writer is None else _WRITER_CACHE_BYTES
        self._entries, self._bad, self._done, self._states = (
            NumberedTopic(self._connection, name, cache if name.endswith(".log") else 1 << 20) for name in names
        )
        self._lock = threading.Lock()  # one append at a time
        self._trim_below, self._trimmed_at = 0, 0.0
        self._trimming = Trimming(self._connection)
        self._released: set[int] = set()
        self._state = _State()
        self.salvaged: str | None = None
        self._is_open = False

    @classmethod
    def open(cls, directory: Path, settings: Any) -> KafkaLog:
        kafka = settings.kafka
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / "data.mdb").exists():
            raise OSError(
                f"the log of this data is in {directory}: log.engine = 'lmdb'. A city stays with the log that it began with; "
                "for log.engine = 'kafka' begin with a new data folder"
            )
        connection = connection_of(settings)
        names = [f"{kafka.topic_prefix}.{name}" for name in ("log", "quarantine", "released", "state")]
        config = {**_TOPIC, "min.insync.replicas": str(min(kafka.min_insync_replicas, kafka.replication_factor))}
        cluster = make_topics(connection, names, partitions=1, copies=kafka.replication_factor, config=config)
        _stay_with(directory / "kafka.json", {"cluster": cluster, "topic_prefix": kafka.topic_prefix})
        log = cls(settings, Transactions(connection, f"{kafka.topic_prefix}.log", kafka.timeout_seconds))
        try:
            with log._lock:
                log._open()
        except BaseException:
            log.close()
            raise
        return log

    @classmethod
    def follow(cls, directory: Path, settings: Any) -> KafkaLog:
        log = cls(settings, None)
        log._load()
        return log

    # -- writing -----------------------------------------------------------------------------------------------------------

    def append(
        self, records: Sequence[Record], bad: Sequence[Quarantined] = (), positions: Mapping[str, str] | None = None
    ) -> int:
        with self._lock:
            if not self._is_open:
                self._open()
            trimmed_at = self._state.first
            before = self._trimmed(self._state)
            after, outgoing, written = self._added(before, records, bad)
            if self._held(after) > self._max_bytes:
                raise LogFull(
                    f"the log has reached log.max_bytes = {self._max_bytes}; let the lake catch up or raise it"
                )
            if positions:
                after = replace(after, positions={**before.positions, **positions})
            final, places = self._commit(after, outgoing)
            for at, entry in written if places else ():
                self._entries.note(entry._replace(place=places[at]))
            self._state = final  # last: whoever sees the new end finds its entries without asking Kafka
            if before.first > trimmed_at:
                self._entries.forget(before.first)
                self._trimming.below(self._entries, before.first)
            return before.end

    def _added(
        self, before: _State, records: Sequence[Record], bad: Sequence[Quarantined]
    ) -> tuple[_State, list[Outgoing], list[tuple[int, Numbered]]]:
        """The state after an append, its messages, and of each entry which message is its first."""
        outgoing: list[Outgoing] = []
        written: list[tuple[int, Numbered]] = []
        end, rows, size = before.end, before.rows, before.size
        for record in records:
            value = encode(end, rows, record)
            written.append((len(outgoing), Numbered(end, 0, size, value)))
            outgoing += parts_of(self._entries.name, end, size, value)
            end, rows, size = end + 1, rows + len(record.readings), size + len(value)
        next_bad, bad_size = before.next_bad, before.bad_size
        for row in bad:
            value = encode_bad(next_bad, row)
            outgoing += parts_of(self._bad.name, next_bad, bad_size, value)
            next_bad, bad_size = next_bad + 1, bad_size + len(value)
        last = end - 1 if records else before.last
        after = replace(before, end=end, rows=rows, last=last, size=size, next_bad=next_bad, bad_size=bad_size)
        return after, outgoing, written

    def _commit(self, after: _State, outgoing: list[Outgoing]) -> tuple[_State, list[int]]:
        """Durable on return, with the place of each message; none where that came to light only afterwards."""
        if self._writer is None:
            raise OSError("this log is open for reading only")
        number = after.number + 1
        final = replace(after, number=number, token=secrets.token_hex(8))
        try:
            places = self._writer.commit([*outgoing, *parts_of(self._states.name, number, 0, final.pack())])
        except NotKnown:
            self._is_open = False
            self._open()  # settles it, or raises: then the next append tries again
            if self._state.token == final.token:
                return final, []
            raise
        except OSError:
            self._is_open = False
            raise
        return final, places

    def _held(self, state: _State) -> int:
        return state.size - state.first_size + state.bad_size - state.first_bad_size

    def _trimmed(self, state: _State) -> _State:
        """With what consumers need no more taken off, at most once a second unless there is no room."""
        below = min(self._trim_below, state.end)
        is_due = time.monotonic() - self._trimmed_at >= _TRIM_EVERY_SECONDS or self._held(state) > self._max_bytes // 2
        if below <= state.first or not is_due:
            return state
        self._trimmed_at = time.monotonic()
        if below == state.end:
            return replace(state, first=below, first_size=state.size)
        found = self._entries.read(below, state.end)
        if found is None:
            return state
        return replace(state, first=found.number, first_size=found.bytes_before)

    def trim(self, below: int) -> None:
        self._trim_below = max(self._trim_below, below)

    def fast_forward(self, offset: int, rows: int = 0) -> None:
        with self._lock:
            if not self._is_open:
                self._open()
            state = self._state
            after = replace(state, end=max(state.end, offset), rows=max(state.rows, rows))
            self._state, _ = self._commit(after, [])

    def release(self, keys: Sequence[int]) -> int:
        with self._lock:
            if not self._is_open:
                self._open()
            state = self._state
            gone = sorted({k for k in keys if state.first_bad <= k < state.next_bad} - self._released)
            if not gone:
                return 0
            value = np.array(gone, "<u8").tobytes()
            outgoing = parts_of(self._done.name, state.next_released, 0, value)
            self._released.update(gone)
            first = state.first_bad
            while first in self._released:
                first += 1
            found = self._bad.read(first, state.next_bad) if first > state.first_bad else None
            size = found.bytes_before if found else state.bad_size if first == state.next_bad else state.first_bad_size
            after = replace(state, next_released=state.next_released + 1, first_bad=first, first_bad_size=size)
            try:
                self._state, _ = self._commit(after, outgoing)
            except OSError:
                self._released.difference_update(gone)
                raise
            if first > state.first_bad:
                self._bad.forget(first)
                self._trimming.below(self._bad, first)
                self._released = {key for key in self._released if key >= first}
            return len(gone)

    # -- reading -----------------------------------------------------------------------------------------------------------

    first = property(lambda self: self._state.first)
    end = property(lambda self: self._state.end)
    rows = property(lambda self: self._state.rows)

    @property
    def quarantined_ever(self) -> int:
        return self._state.next_bad - 1

    @property
    def quarantine_count(self) -> int:
        """Rows in quarantine now."""
        return self._state.next_bad - self._state.first_bad - len(self._released)

    def position(self, name: str) -> str | None:
        return self._state.positions.get(name)

    def read(self, offset: int) -> Entry | None:
        state = self._state
        if offset >= state.end:
            return None
        found = self._entries.read(offset, state.end) if offset >= state.first else None
        if found is None or found.number != offset:
            raise KeyError(f"log entry {offset} was trimmed")
        return decode(offset, found.value)

    def following(self, offset: int) -> int:
        state = self._state
        found = self._entries.read(max(offset, state.first), state.end)
        return max(offset, state.end) if found is None else found.number

    def quarantined(self, after: int = 0, limit: int = 1000) -> Iterator[Quarantined]:
        found: list[Quarantined] = []
        state = self._state
        key = max(after + 1, state.first_bad)
        while len(found) < limit and (row := self._bad.read(key, state.next_bad)) is not None:
            key = row.number + 1
            if row.number not in self._released:
                found.append(_row(row))
        return iter(found)

    def refresh(self, at_least: int = 0) -> None:
        give_up = time.monotonic() + 30
        while True:
            for found in self._states.newer():
                self._take(_State.unpack(found.value))
            if self._state.end >= at_least or time.monotonic() >= give_up:
                return
            time.sleep(0.01)

    def close(self) -> None:
        with self._lock:
            self._is_open = False
            self._writer = None
            for topic in (self._entries, self._bad, self._done, self._states):
                topic.close()

    # -- opening -----------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Takes the log over; what an append left in doubt is settled when this returns."""
        if self._writer is None:
            raise OSError("this log is closed, or open for reading only")
        self._writer.open()
        self._load()
        self._compare(self._state)
        self._is_open = True

    def _load(self) -> None:
        newest = self._states.last()
        state = _State.unpack(newest.value) if newest else _State()
        if state is None:
            raise OSError(f"the newest message of {self._states.name} is damaged; delete it, or restore the topic")
        released = {key for found in self._done.all() for key in np.frombuffer(found.value, "<u8").tolist()}
        self._state, self._released = state, {key for key in released if key >= state.first_bad}

    def _take(self, state: _State | None) -> None:
        if state is not None and state.number > self._state.number:
            self._state = state

    def _compare(self, state: _State) -> None:
        """The newest entry must be there: a cluster may have lost what it had confirmed."""
        if state.last < state.first or self._entries.read(state.last, state.end, _SEEN_SECONDS) is not None:
            return
        held = self._entries.last()
        there = f"ends with entry {held.number}" if held else "is empty"
        self.salvaged = (
            f"{self._entries.name} {there}, but entry {state.last} was confirmed: Kafka has lost what is between"
        )


def connection_of(settings: Settings) -> Connection:
    """Raises ConfigError where the settings do not say which brokers."""
    if not settings.kafka.servers:
        raise ConfigError("log.engine = 'kafka' needs log.kafka.servers, such as 'broker-1:9092,broker-2:9092'")
    return Connection.of(settings.kafka)


def _row(found: Numbered) -> Quarantined:
    try:
        return decode_bad(found.number, found.value)
    except CorruptEntry as error:
        return Quarantined("damaged", str(error), "application/octet-stream", "", 0, found.value, found.number)


def _stay_with(file: Path, place: Mapping[str, str]) -> None:
    """A city's offsets mean something in one log only."""
    if not file.exists():
        file.write_text(json.dumps(place))
        return
    known = json.loads(file.read_text())
    if known != place:
        raise OSError(
            f"this data belongs to the log {known['topic_prefix']}.log of Kafka cluster {known['cluster']}, not to "
            f"{place['topic_prefix']}.log of {place['cluster']}; mend log.kafka, or begin with a new data folder"
        )


__all__ = ["Fenced", "KafkaLog"]
