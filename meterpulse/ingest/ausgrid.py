"""Ausgrid's solar homes: 300 customers around Sydney, a row for each customer, category and day, 48 half hours in columns.

A title line, then `Customer,Generator Capacity,Postcode,Consumption Category,date,0:30,1:00,...,23:30,0:00,Row Quality`

- Channels are `<customer>:GC` (general consumption), `<customer>:CL` (controlled load) and `<customer>:GG` (gross
  generation, which the network receives), in kWh, half-hourly. The postcode becomes the channel's area.
- A column names the end of its half hour, so 0:30 is [0:00, 0:30) and the last one, 0:00, is [23:30, 24:00).
- Every day has 48 columns, also where Sydney moves the clock, so stamps are taken as the standard time that the market's
  meters keep, UTC+10 all year, and days are too.
- `Row Quality` NA says that some or all of the row are estimates: its readings are `mixed`. Dates are read as 1/07/2012 or
  1-Jul-12, as the years have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError, RowError
from meterpulse.ingest.streams import Stream
from meterpulse.ingest.tabular import Table, read
from meterpulse.model.channel import Channel
from meterpulse.model.quality import RAW, Quality

_FIRST = ["customer", "generator capacity", "postcode", "consumption category", "date"]
_DIRECTION = {"GC": "delivered", "CL": "delivered", "GG": "received"}
_HALF_HOUR_MS = 1_800_000
_TIME = re.compile(r"(\d\d?):([03]0)")
_NAMED_MONTH = re.compile(rb"\d\d?-[A-Za-z]{3}-\d\d")


def _define(key: tuple[str, ...], k: int) -> Stream:
    customer, category, postcode = key
    if category not in _DIRECTION or not customer:
        raise RowError("wrong_type", f"the category is {category[:20]!r}; it takes GC, CL or GG")
    channel = Channel(
        f"{customer}:{category}",
        "electricity",
        "kWh",
        usage_point=customer,
        meter=customer,
        direction=_DIRECTION[category],
        interval_seconds=1_800,
        area=postcode or None,
        time_zone="Etc/GMT-10",
    )
    return Stream(channel, Fraction(10**6))


def _quality(word: str) -> int:
    if word.upper() in ("", "NA"):
        return int(Quality.MIXED) if word else RAW
    raise ValueError(f"Row Quality is {word[:20]!r}; it takes nothing, or NA")


class Ausgrid(Format):
    """The solar homes."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By its header, which stands in the first or second line."""
        return _header(head) is not None

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """Positions are bytes."""
        with open(path, "rb") as file:
            head = file.read(16_384)
        found = _header(head)
        if found is None:
            raise BodyError(
                422, f"{path.name} lacks the header Customer,Generator Capacity,...; it begins with {head[:60]!r}"
            )
        names, begin = found
        ends = {c: _end_ms(name) for c, name in enumerate(names) if _TIME.fullmatch(name)}
        named = _NAMED_MONTH.search(head[begin:].partition(b"\n")[0])
        table = Table(
            "ausgrid",
            columns=len(names),
            keys=(0, 3, 2),
            stamp=(4,),
            pattern=("%d-%b-%y" if named else "%d/%m/%Y",),
            values=tuple(ends),
            offsets_ms=tuple(end - _HALF_HOUR_MS for end in ends.values()),
            titles=tuple(names[c] for c in ends),
            clock="UTC+10:00",
            quality=names.index("row quality") if "row quality" in names else None,
            quality_of=_quality,
            define=_define,
        )
        yield from read(path, after, begin, table)


def _header(head: bytes) -> tuple[list[str], int] | None:
    """The names of the columns in small letters, and where the rows begin."""
    begin = 0
    for line in head.split(b"\n")[:2]:
        begin += len(line) + 1
        names = [name.strip().strip('"').lower() for name in line.decode("latin-1").removeprefix("ï»¿").split(",")]
        if names[:5] == _FIRST and sum(bool(_TIME.fullmatch(name)) for name in names) == 48:
            return names, begin
    return None


def _end_ms(name: str) -> int:
    hours, minutes = map(int, name.split(":"))
    return ((hours * 60 + minutes) or 24 * 60) * 60_000
