"""One SML telegram as its readings: what German and related meters send on their optical port.

A telegram holds an open, one or more lists of values (SML_GetList.Res) and a close.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

from meterpulse.ingest.checksum import crc16_kermit, crc16_x25
from meterpulse.ingest.contract import RowError
from meterpulse.ingest.sml_tree import Short, element
from meterpulse.ingest.telegram import Value
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quantity import UNITS

ZONE = "Europe/Berlin"
_LIST = 0x701
_SECONDS, _INSTANT, _LOCAL = 1, 2, 3  # the choices of SML_Time
_INSTANT_MIN, _INSTANT_MAX = 946_684_800, 7_258_118_400  # 2000 and 2200: a clock that was never set says 1970
_UTILITIES = {1: "electricity", 7: "gas", 8: "water"}  # OBIS value group A
# DLMS unit codes (IEC 62056-62): the channel's unit, and what one of them is in thousandths of its base unit
_UNITS: dict[int, tuple[str, Fraction]] = {
    13: ("m3", UNITS["m3"].scale),
    14: ("m3", UNITS["m3"].scale),
    19: ("L", UNITS["L"].scale),
    27: ("W", Fraction(1_000)),
    28: ("VA", Fraction(1_000)),
    29: ("var", Fraction(1_000)),
    30: ("kWh", Fraction(1_000)),
    31: ("kVAh", Fraction(1_000)),
    32: ("kvarh", Fraction(1_000)),
    33: ("A", Fraction(1_000)),
    35: ("V", Fraction(1_000)),
}
_IDS = (
    b"\x01\x00\x60\x01\x00\xff",
    b"\x00\x00\x60\x01\xff\xff",
    b"\x01\x00\x00\x00\x09\xff",
    b"\x01\x00\x00\x00\x00\xff",
)
_POWER = b"\x01\x00\x10\x07\x00\xff"
_DZG, _DZG_MENDED = b"\x0a\x01DZG\x00", 60_000_000


@dataclass(slots=True)
class Listed:
    """The readings of a telegram, the meter's count of seconds where that is all it knows of time, and what was refused."""

    values: list[Value] = field(default_factory=list)
    refused: list[RowError] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    index_seconds: int | None = None
    timeless: bool = False  # some values have no time of their own: they are given once it is known


class _Unclear(Exception):
    """A value that may mean two things; the text says which values."""


def lists(body: bytes, received_ms: int | None) -> Listed:
    """The readings of a telegram's messages. `received_ms` is the time of values that have none of their own; without it they
    are left out and `timeless` is set. Raises RowError where the telegram is none, or a checksum does not match."""
    out, at = Listed(), 0
    while at < len(body):
        if body[at] == 0:
            at += 1
            continue
        message, end = element(body, at)
        if (
            not isinstance(message, list)
            or len(message) != 6
            or not isinstance(message[3], list)
            or len(message[3]) != 2
        ):
            raise RowError("wrong_type", "the telegram holds something that is no SML message")
        _check(body[at:end], message[4])
        if message[3][0] == _LIST:
            _take(out, message[3][1], received_ms)
        at = end
    return out


def _check(message: bytes, told: Any) -> None:
    """The checksum stands before the message's last byte, its leading zeros left off by some."""
    if type(told) is not int or told > 0xFFFF:
        raise RowError("bad_checksum", "a message has no checksum")
    size = 3 if message[-4:-3] == b"\x63" else 2
    content = message[: -1 - size]
    known = [int.from_bytes(crc(content).to_bytes(2, "little"), "big") for crc in (crc16_x25, crc16_kermit)]
    if told not in known:
        raise RowError("bad_checksum", f"a message's checksum is {known[0]:04X}, not {told:04X}")


def _take(out: Listed, told: Any, received_ms: int | None) -> None:
    if not isinstance(told, list) or len(told) != 7 or not isinstance(told[4], list):
        raise RowError("wrong_type", "the list of values is not SML_GetList.Res")
    entries = [
        entry for entry in told[4] if isinstance(entry, list) and len(entry) == 7 and isinstance(entry[0], bytes)
    ]
    meter = equipment(told[1], {entry[0]: entry[5] for entry in entries})
    at, index = _time(told[3])
    out.index_seconds = index if out.index_seconds is None else out.index_seconds
    for entry in entries:
        try:
            measured = _measured(entry, meter, told[1])
        except _Unclear as unclear:
            out.ignored.append(str(unclear))
            continue
        except RowError as error:
            out.refused.append(error)
            continue
        if measured is None:
            continue
        channel, text, scale = measured
        own, _ = _time(entry[2])
        when = next((ms for ms in (own, at, received_ms) if ms is not None), None)
        if when is None:
            out.timeless = True
        else:
            out.values.append(Value(channel, when, 1, text, scale))


def _measured(entry: list[Any], meter: str, server: Any) -> tuple[Channel, str, Fraction] | None:
    """(channel, number, thousandths in one) of an entry that measures something; None for any other."""
    obis, unit, power, value = entry[0], entry[3], entry[4], entry[5]
    if len(obis) != 6 or unit not in _UNITS or isinstance(value, bool) or not isinstance(value, int):
        return None
    medium, _, what, how, tariff, past = obis
    if medium not in _UTILITIES or past != 255:  # others than 255 are values of the past
        return None
    name, scale = _UNITS[unit]
    volume = UNITS[name].dimension == "volume"
    if (medium == 1) == volume or (how != 8 and how != 7 and not volume):
        return None
    power = 0 if power is None else power
    if isinstance(power, bool) or not isinstance(power, int) or not -12 <= power <= 12:
        raise RowError("bad_unit", f"{obis_text(obis)}: a scale of 10^{str(power)[:9]} is not taken")
    if value < 0 and obis == _POWER and isinstance(value, Short) and value.size < 3 and _is_old_dzg(server):
        # Some of them cut the leading zeros of a number that is above zero, others mean what they send: nobody can tell.
        raise _Unclear("powers of DZG meters before 60000000 whose sign is not clear")
    kind = "register" if how == 8 or volume else "gauge"
    channel = _channel(meter, obis_text(obis), medium, what, name, kind)
    return channel, str(int(value)), scale * Fraction(10) ** int(power)


def obis_text(obis: bytes) -> str:
    """As 1-0:1.8.0."""
    a, b, c, d, e, _ = obis
    return f"{a}-{b}:{c}.{d}.{e}"


def _is_old_dzg(server: Any) -> bool:
    return isinstance(server, bytes) and server.startswith(_DZG) and int.from_bytes(server[6:10], "big") < _DZG_MENDED


def equipment(server: Any, values: dict[bytes, Any]) -> str:
    """The meter's id: by DIN 43863-5 as 1EMH0012345678 stands on it, else in hexadecimal; raises RowError without one."""
    for id in (server, *(values.get(obis) for obis in _IDS)):
        if not isinstance(id, bytes) or not id.strip(b"\x00"):
            continue
        if len(id) == 10 and id[0] == 0x0A and id[2:5].isalpha() and id[2:5].isascii():
            return f"{id[1]:X}{id[2:5].decode()}{id[5]:02X}{int.from_bytes(id[6:], 'big'):08d}"
        return id.hex().upper()[:100]
    raise RowError("missing_field", "the telegram does not say which meter it is of")


def _time(told: Any) -> tuple[int | None, int | None]:
    """(ms UTC, the meter's count of seconds) of an SML_Time; some meters send the bare count."""
    if type(told) is int:
        return None, told
    if not isinstance(told, list) or len(told) != 2:
        return None, None
    choice, value = told
    if choice == _SECONDS and type(value) is int:
        return None, value
    stamp = value[0] if choice == _LOCAL and isinstance(value, list) and value else value
    if choice in (_INSTANT, _LOCAL) and type(stamp) is int and _INSTANT_MIN <= stamp < _INSTANT_MAX:
        return stamp * 1_000, None
    return None, None


@lru_cache(maxsize=4096)
def _channel(meter: str, obis: str, medium: int, what: int, unit: str, kind: str) -> Channel:
    received = medium == 1 and what % 20 in (2, 4, 10)
    try:
        return Channel(
            f"{meter}:{obis}",
            _UTILITIES[medium],
            unit,
            usage_point=meter,
            meter=meter,
            direction="received" if received else "delivered",
            kind=kind,
            interval_seconds=1,
            time_zone=ZONE,
        )
    except ChannelError as error:
        raise RowError("bad_unit", f"{obis}: {error}") from None
