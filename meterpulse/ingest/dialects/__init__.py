"""Dialects: how a family of devices says things over MQTT. One TOML file each, here or of your own; its name is its name in
`ingest.mqtt.dialects`.

A file has `[[message]]` tables: which topics, where the time stands, and a `[[message.reading]]` for each value. In a topic
`{device}` stands for one level, or a part of one, and is a word from there on; in a path (`ENERGY.Total`) it stands for any
key or place in a list. Words make the channel's id: `tele/{device}/SENSOR` and `{device}:energy`.

>>> tasmota = dialect("tasmota")
>>> [t.channel.id for t in tasmota.told("tele/boiler/SENSOR", b'{"ENERGY": {"Total": 7.5}}', now_ms, "UTC")]
['boiler:energy']
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from meterpulse.ingest.contract import RowError
from meterpulse.ingest.dialects.times import arrival, told_time
from meterpulse.ingest.json import value_of
from meterpulse.ingest.record import ABSENT_SECONDS, Record, decimal, unit_code
from meterpulse.model.channel import Channel, ChannelError

_HERE = Path(__file__).parent
_WORD = re.compile(r"\{(\w+)\}")
_SILENT = frozenset(("", "unavailable", "unknown", "none", "null", "nan"))  # a device that says it does not know
_MESSAGE_KEYS = {"topic", "time", "words", "reading"}
_PLACES = 12  # decimals that are kept of a product with a fraction; a thousandth of a Wh is the third
_READING_KEYS = {"value", "channel", "utility", "unit", "unit_from", "times", "where"}
_CHANNEL_KEYS = {"usage_point", "meter", "direction", "kind", "interval_seconds", "class", "area", "digits"}
_DIALECT_KEYS = {"about", "source", "message"}


class DialectError(ValueError):
    """The file is no dialect; the message says where and what it takes."""


@dataclass(frozen=True, slots=True)
class Told:
    """A reading as a device told it, and what its channel is where nobody has registered it."""

    channel: Channel
    record: Record


@dataclass(frozen=True, slots=True)
class _Reading:
    path: tuple[str, ...]
    id: str
    channel: Channel  # with words in its texts
    unit_from: tuple[str, ...] | None
    times: Fraction
    where: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    pattern: re.Pattern[str]
    time: tuple[str, ...] | None
    words: tuple[tuple[str, tuple[str, ...]], ...]  # that stand in the payload
    readings: tuple[_Reading, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """`name` is a built-in name or the path of a file."""

    name: str
    messages: tuple[_Message, ...]

    @property
    def topics(self) -> list[str]:
        """What to subscribe to."""
        return list(dict.fromkeys(_filter_of(message.topic) for message in self.messages))

    def knows(self, topic: str) -> bool:
        """Whether a message of this topic is in this dialect."""
        return any(message.pattern.fullmatch(topic) for message in self.messages)

    def told(self, topic: str, payload: bytes, arrived_ms: int, time_zone: str) -> list[Told]:
        """The readings of one message; none where it tells of other things. Raises RowError.

        A time in the payload that has no offset is one of `time_zone`; without any time a reading is of its arrival,
        rounded down to the channel's interval.
        """
        found: list[Told] = []
        for message in self.messages:
            match = message.pattern.fullmatch(topic)
            if match is None:
                continue
            content = value_of(payload)
            start = None if message.time is None else _time_in(content, message.time, arrived_ms, time_zone)
            words = match.groupdict() | _words_in(content, message.words)
            for reading in message.readings:
                found += _told(reading, content, words, start, arrived_ms, time_zone)
        return found


@lru_cache(maxsize=64)
def dialect(name: str) -> Dialect:
    """A built-in dialect, or that of a TOML file; raises DialectError."""
    path = _HERE / f"{name}.toml" if name in built_in() else Path(name)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(built_in())
        raise DialectError(f"{name!r} is no dialect; built in: {known}; or give the path of a TOML file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DialectError(f"{name} cannot be read: {error}") from None
    _only(given, _DIALECT_KEYS, name)
    messages = tuple(
        _message(one, f"{name}, message {number}") for number, one in enumerate(given.get("message", ()), 1)
    )
    if not messages:
        raise DialectError(f"{name}: has no [[message]]")
    return Dialect(name, messages)


def built_in() -> list[str]:
    """The names of the dialects that come along."""
    return sorted(file.stem for file in _HERE.glob("*.toml"))


# -- reading a file ------------------------------------------------------------------------------------------------------


def _message(given: Any, where: str) -> _Message:
    _only(given, _MESSAGE_KEYS, where)
    topic = given.get("topic")
    if not isinstance(topic, str) or not topic or "#" in topic.rstrip("#") or "+" in topic:
        raise DialectError(f"{where}: topic is {topic!r}; write it like tele/{{device}}/SENSOR")
    readings = tuple(
        _reading(one, f"{where}, reading {number}") for number, one in enumerate(given.get("reading", ()), 1)
    )
    if not readings:
        raise DialectError(f"{where}: has no [[message.reading]]")
    words = tuple((name, _path(path)) for name, path in given.get("words", {}).items())
    return _Message(topic, _pattern_of(topic), _path(given["time"]) if "time" in given else None, words, readings)


def _reading(given: Any, where: str) -> _Reading:
    _only(given, _READING_KEYS | _CHANNEL_KEYS, where)
    if not isinstance(given.get("channel"), str):
        raise DialectError(f"{where}: needs a channel such as {{device}}:energy")
    shape = {"id": given["channel"], "utility": given.get("utility", "electricity")}
    shape |= {"unit": given.get("unit"), "kind": "register", "interval_seconds": 60}
    shape |= {key: given[key] for key in _CHANNEL_KEYS if key in given}
    try:
        channel = Channel.from_dict(shape)
        times = Fraction(str(given.get("times", "1")))
    except (ChannelError, ValueError, ZeroDivisionError) as error:
        raise DialectError(f"{where}: {error}") from None
    conditions = given.get("where", {})
    if not isinstance(conditions, dict):
        raise DialectError(f"{where}: where takes paths and what stands there")
    wanted = tuple(
        (path, tuple(str(one) for one in (value if isinstance(value, list) else [value])))
        for path, value in conditions.items()
    )
    unit_from = _path(given["unit_from"]) if "unit_from" in given else None
    return _Reading(_path(given.get("value", "")), channel.id, channel, unit_from, times, wanted)


def _only(given: Any, known: set[str], where: str) -> None:
    if not isinstance(given, dict):
        raise DialectError(f"{where}: takes a table of keys and values")
    unknown = sorted(set(given) - known)
    if unknown:
        raise DialectError(f"{where}: {unknown[0]!r} is not known; known are {', '.join(sorted(known))}")


def _path(given: Any) -> tuple[str, ...]:
    """`a.b` or `["a", "b.c"]`."""
    if isinstance(given, str):
        return tuple(given.split(".")) if given else ()
    return tuple(str(part) for part in given)


def _pattern_of(topic: str) -> re.Pattern[str]:
    text, at = "", 0
    for word in _WORD.finditer(topic):
        text += re.escape(topic[at : word.start()]) + f"(?P<{word[1]}>[^/]+?)"
        at = word.end()
    rest = topic[at:]
    return re.compile(text + (re.escape(rest[:-1]) + ".*" if rest.endswith("#") else re.escape(rest)), re.DOTALL)


def _filter_of(topic: str) -> str:
    return "/".join("+" if "{" in level else level for level in topic.split("/"))


# -- reading a message ---------------------------------------------------------------------------------------------------


def _told(
    reading: _Reading, content: Any, words: dict[str, str], start: int | None, arrived_ms: int, time_zone: str
) -> Iterator[Told]:
    for value, all_words in _at(content, reading.path, words):
        if value is None or (isinstance(value, str) and value.strip().lower() in _SILENT):
            continue
        if not all(_holds(path, wanted, content, all_words) for path, wanted in reading.where):
            continue
        channel = _filled(reading.channel, all_words, time_zone)
        mantissa, exponent = decimal(value.strip() if type(value) is str else value)
        if reading.times != 1:
            mantissa, exponent = _multiplied(mantissa, exponent, reading.times)
        unit = channel.unit if reading.unit_from is None else _only_value(content, reading.unit_from, all_words)
        at = arrival(arrived_ms, channel.interval_seconds) if start is None else start
        yield Told(channel, Record(channel.id, at, ABSENT_SECONDS, mantissa, exponent, unit_code(unit), 0))


def _at(content: Any, path: tuple[str, ...], words: dict[str, str]) -> Iterator[tuple[Any, dict[str, str]]]:
    """What stands at a path, and the words on the way there; nothing where the path leads nowhere."""
    if not path:
        yield content, words
        return
    step, rest = path[0], path[1:]
    word = _WORD.fullmatch(step)
    if isinstance(content, list):
        items: Mapping[str, Any] = {str(place): one for place, one in enumerate(content, 1)}
    elif isinstance(content, dict):
        items = content
    else:
        return
    if word is None:
        step = _WORD.sub(lambda found: words.get(found[1], found[0]), step)
        if step in items:
            yield from _at(items[step], rest, words)
        return
    for key, inner in items.items():
        yield from _at(inner, rest, words | {word[1]: key})


def _multiplied(mantissa: int, exponent: int, times: Fraction) -> tuple[int, int]:
    """Rounded half to even after twelve decimals, which is exact for every fraction that is a decimal."""
    if abs(exponent) > 100:
        raise RowError("overflow", "the quantity is more, or finer, than a meter measures")
    return round(mantissa * times * Fraction(10) ** (exponent + _PLACES)), -_PLACES


def _words_in(content: Any, words: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, str]:
    found = ((name, _only_value(content, path, {})) for name, path in words)
    return {name: value for name, value in found if isinstance(value, str)}


def _only_value(content: Any, path: tuple[str, ...], words: dict[str, str]) -> Any:
    return next((value for value, _ in _at(content, path, words)), None)


def _holds(path: str, wanted: tuple[str, ...], content: Any, words: dict[str, str]) -> bool:
    word = _WORD.fullmatch(path)
    value = words.get(word[1]) if word else _only_value(content, _path(path), words)
    return isinstance(value, str) and any(fnmatchcase(value, one) for one in wanted)


def _time_in(content: Any, path: tuple[str, ...], arrived_ms: int, time_zone: str) -> int | None:
    value = _only_value(content, path, {})
    return None if value is None else told_time(value, arrived_ms, time_zone)


def _filled(channel: Channel, words: dict[str, str], time_zone: str) -> Channel:
    """The channel with its words said; raises RowError where that makes no id."""

    def said(text: str | None) -> Any:
        return None if text is None else _WORD.sub(lambda word: words.get(word[1], word[0]), text)

    try:
        return replace(
            channel, id=said(channel.id), usage_point=said(channel.usage_point), meter=said(channel.meter),
            area=said(channel.area), time_zone=time_zone,
        )  # fmt: skip
    except ChannelError as error:
        raise RowError("unknown_channel", f"this makes no channel: {error}") from None
