"""Green Button: an Atom feed of ESPI resources (NAESB REQ.21), a block of readings at a time.

- Quantities are whole numbers of thousandths of the base unit with a powerOfTenMultiplier, so nothing is rounded: Wh, varh, VAh,
  W, var, VA, V and A by 10^-3, volumes in litres (m3 for channels in m3), therms in Wh.
- ReadingQuality is written where it is not raw, which is each type's defaultQuality.
- In extensions, which other readers pass over, stand the channel's own id and zone, a revision, what NEM12 said of a value, and
  thousandths of seconds; with them `meterpulse ingest` gets back what went out.
- Cost is not kept with readings, so none is written.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote
from xml.sax.saxutils import escape

import numpy as np

from meterpulse.exports import Export, by_channel
from meterpulse.exports.espi_clock import clock_of
from meterpulse.model.channel import Channel
from meterpulse.model.quality import RAW, text_of
from meterpulse.model.quantity import unit_of
from meterpulse.model.reading import Readings

_SPACE = uuid.UUID("6f1c2a0e-1c59-5f0b-9d0c-6d9a6e8d1f10")
_BASE = "/espi/1_1/resource"
_SERVICES = {"electricity": 0, "gas": 1, "water": 2}
_COMMODITIES = {"electricity": 1, "gas": 7, "water": 9}
_ACCUMULATION = {"interval": 4, "register": 3, "gauge": 12}
# by dimension of the unit: (uom, power of ten of a thousandth of the base unit, kind of reading)
_MEASURES = {
    "energy": (72, -3, 12),
    "reactive energy": (73, -3, 12),
    "apparent energy": (71, -3, 12),
    "power": (38, -3, 37),
    "reactive power": (63, -3, 37),
    "apparent power": (61, -3, 37),
    "voltage": (29, -3, 54),
    "current": (5, -3, 4),
    "volume": (134, -3, 58),
}
_CUBIC_METRES = (42, -6, 58)
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
<id>urn:uuid:{id}</id>
<title>Green Button Usage Feed</title>
<generator>meterpulse</generator>
<updated>{made}</updated>
<link rel="self" href="{base}/Batch/Subscription/1"/>
"""


class GreenButton(Export):
    """See Export."""

    media_type, ending = "application/atom+xml", "xml"

    def __init__(self, channels: Mapping[int, Channel], made_ms: int):
        super().__init__(channels, made_ms)
        served: dict[str, set[str]] = {}
        for channel in channels.values():
            served.setdefault(_point(channel), set()).add(channel.utility)
        self._shared = {point for point, utilities in served.items() if len(utilities) > 1}
        self._made = datetime.fromtimestamp(made_ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def write(self, parts: Iterable[Readings]) -> Iterator[bytes]:
        yield _HEAD.format(
            id=uuid.uuid5(_SPACE, f"{self._made}{sorted(self.channels)}"), made=self._made, base=_BASE
        ).encode()
        yield "".join(self._resources()).encode()
        blocks = dict.fromkeys(self.channels, 0)
        for part in parts:
            for index, readings in by_channel(part):
                blocks[index] += 1
                yield self._block(index, blocks[index], readings).encode()
        yield b"</feed>\n"

    def _resources(self) -> Iterator[str]:
        """All that tells what the readings are."""
        year = datetime.fromtimestamp(self.made_ms // 1_000, UTC).year
        zones = {name: number for number, name in enumerate(sorted({c.time_zone for c in self.channels.values()}), 1)}
        for name, number in zones.items():
            clock = clock_of(name, year)
            yield self._entry(
                f"LocalTimeParameters/{number}",
                f"<LocalTimeParameters {_ESPI}><dstEndRule>{clock.ends}</dstEndRule><dstOffset>{clock.summer}</dstOffset>"
                f"<dstStartRule>{clock.begins}</dstStartRule><tzOffset>{clock.offset}</tzOffset></LocalTimeParameters>",
                title=name,
            )
        points: dict[str, list[int]] = {}
        for index, channel in self.channels.items():
            points.setdefault(self._place(channel), []).append(index)
        for place, indices in points.items():
            first = self.channels[indices[0]]
            links = [f"LocalTimeParameters/{zones[first.time_zone]}", f"{place}/MeterReading"]
            yield self._entry(
                place,
                f"<UsagePoint {_ESPI}><ServiceCategory><kind>{_SERVICES[first.utility]}</kind></ServiceCategory></UsagePoint>",
                up="RetailCustomer/1/UsagePoint",
                related=links,
                title=_point(first),
            )
            for index in indices:
                path = f"{place}/MeterReading/{index}"
                yield self._entry(
                    path,
                    f"<MeterReading {_ESPI}/>",
                    up=f"{place}/MeterReading",
                    related=[f"ReadingType/{index}", f"{path}/IntervalBlock"],
                    title=self.channels[index].id,
                )
        for index, channel in self.channels.items():
            yield self._entry(f"ReadingType/{index}", _reading_type(channel), up="ReadingType", title=channel.id)

    def _place(self, channel: Channel) -> str:
        """The path of its usage point, which is one of one utility in ESPI."""
        point = _point(channel)
        name = f"{point}:{channel.utility}" if point in self._shared else point
        return f"RetailCustomer/1/UsagePoint/{quote(name, safe='')}"

    def _block(self, index: int, number: int, readings: Readings) -> str:
        start = readings.start
        first, end = int(start[0]), int(start[-1]) + int(readings.seconds[-1]) * 1_000
        path = f"{self._place(self.channels[index])}/MeterReading/{index}/IntervalBlock/{number}"
        head = f"<interval><duration>{(end - first) // 1_000}</duration><start>{first // 1_000}</start></interval>"
        body = f"<IntervalBlock {_ESPI}>{head}{_readings(readings)}</IntervalBlock>"
        return self._entry(path, body, up=path.rpartition("/")[0], title="")

    def _entry(self, path: str, content: str, *, title: str, up: str = "", related: Iterable[str] = ()) -> str:
        links = [("self", path), *([("up", up)] if up else []), *(("related", other) for other in related)]
        told = "".join(f'<link rel="{rel}" href="{escape(f"{_BASE}/{href}")}"/>\n' for rel, href in links)
        return (
            f"<entry><id>urn:uuid:{uuid.uuid5(_SPACE, path)}</id>\n{told}<title>{escape(title)}</title>\n"
            f"<content>{content}</content>\n<published>{self._made}</published><updated>{self._made}</updated></entry>\n"
        )


_ESPI = 'xmlns="http://naesb.org/espi"'
_OURS = 'xmlns="urn:meterpulse:espi"'


def _readings(readings: Readings) -> str:
    """The IntervalReadings of a block."""
    start = readings.start
    told = [_quality(int(code)) for code in np.unique(readings.quality)]
    which = np.unique(readings.quality, return_inverse=True)[1].tolist()
    rows = zip(
        which, readings.seconds.tolist(), (start // 1_000).tolist(), readings.quantity.tolist(), readings.revision.tolist(),
        (start % 1_000).tolist(), strict=True,
    )  # fmt: skip
    return "".join(
        f"<IntervalReading>{_own(revision, ms) if revision or ms else ''}{told[quality]}<timePeriod><duration>{seconds}</duration>"
        f"<start>{at}</start></timePeriod><value>{value}</value></IntervalReading>\n"
        for quality, seconds, at, value, revision, ms in rows
    )


def _own(revision: int, ms: int) -> str:
    found = (f"<{name} {_OURS}>{value}</{name}>" for name, value in (("revision", revision), ("ms", ms)) if value)
    return f"<extension>{''.join(found)}</extension>"


def _quality(packed: int) -> str:
    if packed == RAW:
        return ""
    nem12 = f"<extension><nem12Quality {_OURS}>{text_of(packed)}</nem12Quality></extension>" if packed >> 16 else ""
    return f"<ReadingQuality>{nem12}<quality>{packed & 0xFF}</quality></ReadingQuality>"


def _reading_type(channel: Channel) -> str:
    dimension = unit_of(channel.unit).dimension
    uom, power, kind = _CUBIC_METRES if channel.unit == "m3" else _MEASURES[dimension]
    own = f"<channel {_OURS}>{escape(channel.id)}</channel><zone {_OURS}>{escape(channel.time_zone)}</zone>"
    return (
        f"<ReadingType {_ESPI}><extension>{own}</extension>"
        f"<accumulationBehaviour>{_ACCUMULATION[channel.kind]}</accumulationBehaviour>"
        f"<commodity>{_COMMODITIES[channel.utility]}</commodity><defaultQuality>{RAW}</defaultQuality>"
        f"<flowDirection>{19 if channel.direction == 'received' else 1}</flowDirection>"
        f"<intervalLength>{channel.interval_seconds}</intervalLength><kind>{kind}</kind>"
        f"<powerOfTenMultiplier>{power}</powerOfTenMultiplier><uom>{uom}</uom></ReadingType>"
    )


def _point(channel: Channel) -> str:
    return channel.usage_point or channel.id
