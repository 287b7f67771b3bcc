"""One P1 telegram as its readings: what a Dutch, Belgian or related meter says on its customer port (DSMR 2.2 to 5.0.2).

>>> text = b"/ISK5\\r\\n\\r\\n0-0:1.0.0(230402021500S)\\r\\n0-0:96.1.1(4B38)\\r\\n1-0:1.8.1(000010.181*kWh)\\r\\n!"
>>> [(v.channel.id, v.start_ms, v.text) for v in telegram(text, None).values]
[('K8:1-0:1.8.1', 1680394500000, '000010.181')]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from functools import lru_cache

from meterpulse.ingest.checksum import crc16_arc
from meterpulse.ingest.contract import RowError
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quantity import UNITS
from meterpulse.model.window import zone

ZONE = "Europe/Amsterdam"
_LINE = re.compile(r"(?P<obis>(?:\d+-)?\d+:\d+\.\d+\.\d+)(?:\*\d+)?(?P<groups>(?:\([^()]*\))+)")
_GROUP = re.compile(r"\(([^()]*)\)")
_VALUE = re.compile(r"(-?\d+(?:\.\d+)?)\*([A-Za-z0-9³]+)", re.ASCII)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_STAMP = re.compile(r"(\d{12})([SW]?)", re.ASCII)
_HEX_ID = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_ID = re.compile(r"[A-Za-z0-9._-]+")
_UNITS = {
    "kwh": "kWh",
    "wh": "Wh",
    "kvarh": "kvarh",
    "kw": "kW",
    "w": "W",
    "v": "V",
    "a": "A",
    "m3": "m3",
    "kvar": "kvar",
    "kva": "kVA",
}
_THRESHOLDS = {"0-0:17.0.0", "1-0:31.4.0"}  # what the connection may take, not what it takes
_GAS, _WATER = {3}, {6, 7}
_VERSIONS = ("1-3:0.2.8", "3:0.2.8", "0-0:96.1.4")


@dataclass(frozen=True, slots=True)
class Value:
    """One reading: where it belongs, when, and its decimal text in a unit of `scale` thousandths."""

    channel: Channel
    start_ms: int
    seconds: int
    text: str
    scale: Fraction


@dataclass(slots=True)
class Telegram:
    """The readings of a telegram, and why some of its lines gave none."""

    values: list[Value] = field(default_factory=list)
    refused: list[RowError] = field(default_factory=list)


def telegram(data: bytes, received_ms: int | None) -> Telegram:
    """From `/` to behind `!` and its checksum. `received_ms` is the time of a telegram that tells none (before DSMR 4).

    Raises RowError where the checksum does not match or nothing in it is a telegram's.
    """
    lines = _joined(data.decode("latin-1"))
    found: dict[str, list[str]] = {}
    for line in lines[1:]:
        if match := _LINE.fullmatch(line):
            found.setdefault(match["obis"], _GROUP.findall(match["groups"]))
    version = _version(found)
    _check(data, version)
    out = Telegram()
    equipment = _equipment(found, lines[0])
    at: int | None = received_ms
    try:
        at = _instant(found["0-0:1.0.0"][0]) if "0-0:1.0.0" in found else received_ms
    except RowError as error:
        out.refused.append(error)
        at = None
    fast = "0-0:1.0.0" in found if version is None else version >= 50
    for obis, groups in found.items():
        try:
            if obis.split(".")[0].endswith(":24"):
                if (value := _other_meter(obis, groups, found, equipment, 300 if fast else 3_600)) is not None:
                    out.values.append(value)
            elif (parsed := _electricity(obis, groups)) is not None:
                if at is None and len(groups) == 1:
                    raise RowError("bad_time", "the telegram tells no time (0-0:1.0.0) for its electricity")
                text, unit, stamp = parsed
                when = _instant(stamp) if stamp else at
                channel = _channel(equipment, obis, unit, 1 if fast else 10)
                out.values.append(Value(channel, when or 0, channel.interval_seconds, text, UNITS[unit].scale))
        except RowError as error:
            if error.detail not in [known.detail for known in out.refused]:
                out.refused.append(error)
    return out


def _joined(text: str) -> list[str]:
    """The lines; a value that stands on a line of its own belongs to the one before (DSMR 3)."""
    out: list[str] = []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("(") and out:
            out[-1] += line
        elif line:
            out.append(line)
    return out or [""]


def _version(found: dict[str, list[str]]) -> int | None:
    for obis in _VERSIONS:
        if obis in found and found[obis][0].isdecimal():
            return int(found[obis][0][:2])
    return None


def _check(data: bytes, version: int | None) -> None:
    body, _, told = data.rpartition(b"!")
    told = told.strip()
    if not told:
        if version is not None and version >= 40:
            raise RowError(
                "bad_checksum", f"a telegram of version {version / 10} ends with a checksum; this one has none"
            )
        return
    try:
        wanted = int(told, 16)
    except ValueError:
        raise RowError("bad_checksum", f"{told[:8]!r} is not a checksum") from None
    body += b"!"
    unix = body.replace(b"\r\n", b"\n")  # some tools store lines their own way; the meter ended them with CR LF
    if wanted not in (crc16_arc(body), crc16_arc(unix.replace(b"\n", b"\r\n"))):
        raise RowError(
            "bad_checksum", f"the telegram's checksum is {crc16_arc(body):04X}, not {told.decode('latin-1')[:8]}"
        )


def _equipment(found: dict[str, list[str]], header: str) -> str:
    for obis in ("0-0:96.1.1", "0-0:96.1.0", "0-0:96.1.255", "1-0:0.0.0"):
        if id := _identity(found.get(obis, [""])[0]):
            return id
    return re.sub(r"[^A-Za-z0-9._-]", "", header)[:40] or "meter"


def _identity(text: str) -> str:
    """The text of an id: its characters are sent in hexadecimal by most."""
    if _HEX_ID.fullmatch(text):
        plain = bytes.fromhex(text).decode("latin-1").strip()
        if _ID.fullmatch(plain):
            return plain
    return text if _ID.fullmatch(text) and text.strip("0") else ""


def _electricity(obis: str, groups: list[str]) -> tuple[str, str, str] | None:
    """(text, unit, its own stamp or nothing) of a line that measures something; None for any other."""
    if obis in _THRESHOLDS or len(groups) > 2 or (match := _VALUE.fullmatch(groups[-1])) is None:
        return None
    unit = _UNITS.get(match[2].lower())
    if unit is None or UNITS[unit].dimension == "volume":
        return None
    return match[1], unit, groups[0] if len(groups) == 2 else ""


def _other_meter(
    obis: str, groups: list[str], found: dict[str, list[str]], equipment: str, seconds: int
) -> Value | None:
    """The reading of a gas or water meter on the M-Bus; None for any other line, and for heat."""
    bus = obis.partition(":")[0]
    stamp = _STAMP.fullmatch(groups[0])
    if stamp is None or len(groups) < 2:
        return None
    if len(groups) >= 6:  # DSMR 2 and 3: (stamp)(status)(minutes)(number)(obis)(unit)(value)
        obis, unit, text = groups[4], groups[5], groups[-1]
        minutes = groups[2]
        seconds = int(minutes) * 60 if minutes.isdecimal() and 0 < int(minutes) <= 1_440 else seconds
    else:
        match = _VALUE.fullmatch(groups[-1])
        text, unit = (match[1], match[2]) if match else ("", "")
    device = found.get(f"{bus}:24.1.0", [""])[0]
    kind = int(device) if device.isdecimal() and device.isascii() else 0
    if unit.lower() != "m3" or kind not in _GAS | _WATER or not _NUMBER.fullmatch(text):
        return None
    ids = (found.get(f"{bus}:96.1.{n}", [""])[0] for n in (1, 0))
    id = next((known for text_ in ids if (known := _identity(text_))), equipment)
    channel = _bus_channel(id, obis, "gas" if kind in _GAS else "water", seconds)
    return Value(channel, _instant(groups[0]), seconds, text, UNITS["m3"].scale)


@lru_cache(maxsize=4096)
def _bus_channel(id: str, obis: str, utility: str, seconds: int) -> Channel:
    try:
        return Channel(
            f"{id}:{obis}",
            utility,
            "m3",
            usage_point=id,
            meter=id,
            kind="register",
            interval_seconds=seconds,
            time_zone=ZONE,
        )
    except ChannelError as error:
        raise RowError("missing_field", str(error)) from None


@lru_cache(maxsize=4096)
def _channel(equipment: str, obis: str, unit: str, seconds: int) -> Channel:
    measured, how = (int(part) for part in obis.partition(":")[2].split(".")[:2])
    try:
        return Channel(
            f"{equipment}:{obis}",
            "electricity",
            unit,
            usage_point=equipment,
            meter=equipment,
            direction="received" if measured % 20 in (2, 4, 10) else "delivered",
            kind="register" if how == 8 else "gauge",
            interval_seconds=seconds,
            time_zone=ZONE,
        )
    except ChannelError as error:
        raise RowError("bad_unit", f"{obis}: {error}") from None


def _instant(text: str) -> int:
    """ms UTC of YYMMDDhhmmss with S (summer) or W behind it; raises RowError. Without one, an hour that came twice is refused."""
    match = _STAMP.fullmatch(text)
    try:
        at = datetime.strptime("20" + match[1], "%Y%m%d%H%M%S") if match else None
    except ValueError:
        at = None
    if match is None or at is None:
        raise RowError("bad_time", f"{text[:20]!r} is not a time such as 230402021500S")
    if match[2]:
        return int(at.replace(tzinfo=timezone(timedelta(hours=2 if match[2] == "S" else 1))).timestamp()) * 1_000
    first, second = (at.replace(tzinfo=zone(ZONE), fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        raise RowError("bad_time", f"{text} came twice or never that night, and has no S or W to tell")
    return int(first.timestamp()) * 1_000
