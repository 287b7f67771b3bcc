"""NEM12: interval data of the Australian market (AEMO, Meter Data File Format NEM12 & NEM13).

- The channel's id is `<NMI>:<suffix>` (4103035421:E1). A, B, C, J, K, L go into the network (direction received); the
  others are delivered. The usage point is the NMI, the meter its serial number.
- A day is one of NEM time, UTC+10 without daylight saving; values follow each other from its midnight, each naming the start
  of its interval of 1 to 60 minutes.
- Quality method and reason code are kept with each value, from the 300 record or, where that says V, from the 400 records.
  Intervals of quality N have no value and are refused as `missing`. Reason descriptions are not kept.
- UpdateDateTime becomes the revision: the later update of an interval replaces the earlier one, in whatever order files come.
- 500 records (orders between businesses) are counted and passed over.
- A file that was cut ends without its 900 record: what is whole counts, the last day is refused as `truncated`.
- Quantities are exact; units are taken in any case (KWH, kvarh), M and k prefixes are scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import RowError
from meterpulse.ingest.gathered import BATCH_ROWS, Gathered
from meterpulse.ingest.mdff import (
    RECEIVED,
    ZONE,
    Measure,
    Record,
    day_ms,
    identity,
    is_mdff,
    measure_of,
    quality_of,
    records,
    revision_of,
)
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quality import FLAGS

MEDIA_TYPE = "text/x-nem12"
_MINUTES_A_DAY = 1_440
_MIXED, _NO_VALUE = FLAGS.index("V"), FLAGS.index("N")


class Nem12(Format):
    """NEM12 files; positions are bytes."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By its header 100,NEM12."""
        return is_mdff(head, b"NEM12")

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """See `Format.read`. Positions are those behind the last record of a day."""
        reader = _Reader(after)
        ended, position = True, 0
        for record in records(path, "NEM12"):
            if record.kind != "400":
                reader.finish()
                if reader.rows.rows >= BATCH_ROWS:
                    yield reader.rows.batch(position)
            ended, position = reader.take(record), record.end
        reader.close(ended)
        if reader.rows:
            yield reader.rows.batch(path.stat().st_size)


@dataclass(slots=True)
class _Stream:
    """A 200 record: what the days behind it are of."""

    channel: int
    measure: Measure
    minutes: int


@dataclass(slots=True)
class _Day:
    """A 300 record and the 400 records behind it."""

    stream: _Stream
    start: int
    values: list[str]
    quality: list[int]  # packed, per interval; 0 where it is not told yet
    revision: int
    record: Record
    told: list[bytes] = field(default_factory=list)

    @property
    def original(self) -> bytes:
        return b"\n".join([self.record.original, *self.told])


class _Reader:
    def __init__(self, after: int):
        self.rows = Gathered(MEDIA_TYPE)
        self._day: _Day | None = None
        self._after = after
        self._stream: _Stream | None = None
        self._why = "the file has no 200 record before it"

    def take(self, record: Record) -> bool:
        """One record; whether it is the end of the file's data."""
        if record.kind == "400" and record.whole:
            self._tell(record)
            return False
        handle = {"100": self._ignore, "200": self._begin, "300": self._open, "500": self._ignore, "900": self._ignore}
        try:
            if not record.whole and record.kind != "900":
                raise RowError("truncated", "the last record is not whole; ask for the file again")
            if record.kind not in handle:
                raise RowError(
                    "bad_csv", f"{record.kind[:20]!r} is not a NEM12 record; they are 100, 200, 300, 400, 500, 900"
                )
            handle[record.kind](record)
        except RowError as error:
            if record.end > self._after:
                self.rows.refuse(error.reason, error.detail, record.original)
        return record.kind == "900"

    def close(self, ended: bool) -> None:
        """The end of the file."""
        self.finish()
        if not ended:
            self.rows.refuse("truncated", "the file ends without its 900 record: it may be cut", b"")

    def _ignore(self, record: Record) -> None:
        if record.kind == "500" and record.end > self._after:
            self.rows.ignore("500 B2B details")

    def _begin(self, record: Record) -> None:
        self._stream = None
        try:
            nmi, suffix = record.field(1), record.field(4)
            id, measure, minutes = identity(nmi, suffix), measure_of(record.field(7)), record.field(8)
            if not (minutes.isascii() and minutes.isdecimal() and 1 <= int(minutes) <= 60 and 60 % int(minutes) == 0):
                raise RowError("bad_seconds", f"interval length {minutes[:20]!r} is not 1, 5, 15 or 30 minutes")
            channel = Channel(
                id,
                "electricity",
                measure.unit,
                usage_point=nmi,
                meter=record.field(6)[:100] or None,
                direction="received" if suffix[0].upper() in RECEIVED else "delivered",
                kind=measure.kind or "interval",
                interval_seconds=int(minutes) * 60,
                time_zone=ZONE,
            )
            self._stream = _Stream(self.rows.channel(channel), measure, int(minutes))
        except ChannelError as error:
            self._why = str(error)
            raise RowError("missing_field", str(error)) from None
        except RowError as error:
            self._why = error.detail
            raise

    def _open(self, record: Record) -> None:
        if record.end <= self._after:
            return
        stream = self._stream
        if stream is None:
            raise RowError("bad_csv", f"this day belongs to no stream: {self._why}")
        count = _MINUTES_A_DAY // stream.minutes
        given = sum(1 for text in record.fields[2:] if text and (text[0].isdecimal() or text[0] in ".-+"))
        if len(record.fields) < count + 3 or not record.fields[count + 2][:1].isalpha():
            raise RowError(
                "bad_csv",
                f"a day of {stream.minutes} minutes has {count} values and then its quality; this one has {given}",
            )
        quality = quality_of(record.fields[count + 2], record.field(count + 3))
        self._day = _Day(
            stream,
            day_ms(record.field(1)),
            record.fields[2 : count + 2],
            [0 if quality >> 16 & 7 == _MIXED else quality] * count,
            revision_of(record.field(count + 5)),
            record,
        )

    def _tell(self, record: Record) -> None:
        """A 400 record: the quality of some intervals of the day before it."""
        day = self._day
        if day is None:
            return  # of a day that was refused
        day.told.append(record.original)
        first, last = record.field(1), record.field(2)
        try:
            if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= len(day.values)):
                raise RowError("bad_csv", f"intervals {first[:9]!r} to {last[:9]!r} are not of 1 to {len(day.values)}")
            quality = quality_of(record.field(3), record.field(4))
        except RowError as error:
            self.rows.refuse(error.reason, error.detail, day.original)
            self._day = None
            return
        day.quality[int(first) - 1 : int(last)] = [quality] * (int(last) - int(first) + 1)

    def finish(self) -> None:
        """Every interval of the day goes where its quality says."""
        day, self._day = self._day, None
        if day is None:
            return
        flags = [quality >> 16 & 7 for quality in day.quality]
        kept = [i for i, flag in enumerate(flags) if flag not in (0, _NO_VALUE)]
        for what, reason, detail in (
            (_NO_VALUE, "missing", "quality N: they have no value"),
            (0, "bad_quality", "no 400 record tells their quality"),
        ):
            for first, last in _ranges(flags, what):
                self.rows.refuse(reason, f"{day.record.field(1)}: intervals {first} to {last}: {detail}", day.original)
        if kept:
            ms = day.stream.minutes * 60_000
            self.rows.add(
                day.stream.channel,
                [day.start + i * ms for i in kept],
                day.stream.minutes * 60,
                [day.values[i] for i in kept],
                day.stream.measure.scale,
                day.original,
                day.revision,
                [day.quality[i] for i in kept],
            )


def _ranges(flags: list[int], wanted: int) -> Iterator[tuple[int, int]]:
    """First and last, counted from 1, of each run of the wanted flag."""
    begin = None
    for i, flag in enumerate([*flags, -1]):
        if flag == wanted and begin is None:
            begin = i
        elif flag != wanted and begin is not None:
            yield begin + 1, i
            begin = None
