"""Reading topics for good: every partition from where our own log says that we are.

The partitions are assigned here and not by Kafka's group protocol: there is one reader, its position is durable together with
what it read, and so there is no rebalance that could give a message to two. What the group is told is for people and tools
that watch lag.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition

from meterpulse.kafka import PATIENCE_SECONDS, Connection, KafkaDown

_log = logging.getLogger("meterpulse.kafka")
_BYTES_A_ROUND = 32 << 20
_MESSAGES_A_ROUND = 50_000
_AT_A_TIME = 1_000
_LOOK_AGAIN_SECONDS = 10.0  # for topics and partitions that are new
_TELL_SECONDS = 1.0  # between what the group is told
_NONE_OF_OURS = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT)


@dataclass(slots=True)
class Part:
    """A partition. `next` is the offset of the message that comes next, `end` of the one that was not written yet when it was
    last asked; `stamp_ms` is Kafka's time of the newest one read. `lost` were gone before they were read."""

    topic: str
    partition: int
    topic_id: str
    next: int
    end: int
    stamp_ms: int = -1
    lost: int = 0

    @property
    def position(self) -> str:
        """What is kept: a topic that was deleted and made anew has another id, and is read from its beginning."""
        return f"{self.next} {self.topic_id}"

    @property
    def lag(self) -> int:
        """Offsets up to the end; a transaction's mark counts as one until it is passed."""
        return max(0, self.end - self.next)


@dataclass(slots=True)
class Taken:
    """Messages of one partition, in order. Plain values: a client's message object costs three times as much when it is kept."""

    values: list[bytes | None] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    stamp_ms: int = -1


class Intake:
    """Open from the start. For one thread, but for `parts` and `stop`."""

    def __init__(
        self,
        connection: Connection,
        group: str,
        topics: Iterable[str],
        position: Callable[[str, int], str | None],
        *,
        from_end: bool,
    ):
        self._connection, self._topics, self._position = connection, tuple(topics), position
        self._from_end = from_end
        self._parts: dict[tuple[str, int], Part] = {}
        self._looked = self._told = 0.0
        self._durable: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._mean_bytes = 4096.0
        self.missing: list[str] = list(self._topics)
        self._consumer = Consumer(
            connection.client(
                group_id=group,
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                enable_partition_eof=True,
                auto_offset_reset="error",
                isolation_level="read_committed",
                fetch_wait_max_ms=100,
                fetch_error_backoff_ms=100,
                fetch_min_bytes=1,
                max_partition_fetch_bytes=4 << 20,
                queued_min_messages=200_000,
                queued_max_messages_kbytes=128 << 10,
            )
        )
        try:
            self.look()
        except BaseException:
            self._consumer.close()
            raise

    def close(self) -> None:
        """Tells the group where we are, and lets go."""
        try:
            self._tell()
            self._consumer.close()
        except (KafkaException, RuntimeError) as error:
            _log.debug("closing: %s", error)

    def parts(self) -> list[Part]:
        """Every partition that is read; from any thread."""
        return [part for _, part in sorted(self._parts.copy().items())]

    def part(self, topic: str, partition: int) -> Part:
        """One of `parts`."""
        return self._parts[topic, partition]

    def durable(self, topic: str, partition: int, offset: int) -> None:
        """Everything before is in our log; from any thread."""
        with self._lock:
            self._durable[topic, partition] = offset

    def take(self, linger_seconds: float) -> dict[tuple[str, int], Taken]:
        """What has arrived, by partition; waits up to half a second for the first message, and `linger_seconds` for more of them.
        Raises KafkaDown where no broker can be reached any more."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_AGAIN_SECONDS:
            self.look()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            self._tell()
        most = int(min(max(_BYTES_A_ROUND / self._mean_bytes, 1), _MESSAGES_A_ROUND))
        first = self._consumer.poll(0.5)
        if first is None:
            if self._connection.is_lost:
                raise self._connection.down("no broker can be reached")
            return {}
        found: dict[tuple[str, int], Taken] = {}
        self._sort([first], found)
        until, count = time.monotonic() + linger_seconds, 1
        while count < most:
            some = self._consumer.consume(min(_AT_A_TIME, most - count), max(until - time.monotonic(), 0.0))
            if not some:
                break
            self._sort(some, found)
            count += len(some)
        self._connection.is_lost = False
        self._advance(found)
        return found

    def _sort(self, messages: list[Message], found: dict[tuple[str, int], Taken]) -> None:
        errors = list(map(Message.error, messages))
        if any(errors):
            for message, error in zip(messages, errors, strict=True):
                if error is not None:
                    self._hear(message, error)
            messages = [message for message, error in zip(messages, errors, strict=True) if error is None]
        values, offsets = list(map(Message.value, messages)), list(map(Message.offset, messages))
        keys = list(map(Message.key, messages))
        at = 0
        for place, run in groupby(zip(map(Message.topic, messages), map(Message.partition, messages), strict=True)):
            end = at + len(list(run))
            own = found.setdefault(place, Taken())  # type: ignore[arg-type]
            own.values += values[at:end]  # type: ignore[arg-type]
            own.offsets += offsets[at:end]  # type: ignore[arg-type]
            own.keys += keys[at:end]  # type: ignore[arg-type]
            own.stamp_ms = messages[end - 1].timestamp()[1]
            at = end

    def _hear(self, message: Message, error: KafkaError) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            key: Any = (message.topic(), message.partition())
            if (
                part := self._parts.get(key)
            ) is not None:  # behind the last message there may be the marks of transactions
                part.next = part.end = message.offset() or 0
        elif code == KafkaError._AUTO_OFFSET_RESET:
            raise self._connection.down(f"{message.topic()}/{message.partition()} has no such offset any more")
        elif code not in _NONE_OF_OURS and not error.retriable():
            raise self._connection.down(f"{message.topic()} cannot be read: {error.str()}")

    def _advance(self, found: dict[tuple[str, int], Taken]) -> None:
        size = count = 0
        for key, taken in found.items():
            part = self._parts[key]
            part.next = max(taken.offsets[-1] + 1, part.next)  # the end may have been told behind it
            part.stamp_ms = taken.stamp_ms
            _, part.end = self._consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
            part.end = max(part.end, part.next)
            size, count = size + len(taken.values[-1] or b"") + 100, count + 1
        if count:
            self._mean_bytes = size / count

    # -- which partitions ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Begins with partitions that are new. Raises KafkaDown where there is no topic at all."""
        self._looked = time.monotonic()
        there = self._connection.within(
            PATIENCE_SECONDS if not self._parts else 5,
            lambda: self._consumer.list_topics(timeout=5),
            "it does not answer",
        ).topics
        self.missing = [name for name in self._topics if name not in there or there[name].error is not None]
        new = [
            (name, partition)
            for name in self._topics
            if name not in self.missing
            for partition in there[name].partitions
            if (name, partition) not in self._parts
        ]
        if not new and not self._parts:
            raise KafkaDown(
                f"Kafka at {self._connection.servers} has none of the topics {', '.join(self._topics)}; make them, or mend "
                "ingest.kafka.topics"
            )
        if new:
            self._begin(new)

    def _begin(self, new: list[tuple[str, int]]) -> None:
        ids = self._ids(sorted({name for name, _ in new}))
        places = []
        for name, partition in new:
            low, high = self._connection.within(
                PATIENCE_SECONDS,
                lambda at=TopicPartition(name, partition): self._consumer.get_watermark_offsets(at, timeout=5),  # type: ignore[misc]
                f"{name}/{partition} cannot be read",
            )
            part = self._part(name, partition, ids[name], low, high)
            self._parts[name, partition] = part
            places.append(TopicPartition(name, partition, part.next))
        self._consumer.incremental_assign(places)

    def _part(self, name: str, partition: int, topic_id: str, low: int, high: int) -> Part:
        """From where it is read: a position that does not fit what the topic holds leads to its beginning, which costs only
        time, since a reading counts once."""
        known = self._position(name, partition)
        if known is None:
            return Part(name, partition, topic_id, high if self._from_end else low, high)
        text, _, known_id = known.partition(" ")
        at = int(text)
        if known_id != topic_id or at > high:
            _log.warning("%s/%d is not the topic that it was; it is read from its beginning", name, partition)
            return Part(name, partition, topic_id, low, high)
        if at < low:
            _log.warning("%s/%d: Kafka deleted %d messages before they were read", name, partition, low - at)
        return Part(name, partition, topic_id, max(at, low), high, lost=max(low - at, 0))

    def _ids(self, names: list[str]) -> dict[str, str]:
        admin = self._connection.admin()
        asked = admin.describe_topics(TopicCollection(names), request_timeout=PATIENCE_SECONDS)
        return {
            name: str(
                self._connection.within(PATIENCE_SECONDS, asked[name].result, f"{name} is not described").topic_id
            )
            for name in names
        }

    def _tell(self) -> None:
        with self._lock:
            durable, self._durable = self._durable, {}
        if durable:
            places = [TopicPartition(*key, offset) for key, offset in durable.items()]
            try:
                self._consumer.commit(offsets=places, asynchronous=True)
            except KafkaException as error:
                _log.debug("the group was not told: %s", error)
