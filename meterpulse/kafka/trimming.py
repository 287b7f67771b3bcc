"""Tells the brokers which messages are not needed any more. In the background: what is not deleted now is deleted next time."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaException, TopicPartition

from meterpulse.kafka import Connection
from meterpulse.kafka.numbered import NumberedTopic

_log = logging.getLogger("meterpulse.kafka")


class Trimming:
    """Deletes from the beginning of topics."""

    def __init__(self, connection: Connection):
        self._admin = connection.admin()

    def below(self, topic: NumberedTopic, number: int) -> None:
        """Messages with smaller numbers may go."""
        place = topic.place(number)
        if place is None:
            return
        asked = self._admin.delete_records([TopicPartition(topic.name, 0, place)], request_timeout=30)
        for future in asked.values():
            future.add_done_callback(lambda done: _note(topic.name, done.exception()))


def _note(name: str, error: BaseException | None) -> None:
    if isinstance(error, KafkaException):
        _log.warning("%s was not trimmed: %s", name, error.args[0].str())
