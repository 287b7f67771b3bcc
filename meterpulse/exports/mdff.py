"""What NEM12 and NEM13 share on their way out: names, units, the clock of the market, qualities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from meterpulse.model.channel import Channel
from meterpulse.model.problem import Problem
from meterpulse.model.quality import nem12_of, reason_of
from meterpulse.model.quantity import unit_of

OFFSET_MS = 10 * 3_600_000  # NEM time is UTC+10 all year
_NAMED = re.compile(r"([A-Za-z0-9._-]{1,32}):([A-Za-z0-9]{1,4})")
_NMI = re.compile(r"[A-Za-z0-9._-]{1,32}")
_EPOCH = datetime(1970, 1, 1)
_LAST_SECOND = 253_402_300_799 - OFFSET_MS // 1_000  # of the year 9999
# by dimension: the unit in thousands, the unit, the suffix of what is delivered and of what is received
_UNITS = {
    "energy": ("kWh", "Wh", "E1", "B1"),
    "reactive energy": ("kvarh", "varh", "Q1", "K1"),
    "apparent energy": ("kVAh", "VAh", "T1", "G1"),
}
_RECEIVED = frozenset("ABCJKL")


def names(channels: Mapping[int, Channel], kind: str) -> dict[int, tuple[str, str]]:
    """(NMI, suffix) of each: of an id such as 4103035421:E1, else the id and the suffix of what it measures. Raises Problem 422."""
    found: dict[int, tuple[str, str]] = {}
    for index, channel in channels.items():
        if channel.utility != "electricity" or channel.kind != kind or unit_of(channel.unit).dimension not in _UNITS:
            what = "intervals" if kind == "interval" else "registers"
            raise refusal(
                channel, f"the format holds {what} of Wh, varh and VAh, and this is a {channel.kind} of {channel.unit}"
            )
        match, received = _NAMED.fullmatch(channel.id), channel.direction == "received"
        if match and (kind == "register" or (match[2][0].upper() in _RECEIVED) == received):
            found[index] = match[1], match[2]
        elif _NMI.fullmatch(channel.id):
            found[index] = channel.id, _UNITS[unit_of(channel.unit).dimension][3 if received else 2]
        else:
            raise refusal(
                channel, "the format names a channel by an NMI and a suffix, as 4103035421:E1; its id is none"
            )
    return found


def refusal(channel: Channel, why: str) -> Problem:
    """What to raise for a channel that the format cannot hold."""
    return Problem(
        422, "format", "The format cannot hold this channel", f"{channel.id}: {why}. Choose others, or another format."
    )


def units(channel: Channel) -> tuple[str, str]:
    """The unit in thousands (kWh), and the unit (Wh)."""
    return _UNITS[unit_of(channel.unit).dimension][:2]


def in_thousands(quantity: int) -> str:
    """Thousandths of the base unit as a decimal in thousands of it (kWh), with four places where that is exact, else six."""
    text = f"{quantity // 10**6}.{quantity % 10**6:06d}"
    return text[:-2] if text.endswith("00") else text


def in_units(quantity: int) -> str:
    """Thousandths of the base unit as a decimal in it (Wh)."""
    return f"{quantity // 1_000}.{quantity % 1_000:03d}"


def stamp(seconds: int) -> str:
    """Seconds since 1970 as YYYYMMDDhhmmss in NEM time."""
    return (_EPOCH + timedelta(seconds=seconds + OFFSET_MS // 1_000)).strftime("%Y%m%d%H%M%S").zfill(14)


def updated(revision: int) -> str:
    """UpdateDateTime: revisions of files that came from the market are seconds since 1970. Empty for none, and for one that is no
    time."""
    return stamp(revision) if 0 < revision <= _LAST_SECOND else ""


def quality(packed: int) -> tuple[str, str]:
    """(flag with its method, reason code or nothing)."""
    flag, method = nem12_of(packed)
    if (
        flag == "V"
    ):  # which only a day has, with 400 records behind it: of one value nobody knows more than "substituted"
        flag, method = "S", method or 16
    reason = reason_of(packed)
    return flag + (f"{method:02d}" if method else ""), "" if reason is None else str(reason)


def field(text: str | None) -> str:
    """A text as a field: commas and line ends would make more of it."""
    return "" if text is None or any(mark in text for mark in ',"\r\n') else text[:12]
