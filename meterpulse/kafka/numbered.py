"""A topic of one partition whose messages carry numbers of ours, read by number.

Kafka's own offsets have holes (each transaction ends with a marker), so a number is looked for: every number takes at least
one offset, so from any message that is known the place of a later one is known from below, and a few looks find it. In
order, which is how consumers read, every message is simply the next. What is larger than a broker takes by default goes in
parts, one message each.
"""

from __future__ import annotations

import bisect
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from meterpulse.kafka import PATIENCE_SECONDS, Connection
from meterpulse.kafka.transactions import Outgoing

_KEY = struct.Struct("<QQII")  # number, bytes before it, part, parts
PART_BYTES = 900_000  # a client sends 1,000,000 and a broker takes 1,048,588, unless told otherwise
_READ_ON = 64  # numbers; what is further away is looked for


class Numbered(NamedTuple):
    """`place` is Kafka's offset of its first part, `bytes_before` what all earlier messages of the topic hold."""

    number: int
    place: int
    bytes_before: int
    value: bytes


def parts_of(topic: str, number: int, bytes_before: int, value: bytes) -> list[Outgoing]:
    """The messages that carry one value."""
    cuts = range(0, max(len(value), 1), PART_BYTES)
    return [
        Outgoing(topic, _KEY.pack(number, bytes_before, part, len(cuts)), value[at : at + PART_BYTES])
        for part, at in enumerate(cuts)
    ]


class NumberedTopic:
    """Reads committed messages; from any thread. `cache_bytes` bounds what is kept of those last seen."""

    def __init__(self, connection: Connection, name: str, cache_bytes: int):
        self.name, self._connection, self._cache_bytes = name, connection, cache_bytes
        self._lock = threading.RLock()
        self._cache: OrderedDict[int, Numbered] = OrderedDict()
        self._cached_bytes = 0
        self._places: dict[int, int] = {}  # of the numbers that are known
        self._known: list[int] = []  # those numbers, ascending
        self._made: Consumer | None = None
        self._next: int | None = None  # the number that the consumer comes to next, where that is known
        self._at_end = False  # the client says so once

    @property
    def _consumer(self) -> Consumer:
        if self._made is None:
            self._made = Consumer(
                self._connection.client(
                    group_id=f"{self.name}-readers",  # never joined: places are given
                    enable_auto_commit=False,
                    enable_partition_eof=True,
                    auto_offset_reset="earliest",
                    isolation_level="read_committed",
                    fetch_wait_max_ms=100,
                    fetch_error_backoff_ms=50,
                    queued_max_messages_kbytes=32_768,
                )
            )
        return self._made

    def close(self) -> None:
        """Lets go of the connections."""
        with self._lock:
            if self._made is not None:
                self._made.close()

    def note(self, found: Numbered) -> None:
        """Its writer knows a message without reading it back."""
        with self._lock:
            self._remember(found)

    def place(self, number: int) -> int | None:
        """Kafka's offset of a number, or a lower one; None where nothing is known."""
        with self._lock:
            place = self._place_from_below(number)
            return None if place < 0 else place

    def forget(self, below: int) -> None:
        """Numbers below were trimmed."""
        with self._lock:
            cut = max(bisect.bisect_right(self._known, below) - 1, 0)  # the nearest one still tells where others are
            for number in self._known[:cut]:
                del self._places[number]
            del self._known[:cut]
            for number in [n for n in self._cache if n < below]:
                self._cached_bytes -= len(self._cache.pop(number).value)

    def read(self, number: int, end: int, patience_seconds: float = PATIENCE_SECONDS) -> Numbered | None:
        """The first message from `number` on; None where there is none below `end`.

        A number below `end` is known to be committed, though the broker of this topic may not have heard of it yet: it is
        waited for. Raises KafkaDown.
        """
        with self._lock:
            if number >= end:
                return None
            if (cached := self._cache.get(number)) is not None:
                self._rest()
                return cached
            give_up = time.monotonic() + patience_seconds
            if self._next != number:
                self._go(self._place_from_below(number))
            while True:
                found = self._whole(give_up)
                if found is None:
                    if time.monotonic() >= give_up:
                        return None
                    continue
                if found.number >= number:
                    return found if found.number < end else None
                if number - found.number > _READ_ON:
                    self._go(self._place_from_below(number))

    def last(self) -> Numbered | None:
        """The newest message, None where there is none; raises KafkaDown."""
        with self._lock:
            low, high = self._bounds()
            back = 2
            while high > low:
                self._go(max(low, high - back))
                found = deque(self._until_end(), maxlen=1)
                if found or high - back <= low:
                    return found[0] if found else None
                back *= 4
            return None

    def all(self) -> Iterator[Numbered]:
        """Every message from the oldest one on, up to the end."""
        with self._lock:
            self._go(OFFSET_BEGINNING)
            yield from self._until_end()

    def newer(self) -> Iterator[Numbered]:
        """What has come since `last`, without waiting."""
        with self._lock:
            for message in self._consumer.consume(500, 0):
                if message.error() is None and message.key() is not None and (found := self._begun(message, 0)):
                    yield found

    def _bounds(self) -> tuple[int, int]:
        partition = TopicPartition(self.name, 0)
        return self._connection.within(
            PATIENCE_SECONDS,
            lambda: self._consumer.get_watermark_offsets(partition, timeout=5),
            f"topic {self.name} cannot be read",
        )

    def _place_from_below(self, number: int) -> int:
        at = bisect.bisect_right(self._known, number) - 1
        return OFFSET_BEGINNING if at < 0 else self._places[self._known[at]] + number - self._known[at]

    def _rest(self) -> None:
        """What the cache has need not come over the wire as well."""
        if self._next is not None:
            self._consumer.unassign()
            self._next = None

    def _go(self, place: int) -> None:
        if (
            place == OFFSET_BEGINNING
        ):  # asked for here: the client's own way to the beginning takes half a second longer
            place, _ = self._bounds()
        self._consumer.assign([TopicPartition(self.name, 0, place)])
        self._next, self._at_end = None, False

    def _until_end(self) -> Iterator[Numbered]:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (found := self._whole(give_up)) is not None:
            yield found
            give_up = time.monotonic() + PATIENCE_SECONDS

    def _whole(self, give_up: float) -> Numbered | None:
        """The next message with all its parts; None at the end."""
        while (first := self._poll(give_up)) is not None:
            found = self._begun(first, give_up)
            if found is not None:
                return found
        return None

    def _begun(self, first: Message, give_up: float) -> Numbered | None:
        """The message that `first` begins; None where it begins nothing."""
        number, bytes_before, part, parts = _KEY.unpack(first.key() or b"")
        if part:
            return None  # the rest of one whose beginning was trimmed
        values = [first.value() or b""]
        while len(values) < parts:
            message = self._poll(give_up)
            if message is None:
                return None
            values.append(message.value() or b"")
        found = Numbered(number, first.offset() or 0, bytes_before, values[0] if parts == 1 else b"".join(values))
        self._next = number + 1
        self._remember(found)
        return found

    def _poll(self, give_up: float) -> Message | None:
        while True:
            message = self._consumer.poll(0.1)
            if message is None:
                if self._at_end:
                    return None
                if time.monotonic() >= give_up:
                    raise self._connection.down(f"topic {self.name} cannot be read")
                continue
            error = message.error()
            if error is None:
                self._at_end = False
                return message
            if error.code() == KafkaError._PARTITION_EOF:
                self._at_end = True
                return None
            if time.monotonic() >= give_up:
                raise self._connection.down(f"topic {self.name} cannot be read: {error.str()}")

    def _remember(self, found: Numbered) -> None:
        if found.number not in self._places:
            bisect.insort(self._known, found.number)
        self._places[found.number] = found.place
        if (old := self._cache.pop(found.number, None)) is not None:
            self._cached_bytes -= len(old.value)
        self._cache[found.number] = found
        self._cached_bytes += len(found.value)
        while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1].value)
