"""Several messages, over several topics, all or none: and only one process at a time.

A process that opens the writer takes it over: whoever had it before is fenced by the brokers, so a server that was thought
dead and comes back cannot write behind its successor.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from meterpulse.kafka import Connection, KafkaDown


class Outgoing(NamedTuple):
    """A message for a partition of a topic; SPREAD lets the key decide which."""

    topic: str
    key: bytes
    value: bytes
    partition: int = 0


SPREAD = -1


class NothingTaken(KafkaDown):
    """The brokers have given the whole transaction up."""


class NotKnown(KafkaDown):
    """It may be committed, and it may not: `Transactions.open` finds out."""


class Fenced(KafkaDown):
    """Another process writes here now; this one must stop."""


_FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


class Transactions:
    """The writer called `id`. Not for several threads at once."""

    def __init__(self, connection: Connection, id: str, timeout_seconds: float):
        self._connection, self._id, self._timeout_seconds = connection, id, timeout_seconds
        self._producer: Producer | None = None
        self._fenced: Fenced | None = None

    def open(self) -> None:
        """Takes the writer over; what an earlier one left half done is committed or given up when this returns."""
        if self._fenced:
            raise self._fenced
        self._producer = None
        producer = Producer(
            self._connection.client(
                transactional_id=self._id,
                transaction_timeout_ms=int(self._timeout_seconds * 1000),
                enable_idempotence=True,
                acks="all",
                linger_ms=0,
                queue_buffering_max_kbytes=1 << 20,
            )
        )
        self._connection.within(
            self._timeout_seconds, lambda: producer.init_transactions(5), "no writer could be opened"
        )
        self._producer = producer

    def commit(self, messages: Sequence[Outgoing]) -> list[int]:
        """The offset that each message got. Raises NothingTaken, NotKnown or Fenced; after these it wants `open`."""
        if self._producer is None:
            self.open()
        producer, places = self._producer, [-1] * len(messages)
        assert producer is not None
        try:
            producer.begin_transaction()
            for number, message in enumerate(messages):
                self._produce(producer, message, places, number)
        except KafkaException as error:
            raise self._given_up(producer, error.args[0]) from None
        give_up = time.monotonic() + self._timeout_seconds
        while True:
            try:
                producer.commit_transaction(5)
                return places
            except KafkaException as failure:
                said = failure.args[0]
                if said.txn_requires_abort():
                    raise self._given_up(producer, said) from None
                if not said.retriable() or time.monotonic() >= give_up:
                    raise self._unfinished(said) from None

    @staticmethod
    def _produce(producer: Producer, message: Outgoing, places: list[int], number: int) -> None:
        def delivered(error: KafkaError | None, found: Message) -> None:
            if error is None:
                places[number] = found.offset() or 0

        while True:
            try:
                producer.produce(message.topic, message.value, message.key, message.partition, on_delivery=delivered)
                return
            except BufferError:
                producer.poll(0.1)

    def _given_up(self, producer: Producer, error: KafkaError) -> KafkaDown:
        if error.code() in _FENCED or error.fatal():
            return self._unfinished(error)
        with contextlib.suppress(KafkaException):
            producer.abort_transaction(5)
            return NothingTaken(f"Kafka took nothing: {error.str()}; send it again")
        self._producer = None  # `open` gives up what could not be given up here
        return NothingTaken(f"Kafka took nothing: {error.str()}; send it again")

    def _unfinished(self, error: KafkaError) -> KafkaDown:
        self._producer = None
        if error.code() in _FENCED:
            self._fenced = Fenced(
                f"another server has taken over {self._id}; stop one of the two, then restart the other"
            )
            return self._fenced
        return NotKnown(f"Kafka has not said whether it took the readings: {error.str()}; send them again")
