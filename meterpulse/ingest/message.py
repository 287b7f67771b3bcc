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
from meterpulse.ingest.dialects import Dialect, DialectError, Told, dialect
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


def decode_messages(
    messages: Iterable[Message],
    table: Callable[[], ChannelTable],
    now_ms: int,
    time_zone: str,
    register: Callable[[Sequence[Channel]], None] | None = None,
) -> Decoded:
    """The readings of messages that arrived now, in order. Channels that nobody knows are given to `register`; without it
    their messages are refused as `unknown_channel`. `time_zone` is that of devices that tell local time."""
    told: list[tuple[Message, Sequence[Told]]] = []
    rejected: list[Rejected] = []
    for message in messages:
        try:
            told.append((message, message.dialect.told(message.topic, message.payload, now_ms, time_zone)))
        except RowError as error:
            rejected.append(_refused(message, error, now_ms, time_zone))
    if register is not None:
        _introduce([t.channel for _, readings in told for t in readings], table(), register)
    now, good = table(), []
    columns = Limits.of(now).columns
    for message, readings in told:
        first: RowError | None = None
        for one in readings:
            try:
                good.append(judged(one.record, now, columns, now_ms))
            except RowError as error:
                first = first or RowError(error.reason, f"{one.channel.id}: {error.detail}")
        if first is not None:
            rejected.append(_refused(message, first, now_ms, time_zone))
    return Decoded(columns_of(good), rejected)


def decode_kept(body: bytes, parameters: dict[str, str], table: ChannelTable) -> Decoded:
    """A refused message once more, as its media type names it; raises BodyError."""
    try:
        message = Message(unquote(parameters["topic"]), body, dialect(unquote(parameters["dialect"])))
        arrived_ms, time_zone = int(parameters["arrived"]), parameters["zone"]
    except (KeyError, ValueError, DialectError) as error:
        raise BodyError(415, f"a kept message needs its topic, dialect, arrived and zone: {error}") from None
    return decode_messages([message], lambda: table, arrived_ms, time_zone)


def _introduce(channels: Sequence[Channel], table: ChannelTable, register: Callable[[Sequence[Channel]], None]) -> None:
    new = {channel.id: channel for channel in channels if table.lookup_one(channel.id) == NOT_FOUND}
    if new:
        register(list(new.values()))


def _refused(message: Message, error: RowError, arrived_ms: int, time_zone: str) -> Rejected:
    kept_as = with_parameters(
        JSON,
        dialect=quote(message.dialect.name, safe=_READABLE),
        topic=quote(message.topic, safe=_READABLE),
        arrived=str(arrived_ms),
        zone=time_zone,
    )
    return Rejected(error.reason, error.detail, message.payload, kept_as)


__all__ = ["DialectError", "Message", "decode_kept", "decode_messages"]
