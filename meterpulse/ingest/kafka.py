"""Kafka: readings from topics, each message counted once. Where we are is written to our log together with what was read.

A message is a body as HTTP takes it (a JSON object, an array, lines, an Arrow stream), or Avro; also behind the five bytes of
Confluent's wire format. A refused row goes to our quarantine with its topic, partition and offset, and, where one is named,
to a topic for such rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import orjson

from meterpulse.config import ConfigError
from meterpulse.ingest import Decoded, Delivery, House, Rejected, Source, decode
from meterpulse.ingest.bodies import Refused, are_lines, decode_bodies
from meterpulse.ingest.contract import RowError
from meterpulse.ingest.media import with_parameters
from meterpulse.kafka import Connection
from meterpulse.kafka.intake import Intake, Part, Taken
from meterpulse.kafka.sending import Letter, Sender
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quantity import UnknownUnit, unit_of
from meterpulse.model.reading import Readings

_LINGER_SECONDS = 0.02  # the longest that messages wait for others, while earlier ones are on their way to the disk
_BODIES = (b"{", b"[", b"\xff")  # JSON and Arrow; what begins otherwise is Avro
_AVRO = "application/avro"
_UTILITIES = {"electricity": "kWh", "gas": "m3", "water": "m3"}  # with the unit of a reading that tells none


class KafkaSource(Source):
    """See Source; settings in config.IngestKafka. Each partition has a clock of its own, `kafka:<topic>/<partition>`."""

    def __init__(self, settings: Any, house: House):
        super().__init__(settings, house)
        self._avro: Any = None
        self._ended = threading.Event()
        self._under_way: set[str] = set()  # deliveries that are not on disk yet
        self._intake: Intake | None = None
        try:
            if settings.avro_schema is not None:
                self._load_avro()
            Connection.of(settings)
        except (OSError, ValueError) as error:
            raise ConfigError(f"ingest.kafka: {error}") from None

    def deliveries(self) -> Iterator[Delivery | None]:
        self._under_way.clear()
        connection, settings = Connection.of(self.settings), self.settings
        intake = Intake(
            connection, settings.group, settings.topics, self._position, from_end=settings.start == "latest"
        )  # fmt: skip
        sender = Sender(connection, settings.quarantine_topic) if settings.quarantine_topic else None
        self._intake = intake
        try:
            while not self._ended.is_set():
                found = intake.take(_LINGER_SECONDS if self._under_way else 0.0)
                if not found:
                    yield None
                for (topic, partition), taken in found.items():
                    yield self._delivery(intake, intake.part(topic, partition), taken, sender)
        finally:
            self._intake = None
            intake.close()

    def stop(self) -> None:
        self._ended.set()

    def lag(self) -> int | None:
        parts = self.parts()
        return sum(part["lag"] for part in parts) if parts else None

    def parts(self) -> list[dict[str, Any]]:
        now_ms = self.house.now_ms()
        return [] if (intake := self._intake) is None else [_told(part, now_ms) for part in intake.parts()]

    def _position(self, topic: str, partition: int) -> str | None:
        return self.house.position(f"kafka:{self.settings.group}/{topic}/{partition}")

    def _delivery(self, intake: Intake, part: Part, taken: Taken, sender: Sender | None) -> Delivery:
        topic, partition, offset = part.topic, part.partition, part.next
        readings, refused = self._decoded(topic, [value or b"" for value in taken.values])
        if sender is not None and refused:
            sender.send([_letter(part, taken, each) for each in refused])
        rejected = [_placed(part, taken.offsets[each.message], each.row) for each in refused]
        name = f"{topic}/{partition}/{offset}"
        self._under_way.add(name)

        def acknowledge() -> None:
            self._under_way.discard(name)
            intake.durable(topic, partition, offset)

        return Delivery(
            f"kafka:{topic}/{partition}"[:200],
            Decoded(readings, rejected),
            len(taken.values),
            acknowledge,
            {f"kafka:{self.settings.group}/{topic}/{partition}": part.position},
        )

    # -- messages --------------------------------------------------------------------------------------------------------

    def _decoded(self, topic: str, values: list[bytes]) -> tuple[Readings, list[Refused]]:
        """The readings, and the refused rows by the number of their message. Empty messages (a compacted topic's) are none."""
        numbers: Sequence[int] = range(len(values))
        wrong: list[Refused] = []
        if not are_lines(values):
            numbers, values, wrong = self._unwrapped(values)
        now_ms = self.house.now_ms()
        readings, refused = decode_bodies(values, lambda body, kind: decode(body, kind, self.house.table(), now_ms))
        if refused and self.settings.unknown_channels == "register":
            later, refused = self._registered(topic, refused, now_ms)
            readings = Readings.concat([readings, later]) if len(later) else readings
        refused = [each._replace(message=numbers[each.message]) for each in refused]
        return readings, sorted(refused + wrong, key=lambda each: each.message) if wrong else refused

    def _unwrapped(self, values: list[bytes]) -> tuple[list[int], list[bytes], list[Refused]]:
        """The bodies behind Confluent's five bytes and in Avro's records, by number, and what is neither."""
        numbers, bodies, wrong = [], [], []
        for number, value in enumerate(values):
            body = value[5:] if value[:1] == b"\0" and len(value) > 5 else value
            if not body.strip():
                continue
            if body[:1] not in _BODIES and body.lstrip()[:1] not in _BODIES[:2]:
                try:
                    body = self._load_avro().as_json(body)
                except RowError as error:
                    wrong.append(Refused(number, Rejected(error.reason, error.detail, value, _AVRO)))
                    continue
            numbers.append(number)
            bodies.append(body)
        return numbers, bodies, wrong

    def _load_avro(self) -> Any:
        if self._avro is None:  # its library is wanted only where a message is of this kind
            self._avro = import_module("meterpulse.ingest.avro").Avro(self.settings.avro_schema)
        return self._avro

    def _registered(self, topic: str, refused: list[Refused], now_ms: int) -> tuple[Readings, list[Refused]]:
        """Registers the channels that nobody knew, as far as topic and unit say what they are, and reads their rows again."""
        unknown = [each for each in refused if each.row.reason == "unknown_channel"]
        channels: dict[str, Channel] = {}
        for each in unknown:
            if (channel := implied(topic, each.row.original, self.settings.time_zone)) is not None:
                channels.setdefault(channel.id, channel)
        if not channels:
            return Readings.empty(), refused
        self.house.register(list(channels.values()))
        others = [each for each in refused if each.row.reason != "unknown_channel"]
        readings, still = decode_bodies(
            [each.row.original for each in unknown], lambda body, kind: decode(body, kind, self.house.table(), now_ms)
        )
        others += [each._replace(message=unknown[each.message].message) for each in still]
        return readings, sorted(others, key=lambda each: each.message)


def implied(topic: str, row: bytes, time_zone: str) -> Channel | None:
    """The channel of a JSON reading: its utility is the topic's name (or the last part of it), else what its unit measures."""
    try:
        reading = orjson.loads(row)
        name = topic.replace("-", ".").replace("_", ".").rpartition(".")[2]
        told = reading.get("unit")
        utility = name if name in _UTILITIES else "electricity"
        if told is None and name not in _UTILITIES:
            return None
        unit = unit_of(told or _UTILITIES[utility])
        if name not in _UTILITIES and unit.dimension == "volume":
            return None  # gas or water
        kind = "interval" if unit.dimension in ("volume",) or "energy" in unit.dimension else "gauge"
        return Channel(
            reading["channel"], utility, unit.name, kind=kind, interval_seconds=reading.get("seconds") or 300,
            time_zone=time_zone,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, UnknownUnit, ChannelError):
        return None


def _placed(part: Part, offset: int, row: Rejected) -> Rejected:
    """With where it came from in its media type."""
    kind, _, parameters = row.media_type.partition(";")
    place = with_parameters(kind, topic=part.topic, partition=str(part.partition), offset=str(offset))
    return replace(row, media_type=f"{place};{parameters}" if parameters else place)


def _letter(part: Part, taken: Taken, refused: Refused) -> Letter:
    row = refused.row
    headers: Mapping[str, str] = {
        "reason": row.reason, "detail": row.detail, "media_type": row.media_type, "topic": part.topic,
        "partition": str(part.partition), "offset": str(taken.offsets[refused.message]),
    }  # fmt: skip
    return Letter(taken.keys[refused.message], row.original, headers)


def _told(part: Part, now_ms: int) -> dict[str, Any]:
    behind = part.lag
    seconds = 0.0 if not behind else None if part.stamp_ms < 0 else max(0.0, (now_ms - part.stamp_ms) / 1000)
    return {
        "name": f"{part.topic}/{part.partition}", "next": part.next, "end": part.end, "lag": behind,
        "lag_seconds": seconds, "lost": part.lost,
    }  # fmt: skip
