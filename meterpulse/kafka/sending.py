"""Messages that may arrive twice but not never: sent, and waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from meterpulse.kafka import Connection


class Letter(NamedTuple):
    """One message; `headers` are texts."""

    key: bytes | None
    value: bytes
    headers: Mapping[str, str]


class Sender:
    """To one topic, which must exist. For one thread."""

    def __init__(self, connection: Connection, topic: str, timeout_seconds: float = 30.0):
        self._connection, self._topic, self._timeout_seconds = connection, topic, timeout_seconds
        self._producer = Producer(
            connection.client(
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                delivery_timeout_ms=int(timeout_seconds * 1000),
                message_max_bytes=64 << 20,
            )
        )
        self._refused: KafkaError | None = None

    def send(self, letters: Sequence[Letter]) -> None:
        """The brokers have all of them on return; raises KafkaDown where they have not said so."""
        self._refused = None
        for letter in letters:
            self._produce(letter)
        left = self._producer.flush(self._timeout_seconds)
        if self._refused is not None or left:
            why = self._refused.str() if self._refused is not None else "no answer"
            raise self._connection.down(f"topic {self._topic} did not take a message: {why}")

    def _produce(self, letter: Letter) -> None:
        headers: list[tuple[str, str | bytes | None]] = [
            (name, value.encode()) for name, value in letter.headers.items()
        ]
        while True:
            try:
                self._producer.produce(
                    self._topic, letter.value, letter.key, headers=headers, on_delivery=self._delivered
                )
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise self._connection.down(f"topic {self._topic} takes no message: {error.args[0].str()}") from None

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._refused = error or self._refused
