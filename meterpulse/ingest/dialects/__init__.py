"""Dialects: how a family of devices says things over MQTT. One TOML file each, here or of your own; its name is its name in
`ingest.mqtt.dialects`. docs/how-to/mqtt.md has the keys.

A file has `[[message]]` tables: which topics, where the time stands, and a `[[message.reading]]` for each value. In a topic
`{device}` stands for one level, or a part of one, and is a word from there on; in a path (`ENERGY.Total`) it stands for any
key or place in a list. Words make the channel's id: `tele/{device}/SENSOR` and `{device}:energy`. A message with a `format`
(p1, sml) is a telegram of a meter, which names its channels itself.

>>> tasmota = dialect("tasmota")
>>> said = tasmota.told("tele/boiler/SENSOR", b'{"ENERGY": {"Total": 7.5}}', Arrival(now_ms, "UTC"))
>>> [told.channel.id for told in said.told]
['boiler:energy']
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from meterpulse.ingest.dialects.telling import (
    TELEGRAMS,
    WORD,
    Arrival,
    Kind,
    Reading,
    Telling,
    Told,
    path_of,
    pattern_of,
    told_by,
)
from meterpulse.model.channel import Channel, ChannelError

_HERE = Path(__file__).parent
_FORMATS = ("json", "text", *TELEGRAMS)
_MESSAGE_KEYS = {"topic", "format", "channel", "time", "words", "reading"}
_READING_KEYS = {"value", "channel", "utility", "unit", "unit_from", "times", "where", "stamp"}
_CHANNEL_KEYS = {"usage_point", "meter", "direction", "kind", "interval_seconds", "class", "area", "digits"}
_DIALECT_KEYS = {"about", "source", "message"}

__all__ = ["Arrival", "Dialect", "DialectError", "Telling", "Told", "built_in", "dialect"]


class DialectError(ValueError):
    """The file is no dialect; the message says where and what it takes."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """`name` is a built-in name or the path of a file."""

    name: str
    messages: tuple[Kind, ...]

    @property
    def topics(self) -> list[str]:
        """What to subscribe to."""
        return list(dict.fromkeys(_filter_of(message.topic) for message in self.messages))

    def knows(self, topic: str) -> bool:
        """Whether a message of this topic is in this dialect."""
        return any(message.pattern.fullmatch(topic) for message in self.messages)

    def told(self, topic: str, payload: bytes, arrived: Arrival) -> Telling:
        """What one message tells; nothing where it is about other things. Raises RowError.

        A time in the payload that has no offset is one of the arrival's zone; without any time a reading is of its arrival,
        rounded down to the channel's interval.
        """
        found = Telling([], [])
        for message in self.messages:
            match = message.pattern.fullmatch(topic)
            if match is not None:
                one = told_by(message, payload, match.groupdict(), arrived)
                found.told.extend(one.told)
                found.refused.extend(one.refused)
        return found


@lru_cache(maxsize=64)
def dialect(name: str) -> Dialect:
    """A built-in dialect, or that of a TOML file; raises DialectError."""
    path = source_of(name)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(built_in())
        raise DialectError(f"{name!r} is no dialect; built in: {known}; or give the path of a TOML file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DialectError(f"{name} cannot be read: {error}") from None
    _only(given, _DIALECT_KEYS, name)
    messages = [
        kind
        for number, one in enumerate(_tables(given.get("message", ())), 1)
        for kind in _kinds(one, f"{name}, message {number}")
    ]
    if not messages:
        raise DialectError(f"{name}: has no [[message]]")
    return Dialect(name, tuple(messages))


def source_of(name: str) -> Path:
    """The file of a dialect: one of those that come along, or the path that the name is."""
    return _HERE / f"{name}.toml" if name in built_in() else Path(name)


def built_in() -> list[str]:
    """The names of the dialects that come along."""
    return sorted(file.stem for file in _HERE.glob("*.toml"))


# -- reading a file ------------------------------------------------------------------------------------------------------


def _kinds(given: Any, where: str) -> list[Kind]:
    """One for each topic of a message's table."""
    _only(given, _MESSAGE_KEYS, where)
    topics = given.get("topic")
    topics = topics if isinstance(topics, list) and topics else [topics]
    for topic in topics:
        if not isinstance(topic, str) or not topic or "#" in topic.rstrip("#") or "+" in topic:
            raise DialectError(f"{where}: topic is {topic!r}; write it like tele/{{device}}/SENSOR")
    format = given.get("format", "json")
    if format not in _FORMATS:
        raise DialectError(f"{where}: format is {format!r}; it takes {', '.join(_FORMATS)}")
    readings = tuple(
        _reading(one, f"{where}, reading {number}") for number, one in enumerate(_tables(given.get("reading", ())), 1)
    )
    if format in TELEGRAMS:
        if readings or "time" in given or "words" in given:
            raise DialectError(f"{where}: a telegram ({format}) tells its readings itself; leave reading, time, words")
    elif not readings:
        raise DialectError(f"{where}: has no [[message.reading]]")
    elif "channel" in given:
        raise DialectError(f"{where}: channel belongs into [[message.reading]], unless the format is a telegram's")
    if format == "text" and ("time" in given or "words" in given or any(one.path for one in readings)):
        raise DialectError(f"{where}: a text is one number; it takes no time, words or value")
    words = tuple((name, path_of(path)) for name, path in given.get("words", {}).items())
    time, channel = path_of(given["time"]) if "time" in given else None, str(given.get("channel", "{id}"))
    return [Kind(topic, pattern_of(topic), format, channel, time, words, readings) for topic in topics]


def _reading(given: Any, where: str) -> Reading:
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
    if given.get("stamp", "start") not in ("start", "end"):
        raise DialectError(f"{where}: stamp is {given['stamp']!r}; it takes start or end (of the interval)")
    unit_from = path_of(given["unit_from"]) if "unit_from" in given else None
    is_end = given.get("stamp") == "end"
    return Reading(path_of(given.get("value", "")), channel, unit_from, times, wanted, is_end)


def _tables(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]


def _only(given: Any, known: set[str], where: str) -> None:
    if not isinstance(given, dict):
        raise DialectError(f"{where}: takes a table of keys and values")
    unknown = sorted(set(given) - known)
    if unknown:
        raise DialectError(f"{where}: {unknown[0]!r} is not known; known are {', '.join(sorted(known))}")


def _filter_of(topic: str) -> str:
    return "/".join("+" if WORD.search(level) else level for level in topic.split("/"))
