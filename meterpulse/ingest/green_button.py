"""Green Button: usage as ESPI XML (NAESB REQ.21), an Atom feed or bare resources.

- The channel's id is `<usage point>:<reading type>`, the last parts of their links (`01:07`); where two customers of a file
  have usage points of one name, the customer goes before it (`9b6c7063/01:07`).
- Starts are instants, so days of 23 and 25 hours need no care; LocalTimeParameters give the channel its zone.
- uom and powerOfTenMultiplier are applied exactly: Wh, VAh, varh, J, W, V, A, m3, ft3, gallons, litres, therms, Btu.
  accumulationBehaviour makes registers (1 to 3), gauges (6, 12, and all of W, V, A) or intervals (the others);
  flowDirection 19 is received. Net flow below zero is refused by the checks of an interval channel.
- ReadingQuality is kept; a reading without one has the type's defaultQuality, or is valid, as the standard says. Several
  that differ are mixed. What meterpulse wrote also carries the channel's id and zone, NEM12's flag,
  method and reason, and the revision.
- `updated` of a block's entry is the revision, so that a later issue of a block replaces an earlier one.
- Cost, time-of-use codes, summaries and customer data are not readings and are not kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from xml.sax.saxutils import escape

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError, RowError
from meterpulse.ingest.espi import GENERATOR, Catalogue, Resource, Stream, meter_reading_of, quality_code
from meterpulse.ingest.gathered import BATCH_ROWS, Gathered
from meterpulse.ingest.xml_stream import parse
from meterpulse.model.quality import Quality, packed_of

MEDIA_TYPE = "application/atom+xml"
NAMESPACE = b"http://naesb.org/espi"
_SECOND_MAX = 7_289_654_400  # 2201


class GreenButton(Format):
    """Green Button files; positions count interval readings."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By ESPI's namespace in XML."""
        return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<" and NAMESPACE in head

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """See `Format.read`. The file is read twice: links and types first, they may stand behind the readings."""
        index = _Index()
        for _ in parse(path, index):
            pass
        if not index.places and not index.catalogue.usage_points and not index.catalogue.reading_types:
            raise BodyError(422, f"{path.name} holds no usage: no UsagePoint, no ReadingType, no IntervalBlock")
        reader = _Reader(index, after)
        for _ in parse(path, reader):
            if reader.rows.rows >= BATCH_ROWS:
                yield reader.rows.batch(reader.position)
        if reader.rows:
            yield reader.rows.batch(reader.position)


class _Index:
    """The catalogue, and of every block where it belongs and when it was issued."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.places: list[tuple[str, int]] = []  # a block's path of its meter reading, meter readings before it
        self.place = array("I")  # of each block, into `places`
        self.updated = array("q")
        self._known: dict[tuple[str, int], int] = {}
        self._entry = Resource()
        self._blocks = 0  # of this entry
        self._inside: Resource | None = None  # of the resource that is being read; a reading type may stand in another
        self._inside_name = ""
        self._depth_in_block = 0
        self._when = ""

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """See `Listener`."""
        if name == "IntervalBlock":
            self._depth_in_block += 1
        elif self._depth_in_block:
            return
        elif name == "entry":
            self._entry, self._when = Resource(), ""
        elif name == "link":
            self._entry.links.append((attributes.get("rel", ""), attributes.get("href", "")))
        elif name in _LISTS and self._inside is None:
            self._inside, self._inside_name = Resource(self._entry.links, self._entry.entry_id), name
            getattr(self.catalogue, _LISTS[name]).append(self._inside)

    def end(self, name: str, text: str) -> None:
        """See `Listener`."""
        if name == "IntervalBlock":
            self._depth_in_block -= 1
            self._blocks += 1
        elif self._depth_in_block:
            return
        elif self._inside is not None:
            if text:
                self._inside.leaves.setdefault(name, text)
            if name == self._inside_name:
                self._inside = None
        elif name == "entry" or name == "feed":
            self._close()
        elif name == "id":
            self._entry.entry_id = text
        elif name == "updated":
            self._when = text
        elif name == "generator":
            self.catalogue.generator = text

    def close(self) -> None:
        """The end of the document: resources that stand in no entry."""
        self._close()

    def _close(self) -> None:
        if self._blocks:
            key = meter_reading_of(self._entry), len(self.catalogue.meter_readings)
            number = self._known.get(key)
            if number is None:
                number = self._known[key] = len(self.places)
                self.places.append(key)
            self.place.extend([number] * self._blocks)
            self.updated.extend([_seconds(self._when)] * self._blocks)
        self._blocks = 0


_LISTS = {
    "UsagePoint": "usage_points",
    "MeterReading": "meter_readings",
    "ReadingType": "reading_types",
    "LocalTimeParameters": "clocks",
}


class _Reader:
    """The second reading: every interval reading into `rows`."""

    def __init__(self, index: _Index, after: int):
        index.close()
        self.rows = Gathered(MEDIA_TYPE)
        self.position = 0
        self._index, self._after = index, after
        self._ours = index.catalogue.generator == GENERATOR
        self._streams: dict[int, tuple[Stream, int] | RowError] = {}
        self._block = -1
        self._next = 0  # where a reading without a time begins, ms
        self._path: list[str] = []
        self._reading: dict[str, str] | None = None
        self._qualities: list[int] = []
        self._wrong: RowError | None = None

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        """See `Listener`."""
        self._path.append(name)
        if name == "IntervalBlock":
            self._block += 1
        elif name == "IntervalReading":
            self._reading, self._qualities, self._wrong = {}, [], None

    def end(self, name: str, text: str) -> None:
        """See `Listener`."""
        self._path.pop()
        reading = self._reading
        if name == "IntervalReading":
            self.position += 1
            if self.position > self._after and reading is not None:
                self._take(reading)
            self._reading = None
        elif reading is not None:
            if name == "quality" and self._path[-1:] == ["ReadingQuality"]:
                self._quality(text, reading.pop("nem12Quality", ""))
            elif name in _LEAVES and text:
                if reading.setdefault(name, text) != text:
                    self._wrong = RowError("bad_csv", f"{name} stands twice in a reading")
        elif name == "start" and self._path[-2:] == ["IntervalBlock", "interval"]:
            self._next = int(text) * 1_000 if text.isascii() and text.isdecimal() and len(text) < 11 else -1

    def _quality(self, text: str, nem12: str) -> None:
        try:
            code = quality_code(text)
            self._qualities.append(packed_of(nem12) if self._ours and nem12 else code)
        except (RowError, ValueError) as error:
            self._wrong = error if isinstance(error, RowError) else RowError("bad_quality", str(error))

    def _take(self, reading: dict[str, str]) -> None:
        original = _shown(reading)
        try:
            stream, number = self._stream(reading.get("duration", ""))
            if self._wrong is not None:
                raise self._wrong
            start, seconds = self._when(reading, stream)
            if "value" not in reading:
                raise RowError("missing", "the reading has no value")
            qualities = set(self._qualities) or {stream.quality}
            quality = qualities.pop() if len(qualities) == 1 else int(Quality.MIXED)
            revision = self._revision(reading)
        except RowError as error:
            self.rows.refuse(error.reason, error.detail, original)
            return
        self.rows.add(number, [start], seconds, [reading["value"]], stream.scale, original, revision, quality)

    def _stream(self, duration: str) -> tuple[Stream, int]:
        index = self._index
        place = index.place[self._block] if 0 <= self._block < len(index.place) else -1
        known = self._streams.get(place)
        if known is None:
            try:
                stream = index.catalogue.stream(*(index.places[place] if place >= 0 else ("", 0)), duration)
                known = stream, self.rows.channel(stream.channel)
            except RowError as error:
                known = error
            self._streams[place] = known
        if isinstance(known, RowError):
            raise known
        return known

    def _when(self, reading: dict[str, str], stream: Stream) -> tuple[int, int]:
        """(start ms, seconds); a reading without a time follows the one before it."""
        start, duration = reading.get("start", ""), reading.get("duration", "")
        if not start:
            if self._next < 0 or not stream.seconds:
                raise RowError("bad_time", "the reading has no timePeriod, and its block or type does not tell it")
            at, seconds = self._next, stream.seconds
        else:
            if not (start.isascii() and start.isdecimal() and len(start) < 11 and int(start) < _SECOND_MAX):
                raise RowError("bad_time", f"start {start[:20]!r} is not seconds since 1970")
            at = int(start) * 1_000
            if stream.channel.kind != "interval" and duration in ("", "0"):
                seconds = max(stream.seconds, 1)
            elif not duration and stream.seconds:
                seconds = stream.seconds
            elif duration.isascii() and duration.isdecimal() and len(duration) < 9 and 1 <= int(duration) <= 31_622_400:
                seconds = int(duration)
            else:
                raise RowError("bad_seconds", f"duration {duration[:20]!r} is not 1 to 31622400 seconds")
        if self._ours and (ms := reading.get("ms", "")):
            if not (ms.isascii() and ms.isdecimal() and len(ms) < 4):
                raise RowError("bad_time", f"{ms[:9]!r} is not a count of milliseconds")
            at += int(ms)
        self._next = at + seconds * 1_000
        return at, seconds

    def _revision(self, reading: dict[str, str]) -> int:
        if not self._ours:
            return self._index.updated[self._block] if 0 <= self._block < len(self._index.updated) else 0
        text = reading.get("revision", "0")
        if not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise RowError("bad_revision", f"{text[:20]!r} is not a revision")
        return int(text)


_LEAVES = {"start", "duration", "value", "nem12Quality", "revision", "ms"}


def _shown(reading: dict[str, str]) -> bytes:
    """A reading as it is kept where it is refused: its leaves as XML again."""
    order = ("duration", "start", "value", "nem12Quality", "revision", "ms")
    leaves = "".join(f"<{name}>{escape(reading[name])}</{name}>" for name in order if name in reading)
    return f"<IntervalReading>{leaves}</IntervalReading>".encode()


def _seconds(updated: str) -> int:
    """Seconds since 1970 of an Atom time; 0 for none, and for one without an offset (a day)."""
    try:
        at = datetime.fromisoformat(updated)
    except ValueError:
        return 0
    return max(0, int(at.timestamp())) if at.tzinfo is not None else 0
