"""ESPI's resources and what they mean here: usage points, meter readings, reading types and the links between them.

A feed names its resources by links (`.../UsagePoint/01/MeterReading/07/IntervalBlock/1`), in any order and not always all of
them; so the whole catalogue is read before the first reading is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import unquote, urlsplit

from meterpulse.ingest.contract import RowError
from meterpulse.ingest.espi_zone import zone_of
from meterpulse.ingest.gathered import UNITS
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quality import Quality

GENERATOR = "meterpulse"
"""Feeds of ours say so: they carry channels' ids and zones, revisions, NEM12's qualities and milliseconds in extensions."""

_METER_READING = re.compile(r"(.*?)MeterReading/([^/]+)")
_USAGE_POINT = re.compile(r"(?:([^/]+)/)?UsagePoint/([^/]+)")
_READING_TYPE = re.compile(r"ReadingType/([^/]+)")
_UTILITIES = {"0": "electricity", "1": "gas", "2": "water"}
_COMMODITIES = {"1": "electricity", "2": "electricity", "7": "gas", "8": "gas", "9": "water", "14": "water"}
_REGISTERS = {"1", "2", "3"}  # accumulationBehaviour: bulk quantity, continuous cumulative, cumulative
_GAUGES = {"6", "12"}  # indicating, instantaneous
_REVERSE = "19"

# uom: (unit of the channel, thousandths of its base unit in one)
UOMS: dict[str, tuple[str, Fraction]] = {
    "72": ("kWh", Fraction(1_000)),
    "71": ("kVAh", Fraction(1_000)),
    "73": ("kvarh", Fraction(1_000)),
    "31": ("kWh", Fraction(1_000, 3_600)),
    "38": ("kW", Fraction(1_000)),
    "61": ("VA", Fraction(1_000)),
    "63": ("var", Fraction(1_000)),
    "29": ("V", Fraction(1_000)),
    "5": ("A", Fraction(1_000)),
    "42": ("m3", UNITS["m3"].scale),
    "166": ("m3", UNITS["m3"].scale),
    "167": ("m3", UNITS["m3"].scale),
    "119": ("ft3", UNITS["ft3"].scale),
    "120": ("ft3", UNITS["ft3"].scale),
    "128": ("gal", UNITS["gal"].scale),
    "130": ("L", Fraction("4546.09")),
    "134": ("L", UNITS["L"].scale),
    "156": ("L", UNITS["L"].scale),
    "157": ("L", UNITS["L"].scale),
    "169": ("therm", UNITS["therm"].scale),
    "132": ("therm", UNITS["therm"].scale / 100_000),
}


@dataclass(slots=True)
class Resource:
    """An entry's links and the leaves of the resource in it, by name."""

    links: list[tuple[str, str]] = field(default_factory=list)
    entry_id: str = ""
    leaves: dict[str, str] = field(default_factory=dict)

    def hrefs(self, *rels: str) -> list[str]:
        """The links of these relations, paths only, in the order of the relations."""
        return [plain(href) for rel in rels for r, href in self.links if r == rel]


@dataclass(frozen=True, slots=True)
class Stream:
    """What the readings of one meter reading are: their channel, thousandths of the base unit in 1, and what they leave out."""

    channel: Channel
    scale: Fraction
    seconds: int  # ReadingType.intervalLength, 0 where there is none
    quality: int  # of readings that say none


@dataclass
class Catalogue:
    """Everything of a file but its readings."""

    usage_points: list[Resource] = field(default_factory=list)
    meter_readings: list[Resource] = field(default_factory=list)
    reading_types: list[Resource] = field(default_factory=list)
    clocks: list[Resource] = field(default_factory=list)
    generator: str = ""

    def stream(self, place: str, before: int, duration: str = "") -> Stream:
        """Of a block whose links lead to `place`, the `before`-th meter reading being the last one before it.

        `duration`, of its first reading, is the channel's interval where the type tells none.

        Raises RowError where its reading type is not in the file, or is nothing that a channel measures.
        """
        reading = self._meter_reading(place, before)
        point, point_id = self._usage_point(reading, place)
        type_, type_id = self._reading_type(reading)
        leaves = type_.leaves
        uom, power = leaves.get("uom", ""), leaves.get("powerOfTenMultiplier", "0") or "0"
        if uom not in UOMS or not re.fullmatch(r"-?\d{1,2}", power, re.ASCII):
            raise RowError("bad_unit", f"reading type {type_id}: uom {uom[:20]!r} times 10^{power[:9]} is not taken")
        unit, scale = UOMS[uom]
        utility = _UTILITIES.get(point.leaves.get("kind", "")) or _COMMODITIES.get(leaves.get("commodity", ""))
        if utility is None:
            utility = {"volume": None}.get(UNITS[unit].dimension, "gas" if unit == "therm" else "electricity")
        if utility is None:
            raise RowError("bad_unit", f"usage point {point_id}: nothing says whether its {unit} are gas or water")
        seconds = _seconds(leaves.get("intervalLength", ""))
        default = leaves.get("defaultQuality", "") or "0"
        own = self.generator == GENERATOR and "channel" in leaves
        try:
            channel = Channel(
                leaves.get("channel", "") if own else f"{point_id}:{type_id}",
                utility,
                unit,
                usage_point=point_id,
                direction="received" if leaves.get("flowDirection") == _REVERSE else "delivered",
                kind=_kind(leaves.get("accumulationBehaviour", ""), unit),
                interval_seconds=seconds or _seconds(duration) or 3_600,
                time_zone=leaves.get("zone", "") if own else self._zone(point),
            )
        except ChannelError as error:
            raise RowError("bad_unit", f"usage point {point_id}: {error}") from None
        return Stream(channel, scale * Fraction(10) ** int(power), seconds, quality_code(default))

    def _meter_reading(self, place: str, before: int) -> Resource:
        for same in (lambda href: href == place, lambda href: tail(href) == tail(place)):
            for reading in self.meter_readings if place else []:
                if any(same(href) for href in reading.hrefs("self")):
                    return reading
        if before and self.meter_readings:
            return self.meter_readings[before - 1]
        return self.meter_readings[0] if len(self.meter_readings) == 1 else Resource(links=[("self", place)])

    def _usage_point(self, reading: Resource, place: str) -> tuple[Resource, str]:
        found = [m for href in [*reading.hrefs("self", "up"), place] if (m := _USAGE_POINT.search(href))]
        ids = [self._point_id(point) for point in self.usage_points]
        if found:
            customer, id = found[0][1] or "", unquote(found[0][2])
            matches = [p for p, known in zip(self.usage_points, ids, strict=True) if known[1] == id]
            exact = [p for p in matches if self._point_id(p)[0] == customer] or matches
            twice = len({known for known in ids if known[1] == id}) > 1
            return (exact[0] if exact else Resource()), f"{customer}/{id}" if twice else id
        if len(self.usage_points) == 1:
            return self.usage_points[0], ids[0][1]
        raise RowError("missing_field", "no link says which usage point these readings are of")

    def _point_id(self, point: Resource) -> tuple[str, str]:
        for href in point.hrefs("self", "up", "related"):
            if match := _USAGE_POINT.search(href):
                return match[1] or "", unquote(match[2])
        return "", point.entry_id.rpartition(":")[2] or "usage-point"

    def _reading_type(self, reading: Resource) -> tuple[Resource, str]:
        if "uom" in reading.leaves:  # the type stands inside of its meter reading
            return reading, _last(_METER_READING, 2, reading.hrefs("self")) or "reading-type"
        for href in reading.hrefs("related"):
            if match := _READING_TYPE.search(href):
                id = match[1]
                for same in (lambda own: own == href, lambda own: _last(_READING_TYPE, 1, [own]) == id):  # noqa: B023
                    for type_ in self.reading_types:
                        if any(same(own) for own in type_.hrefs("self")):
                            return type_, unquote(id)
        if len(self.reading_types) == 1:
            only = self.reading_types[0]
            return only, unquote(_last(_READING_TYPE, 1, only.hrefs("self"))) or only.entry_id.rpartition(":")[
                2
            ] or "reading-type"
        raise RowError(
            "bad_unit", "the file does not hold their reading type, so nothing says what they are readings of"
        )

    def _zone(self, point: Resource) -> str:
        wanted = {tail(href) for href in point.hrefs("related") if "LocalTimeParameters" in href}
        for clock in [c for c in self.clocks if wanted & {tail(h) for h in c.hrefs("self")}] or self.clocks[:1]:
            try:
                offset, summer = (int(clock.leaves.get(name) or 0) for name in ("tzOffset", "dstOffset"))
            except ValueError:
                continue
            return zone_of(offset, summer, clock.leaves.get("dstStartRule", ""), clock.leaves.get("dstEndRule", ""))
        return "UTC"


def plain(href: str) -> str:
    """A link's path without host and slashes at its ends."""
    try:
        return urlsplit(href).path.strip("/")
    except ValueError:
        return href.strip("/")


def tail(href: str) -> str:
    """The last resource of a path by its kind and name: what links agree on that begin differently."""
    return "/".join(href.split("/")[-2:])


def meter_reading_of(block: Resource) -> str:
    """The path of the meter reading that a block is of, empty where its links do not say."""
    for href in block.hrefs("up", "self"):
        if match := _METER_READING.match(href):
            return match[0]
    return ""


def quality_code(text: str) -> int:
    """ESPI's code; raises RowError for what is none."""
    try:
        return int(Quality(int(text)))
    except ValueError:
        raise RowError("bad_quality", f"{text[:20]!r} is not a code of QualityOfReading, 0 to 19") from None


def _seconds(text: str) -> int:
    """A duration, 0 for what is none."""
    seconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    return seconds if seconds <= 31_622_400 else 0


def _kind(accumulation: str, unit: str) -> str:
    if UNITS[unit].dimension in ("power", "voltage", "current") or accumulation in _GAUGES:
        return "gauge"
    return "register" if accumulation in _REGISTERS else "interval"


def _last(pattern: re.Pattern[str], group: int, hrefs: list[str]) -> str:
    return next((str(m[group]) for href in hrefs if (m := pattern.search(href))), "")
