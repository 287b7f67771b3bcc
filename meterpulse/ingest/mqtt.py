"""MQTT: readings and device messages of a broker, acknowledged (QoS 1) when our own log has them.

The session outlives the connection: what is published while we are away waits at the broker, for as long as
`session_seconds` says. What arrives while the disk is busy is decoded and logged together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from meterpulse.config import ConfigError
from meterpulse.ingest import ARROW, JSON, NDJSON, BodyError, Decoded, Delivery, House, Rejected, Source, decode
from meterpulse.ingest.dialects import Dialect, dialect
from meterpulse.ingest.message import DialectError, Message, decode_messages, quoted
from meterpulse.model.reading import Readings
from meterpulse.mqtt import Address, Link, Retained

_ENOUGH = 16_384  # messages in one delivery
_LINGER_SECONDS = 0.02  # the longest that messages wait for others, while earlier ones are on their way to the disk
_TOPICS_KNOWN_MAX = 100_000
_ARROW_MARK = b"\xff\xff\xff\xff"


class MqttSource(Source):
    """See Source; settings in config.Mqtt. Its watermark is kept under `mqtt:<client id>`."""

    def __init__(self, settings: Any, house: House):
        super().__init__(settings, house)
        try:
            self._dialects = [dialect(name) for name in settings.dialects]
        except DialectError as error:
            raise ConfigError(f"ingest.mqtt.dialects: {error}") from None
        self._name = f"mqtt:{settings.client_id}"[:200]
        self._dialect_of: dict[str, Dialect | None] = {}
        self._open: set[int] = set()  # deliveries that are not on disk yet
        self._number = 0
        self._ended = threading.Event()
        self._link: Link | None = None

    def deliveries(self) -> Iterator[Delivery | None]:
        self._open.clear()
        link = Link(Address.of(self.settings.url), self.settings)
        self._link = link
        try:
            if self.settings.topics:
                link.subscribe(self.settings.topics, Retained.once)
            told = [topic for each in self._dialects for topic in each.topics]
            if told:
                link.subscribe(told, Retained.once)
            while not self._ended.is_set():
                messages = self._gather(link)
                yield self._delivery(link, messages) if messages else None
        finally:
            self._link = None
            link.close()

    def stop(self) -> None:
        self._ended.set()
        if (link := self._link) is not None:
            link.wake()

    def _gather(self, link: Link) -> list[Any]:
        """What has arrived; while the disk is busy anyway, a little more."""
        messages = link.receive(1.0)
        until = time.monotonic() + _LINGER_SECONDS
        while messages and self._open and len(messages) < _ENOUGH:
            left = until - time.monotonic()
            if left <= 0:
                break
            messages += link.receive(left)
        return messages

    def _delivery(self, link: Link, packets: list[Any]) -> Delivery:
        self._number += 1
        number, ids = self._number, [p.packet_id for p in packets if p.packet_id is not None]
        self._open.add(number)

        def acknowledge() -> None:
            self._open.discard(number)
            link.acknowledge(ids)

        return Delivery(self._name, self._decoded(packets), len(packets), acknowledge)

    def _decoded(self, packets: list[Any]) -> Decoded:
        known, now_ms = self._dialect_of, self.house.now_ms()
        plain, spoken = [], []
        for packet in packets:
            topic, payload = packet.topic, packet.payload
            if not payload:  # how a retained message is taken back
                continue
            own = known[topic] if topic in known else self._look_up(topic)
            if own is None:
                plain.append((topic, payload))
            else:
                spoken.append(Message(topic, payload, own, packet.retain))
        parts = self._of_bodies(plain, now_ms)
        if spoken:
            register = self.house.register if self.settings.unknown_channels == "register" else None
            parts.append(decode_messages(spoken, self.house.table, now_ms, self.settings.time_zone, register))
        if len(parts) == 1:
            return parts[0]
        return Decoded(Readings.concat([p.readings for p in parts]), [row for p in parts for row in p.rejected])

    def _look_up(self, topic: str) -> Dialect | None:
        if len(self._dialect_of) >= _TOPICS_KNOWN_MAX:
            self._dialect_of.clear()
        found = next((each for each in self._dialects if each.knows(topic)), None)
        self._dialect_of[topic] = found
        return found

    def _of_bodies(self, messages: list[tuple[str, bytes]], now_ms: int) -> list[Decoded]:
        """Single JSON objects are the lines of one body; everything else is a body by itself."""
        lines = [body for _, body in messages if body[:1] == b"{" and b"\n" not in body]
        parts = self._of_lines(lines, now_ms) if lines else []
        if any(part.rejected for part in parts):
            topic_of = {body: topic for topic, body in messages}
            parts = [_with_topics(part, topic_of) for part in parts]
        if len(lines) < len(messages):
            for topic, body in messages:
                if body[:1] != b"{" or b"\n" in body:
                    parts.append(_with_topics(self._of_body(body, now_ms), {}, topic))
        return parts

    def _of_lines(self, lines: list[bytes], now_ms: int) -> list[Decoded]:
        try:
            return [decode(b"\n".join(lines), NDJSON, self.house.table(), now_ms)]
        except BodyError as error:
            if len(lines) == 1:
                return [_whole(error, lines[0], NDJSON)]
            half = len(lines) // 2
            return self._of_lines(lines[:half], now_ms) + self._of_lines(lines[half:], now_ms)

    def _of_body(self, body: bytes, now_ms: int) -> Decoded:
        kind = ARROW if body[:4] == _ARROW_MARK else JSON if _is_one_value(body) else NDJSON
        try:
            return decode(body, kind, self.house.table(), now_ms)
        except BodyError as error:
            return _whole(error, body, kind)


def _is_one_value(body: bytes) -> bool:
    """Whether it is one array, or one object over several lines, and not an object a line."""
    text = body.lstrip()
    return text[:1] == b"[" or (text[:1] == b"{" and not text.partition(b"\n")[0].rstrip().endswith(b"}"))


def _whole(error: BodyError, body: bytes, media_type: str) -> Decoded:
    """A message of which nothing can be taken, kept as it came."""
    return Decoded(Readings.empty(), [Rejected("bad_json", error.detail, body, media_type)])


def _with_topics(part: Decoded, topic_of: Mapping[bytes, str], topic: str = "") -> Decoded:
    """Refused rows with the topic that they came from, in words and in their media type."""
    rejected = []
    for row in part.rejected:
        name = topic_of.get(row.original, topic)
        kept_as = f'{row.media_type}; topic="{quoted(name)}"'
        rejected.append(replace(row, detail=f"{name}: {row.detail}", media_type=kept_as))
    return Decoded(part.readings, rejected)
