"""UCI "Individual household electric power consumption": one home in Sceaux, minute by minute, December 2006 to November 2010.

`Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;Sub_metering_1;Sub_metering_2;Sub_metering_3`

- Channels are `uci_household:<column>`: the two powers (kW and kvar), Voltage and Global_intensity as gauges, the three
  sub-meters as intervals of a minute in Wh. `uci_household:Global_active_energy` is the energy of the minute that the set's
  own description derives, Global_active_power * 1000 / 60 Wh, rounded half to even to a thousandth of a Wh: it adds up.
- The clock was never moved: the whole file has 2,075,259 rows, which is every minute between its first and its last. It
  began in winter, so its stamps are UTC+1 all year. A stamp is taken as the beginning of its minute.
- `?` (or nothing) is no value. A row of them is refused as `missing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError
from meterpulse.ingest.files import header_of
from meterpulse.ingest.streams import Stream
from meterpulse.ingest.tabular import Table, read
from meterpulse.model.channel import Channel

METER = "uci_household"
_HEADER = (
    "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
    "Sub_metering_1;Sub_metering_2;Sub_metering_3"
)
# What a column counts in, its kind, and thousandths of the base unit in one of them.
_STREAMS = (
    ("Global_active_power", 2, "kW", "gauge", Fraction(10**6)),
    ("Global_reactive_power", 3, "kvar", "gauge", Fraction(10**6)),
    ("Voltage", 4, "V", "gauge", Fraction(10**3)),
    ("Global_intensity", 5, "A", "gauge", Fraction(10**3)),
    ("Sub_metering_1", 6, "Wh", "interval", Fraction(10**3)),
    ("Sub_metering_2", 7, "Wh", "interval", Fraction(10**3)),
    ("Sub_metering_3", 8, "Wh", "interval", Fraction(10**3)),
    ("Global_active_energy", 2, "Wh", "interval", Fraction(10**6, 60)),
)


def _define(key: tuple[str, ...], k: int) -> Stream:
    name, _, unit, kind, factor = _STREAMS[k]
    channel = Channel(
        f"{METER}:{name}",
        "electricity",
        unit,
        usage_point=METER,
        meter=METER,
        kind=kind,
        interval_seconds=60,
        time_zone="Etc/GMT-1",
    )
    return Stream(channel, factor)


_TABLE = Table(
    "uci_household",
    columns=9,
    delimiter=";",
    stamp=(0, 1),
    pattern=("%d/%m/%Y", "%H:%M:%S"),
    values=tuple(column for _, column, *_ in _STREAMS),
    titles=tuple(name for name, *_ in _STREAMS),
    missing=("?",),
    clock="UTC+01:00",
    define=_define,
)


class UciHousehold(Format):
    """The household of UCI's data set 235."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By its header."""
        line = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
        return line.strip().decode("latin-1").lower() == _HEADER.lower()

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """Positions are bytes."""
        header, begin = header_of(path)
        if not self.fits(header, path):
            raise BodyError(422, f"{path.name} lacks the header {_HEADER}; it begins with {header[:60]!r}")
        yield from read(path, after, begin, _TABLE)
