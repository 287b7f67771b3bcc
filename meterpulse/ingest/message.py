"""Messages of devices, decoded: each is in a dialect, told by its topic.

A message of which anything is refused is kept whole, with its topic in its media type, so that it can be read again by itself
when the cause is mended: what counted already counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from meterpulse.ingest.checks import Limits
from meterpulse.ingest.contract import BodyError, Decoded, Rejected, RowError
from meterpulse.ingest.dialects import Arrival, Dialect, DialectError, Telling, dialect
from meterpulse.ingest.few import columns_of, judged
from meterpulse.ingest.media import JSON, with_parameters
from meterpulse.model.channel import NOT_FOUND, Channel, ChannelTable

_READABLE = "/:@ ~!$&'()*,"  # left as they are in a topic; quotes, ; and = would end a parameter


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came, and whose dialect its topic is."""

    topic: str
    payload: bytes
    dialect: Dialect
    is_retained: bool = False  # by the broker, for who comes later


def decode_messages(
    messages: Iterable[Message],
    table: Callable[[], ChannelTable],
    now_ms: int,
    time_zone: str,
    register: Callable[[Sequence[Channel]], None] | None = None,
) -> Decoded:
    """The readings of messages that arrived now, in order. Channels that nobody knows are given to `register`; without it
    their messages are refused as `unknown_channel`. `time_zone` is that of devices that tell local time."""
    found: list[tuple[Message, Telling]] = []
    rejected: list[Rejected] = []
    for message in messages:
        arrived = Arrival(now_ms, time_zone, message.is_retained)
        try:
            found.append((message, message.dialect.told(message.topic, message.payload, arrived)))
        except RowError as error:
            rejected.append(_refused(message, error, arrived))
    if register is not None:
        _introduce([one.channel for _, telling in found for one in telling.told], table(), register)
    now, good = table(), []
    columns = Limits.of(now).columns
    for message, telling in found:
        wrong = list(telling.refused)
        for one in telling.told:
            try:
                good.append(judged(one.record, now, columns, now_ms))
            except RowError as error:
                wrong.append(RowError(error.reason, f"{one.channel.id}: {error.detail}"))
        if wrong:
            rejected.append(_refused(message, wrong[0], Arrival(now_ms, time_zone, message.is_retained)))
    return Decoded(columns_of(good), rejected)


def decode_kept(body: bytes, parameters: dict[str, str], table: ChannelTable) -> Decoded:
    """A refused message once more, as its media type names it; raises BodyError."""
    try:
        retained = parameters.get("retained") == "yes"
        message = Message(unquote(parameters["topic"]), body, dialect(unquote(parameters["dialect"])), retained)
        arrived_ms, time_zone = int(parameters["arrived"]), parameters["zone"]
    except (KeyError, ValueError, DialectError) as error:
        raise BodyError(415, f"a kept message needs its topic, dialect, arrived and zone: {error}") from None
    return decode_messages([message], lambda: table, arrived_ms, time_zone)


def quoted(topic: str) -> str:
    """A topic as a parameter of a media type."""
    return quote(topic, safe=_READABLE)


def _introduce(channels: Sequence[Channel], table: ChannelTable, register: Callable[[Sequence[Channel]], None]) -> None:
    new = {channel.id: channel for channel in channels if table.lookup_one(channel.id) == NOT_FOUND}
    if new:
        register(list(new.values()))


def _refused(message: Message, error: RowError, arrived: Arrival) -> Rejected:
    kept_as = with_parameters(
        JSON,
        dialect=quote(message.dialect.name, safe=_READABLE),
        topic=quoted(message.topic),
        arrived=str(arrived.ms),
        zone=arrived.time_zone,
        retained="yes" if arrived.is_stale else "",
    )
    return Rejected(error.reason, f"{message.topic}: {error.detail}", message.payload, kept_as)


__all__ = ["DialectError", "Message", "decode_kept", "decode_messages", "quoted"]
