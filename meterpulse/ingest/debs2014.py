"""The smart plugs of the DEBS 2014 Grand Challenge: `id,timestamp,value,property,plug_id,household_id,house_id`, no header.

- The same without its id and with blanks between the columns, as some copies have it, is read too.
- Channels are `<house>_<household>_<plug>:load` (property 1, a gauge in W) and `...:work` (property 0, a register in kWh
  that counts since the plug was started). A plug's number counts within its household, and that one's within its house.
- Timestamps are seconds since 1970. The houses are in Germany, and so are the channels' days.
- Exact duplicates, of which there are many, are passed on: (channel, start) counts once.
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

_NUMBER = rb"-?\d{1,12}(?:\.\d{1,9})?"
_COMMAS = re.compile(rb"\d{1,12},\d{9,10}," + _NUMBER + rb",[01],\d{1,10},\d{1,10},\d{1,10}[ \t]*\r?")
_BLANKS = re.compile(rb"\d{9,10} +" + _NUMBER + rb" +[01] +\d{1,10} +\d{1,10} +\d{1,10} *\r?")


def _define(key: tuple[str, ...], k: int) -> Stream:
    house, household, plug, kind = key
    if not (house.isdigit() and household.isdigit() and plug.isdigit() and kind in ("0", "1")):
        raise RowError("wrong_type", "house, household and plug take whole numbers, and property 0 (work) or 1 (load)")
    meter, point = f"{house}_{household}_{plug}", f"{house}_{household}"
    name, unit, of, factor = (
        ("load", "W", "gauge", Fraction(10**3)) if kind == "1" else ("work", "kWh", "register", Fraction(10**6))
    )
    channel = Channel(
        f"{meter}:{name}",
        "electricity",
        unit,
        usage_point=point,
        meter=meter,
        kind=of,
        interval_seconds=1,
        time_zone="Europe/Berlin",
    )
    return Stream(channel, factor)


def _table(first: int, delimiter: str) -> Table:
    return Table(
        "debs2014",
        columns=first + 6,
        delimiter=delimiter,
        stamp=(first,),
        pattern=("%s",),
        values=(first + 1,),
        keys=(first + 5, first + 4, first + 3, first + 2),
        titles=("value",),
        define=_define,
    )


_TABLES = {_COMMAS: _table(1, ","), _BLANKS: _table(0, " ")}


class Debs2014(Format):
    """Measurements of smart plugs."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By its first line: there is no header, so the numbers themselves must be such."""
        return _layout(head) is not None

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """Positions are bytes."""
        with open(path, "rb") as file:
            head = file.read(4_096)
        table = _layout(head)
        if table is None:
            raise BodyError(
                422,
                f"{path.name} does not begin with a row such as 1,1377986401,68.451,0,11,0,0; it begins with {head[:60]!r}",
            )
        yield from read(path, after, 0, table)


def _layout(head: bytes) -> Table | None:
    line = head.partition(b"\n")[0]
    return next((table for pattern, table in _TABLES.items() if pattern.fullmatch(line)), None)
