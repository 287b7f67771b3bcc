"""What a message tells, by the paths and words of its dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from typing import Any

from meterpulse.ingest.contract import RowError
from meterpulse.ingest.dialects.times import arrival, told_time
from meterpulse.ingest.json import value_of
from meterpulse.ingest.record import ABSENT_SECONDS, Record, decimal, unit_code
from meterpulse.ingest.sml_list import lists
from meterpulse.ingest.sml_tree import START, Frames
from meterpulse.ingest.telegram import Value, telegram
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quantity import UNITS

WORD = re.compile(r"\{(\w+)\}")
_SILENT = frozenset(("", "unavailable", "unknown", "none", "null", "nan"))  # a device that says it does not know
_PLACES = 12  # decimals that are kept of a product with a fraction; a thousandth of a Wh is the third
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A reading as a device told it, and what its channel is where nobody has registered it."""

    channel: Channel
    record: Record


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a message."""

    path: Path
    channel: Channel  # with words in its texts
    unit_from: Path | None
    times: Fraction
    where: tuple[tuple[str, tuple[str, ...]], ...]
    is_end: bool  # the time is the interval's end


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message. One of a `format` has no readings of its own: its telegram tells them."""

    topic: str
    pattern: re.Pattern[str]
    format: str  # json, text (one number), or a name of TELEGRAMS
    channel: str  # the id of a telegram's channel, of {id}, {meter}, {stream} and the topic's words
    time: Path | None
    words: tuple[tuple[str, Path], ...]  # that stand in the payload
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """The readings of a message, and why some of its values gave none."""

    told: list[Told]
    refused: list[RowError]


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a message came, and the zone of devices that tell local time. A stale one says nothing of when it was sent (the
    broker had kept it), so of that only what brings its own time is told."""

    ms: int
    time_zone: str
    is_stale: bool = False


def told_by(kind: Kind, payload: bytes, words: dict[str, str], arrived: Arrival) -> Telling:
    """What one message tells; `words` are its topic's. Raises RowError where nothing of it can be read."""
    if kind.format in TELEGRAMS:
        return _of_telegram(kind, payload, words, None if arrived.is_stale else arrived.ms)
    content = _text(payload) if kind.format == "text" else value_of(payload)
    start = None if kind.time is None else _time_in(content, kind.time, arrived)
    found = Telling([], [])
    if start is None and arrived.is_stale:
        return found
    words = words | _words_in(content, kind.words)
    for reading in kind.readings:
        for value, all_words in _at(content, reading.path, words):
            if _is_silent(value):
                continue
            if not all(_holds(path, wanted, content, all_words) for path, wanted in reading.where):
                continue
            try:
                found.told.append(_one(reading, value, content, all_words, start, arrived))
            except RowError as error:
                found.refused.append(error)
    return found


def only_value(content: Any, path: Path, words: dict[str, str]) -> Any:
    """The first that stands at a path; None where it leads nowhere."""
    return next((value for value, _ in _at(content, path, words)), None)


# -- telegrams -----------------------------------------------------------------------------------------------------------


def _of_telegram(kind: Kind, payload: bytes, words: dict[str, str], received_ms: int | None) -> Telling:
    values, refused = TELEGRAMS[kind.format](payload, received_ms)
    told = []
    for value in values:
        channel = value.channel
        if kind.channel != "{id}":
            meter = channel.meter or channel.id.partition(":")[0]
            parts = {"id": channel.id, "meter": meter, "stream": channel.id.removeprefix(meter).removeprefix(":")}
            channel = _renamed(channel, _said(kind.channel, words | parts))
        mantissa, exponent = decimal(value.text)
        if value.scale != UNITS[channel.unit].scale:
            mantissa, exponent = _multiplied(mantissa, exponent, value.scale / UNITS[channel.unit].scale)
        unit = unit_code(channel.unit)
        told.append(Told(channel, Record(channel.id, value.start_ms, value.seconds, mantissa, exponent, unit, 0)))
    if received_ms is None:  # without its own time it is told no time, as was asked for
        refused = [error for error in refused if error.reason != "bad_time"]
    return Telling(told, refused)


def _renamed(channel: Channel, id: str) -> Channel:
    try:
        return replace(channel, id=id)
    except ChannelError as error:
        raise RowError("unknown_channel", f"this makes no channel: {error}") from None


def _p1(payload: bytes, received_ms: int | None) -> tuple[list[Value], list[RowError]]:
    start, end = payload.find(b"/"), payload.rfind(b"!")
    if start < 0 or end < start:
        raise RowError("truncated", "a P1 telegram begins with / and ends with ! and its checksum")
    found = telegram(payload[start:].rstrip(b"\0 \t"), received_ms)
    return found.values, found.refused


def _sml(payload: bytes, received_ms: int | None) -> tuple[list[Value], list[RowError]]:
    """One or more telegrams with their transport, in binary or in hexadecimal."""
    frames = Frames()
    found = list(frames.feed(_unhexed(payload)))
    values: list[Value] = []
    refused: list[RowError] = []
    if not found or frames.rest() is not None:
        refused.append(RowError("truncated", "an SML telegram begins with 1B1B1B1B01010101 and ends with 1B1B1B1B1A"))
    for frame in found:
        try:
            if frame.problem:
                raise RowError(frame.problem, "the telegram ends too early, or its checksum does not match")
            listed = lists(frame.body, received_ms)
        except RowError as error:
            refused.append(error)
        else:
            values += listed.values
            refused += listed.refused
    return values, refused


def _unhexed(payload: bytes) -> bytes:
    text = b"".join(payload.split())
    if text[:16].lower() != START.hex().encode():
        return payload
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise RowError("truncated", "the telegram's digits are not hexadecimal, or one of a pair is missing") from None


TELEGRAMS = {"p1": _p1, "sml": _sml}

# -- values --------------------------------------------------------------------------------------------------------------


def _text(payload: bytes) -> str:
    """A number as it stands there, or between quotes."""
    try:
        return payload.decode().strip().strip('"')
    except UnicodeDecodeError as error:
        raise RowError("bad_utf8", f"byte {error.start} is not valid UTF-8") from None


def _is_silent(value: Any) -> bool:
    """No value, and no error. A list is one for each of its places: `Total.{phase}` tells them."""
    return value is None or isinstance(value, list) or (isinstance(value, str) and value.strip().lower() in _SILENT)


def _one(
    reading: Reading, value: Any, content: Any, words: dict[str, str], start: int | None, arrived: Arrival
) -> Told:
    channel = _filled(reading.channel, tuple(words.items()), arrived.time_zone)
    mantissa, exponent = decimal(value.strip() if type(value) is str else value)
    if reading.times != 1:
        mantissa, exponent = _multiplied(mantissa, exponent, reading.times)
    unit = channel.unit if reading.unit_from is None else only_value(content, reading.unit_from, words)
    at = arrival(arrived.ms, channel.interval_seconds) if start is None else start
    if reading.is_end:
        at -= channel.interval_seconds * 1000
    return Told(channel, Record(channel.id, at, ABSENT_SECONDS, mantissa, exponent, unit_code(unit), 0))


def _at(content: Any, path: Path, words: dict[str, str]) -> Iterator[tuple[Any, dict[str, str]]]:
    """What stands at a path, and the words on the way there; nothing where the path leads nowhere."""
    if not path:
        yield content, words
        return
    step, rest = path[0], path[1:]
    if isinstance(content, list):
        items: Mapping[str, Any] = {str(place): one for place, one in enumerate(content, 1)}
    elif isinstance(content, dict):
        items = content
    else:
        return
    if "{" in step:
        step = _said(step, words)
    if "{" not in step:
        if step in items:
            yield from _at(items[step], rest, words)
        return
    pattern = pattern_of(step)
    for key, inner in items.items():
        if match := pattern.fullmatch(key):
            yield from _at(inner, rest, words | match.groupdict())


@lru_cache(maxsize=4096)
def pattern_of(text: str) -> re.Pattern[str]:
    """`switch:{part}`: a word stands for one level of a topic, or a part of one."""
    out, at = "", 0
    for word in WORD.finditer(text):
        out += re.escape(text[at : word.start()]) + f"(?P<{word[1]}>[^/]+?)"
        at = word.end()
    rest = text[at:]
    return re.compile(out + (re.escape(rest[:-1]) + ".*" if rest.endswith("#") else re.escape(rest)), re.DOTALL)


def _said(text: str, words: Mapping[str, str]) -> str:
    return WORD.sub(lambda word: words.get(word[1], word[0]), text)


def _multiplied(mantissa: int, exponent: int, times: Fraction) -> tuple[int, int]:
    """Rounded half to even after twelve decimals, which is exact for every fraction that is a decimal."""
    if abs(exponent) > 100:
        raise RowError("overflow", "the quantity is more, or finer, than a meter measures")
    return round(mantissa * times * Fraction(10) ** (exponent + _PLACES)), -_PLACES


def _words_in(content: Any, words: tuple[tuple[str, Path], ...]) -> dict[str, str]:
    found = ((name, only_value(content, path, {})) for name, path in words)
    return {name: value for name, value in found if isinstance(value, str)}


def _holds(path: str, wanted: tuple[str, ...], content: Any, words: dict[str, str]) -> bool:
    word = WORD.fullmatch(path)
    value = words.get(word[1]) if word else only_value(content, path_of(path), words)
    return isinstance(value, str) and any(fnmatchcase(value, one) for one in wanted)


def path_of(given: Any) -> Path:
    """`a.b` or `["a", "b.c"]`."""
    if isinstance(given, str):
        return tuple(given.split(".")) if given else ()
    return tuple(str(part) for part in given)


def _time_in(content: Any, path: Path, arrived: Arrival) -> int | None:
    value = only_value(content, path, {})
    return None if value is None else told_time(value, arrived.ms, arrived.time_zone)


@lru_cache(maxsize=65_536)
def _filled(channel: Channel, words: tuple[tuple[str, str], ...], time_zone: str) -> Channel:
    """The channel with its words said; raises RowError where that makes no id."""
    known = dict(words)

    def said(text: str | None) -> Any:
        return None if text is None else _said(text, known)

    try:
        return replace(
            channel, id=said(channel.id), usage_point=said(channel.usage_point), meter=said(channel.meter),
            area=said(channel.area), time_zone=time_zone,
        )  # fmt: skip
    except ChannelError as error:
        raise RowError("unknown_channel", f"this makes no channel: {error}") from None
