"""AMPds and AMPds2, the Almanac of Minutely Power: one house in Burnaby, two years of minutes, a file per meter.

- Water and gas: `unix_ts,counter,avg_rate,inst_rate`. The counter, litres since it was reset, becomes a register in L; the
  two rates follow from it and are left out. The file's name tells the utility and the meter: `Water_WHW.csv`,
  `NaturalGas_FRG.csv`, or WHW, HTW, WHG, FRG alone. The channel's id is the meter's.
- Electricity: `unix_ts,V,I,f,DPF,APF,P,Pt,Q,Qt,S,St`. Channels are `<meter>:<column>`: V, I, P (W), Q (var), S (VA) as
  gauges, Pt (Wh), Qt (varh), St (VAh) as registers. P is active and Q reactive power. Frequency and power factors, which
  no unit here measures, are left out.
- Electricity, all meters of one measure: `unix_ts,WHE,RSE,...` in `Electricity_P.csv`: the same channels from the other side.
- Stamps are seconds since 1970; the channels' days are Vancouver's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError
from meterpulse.ingest.files import header_of
from meterpulse.ingest.streams import Stream
from meterpulse.ingest.tabular import Table, read
from meterpulse.model.channel import Channel

ZONE = "America/Vancouver"
_STAMPS = ("unix_ts", "timestamp", "ts")
_COUNTER = ("counter", "avg_rate", "inst_rate")
# Measures of electricity: unit, kind, thousandths of the base unit in one.
_MEASURES = {
    "V": ("V", "gauge"),
    "I": ("A", "gauge"),
    "P": ("W", "gauge"),
    "Q": ("var", "gauge"),
    "S": ("VA", "gauge"),
    "Pt": ("Wh", "register"),
    "Qt": ("varh", "register"),
    "St": ("VAh", "register"),
}
_LEFT_OUT = ("f", "DPF", "APF")
_THOUSAND = Fraction(10**3)
# Water_WHW.csv, NaturalGas_FRG-2.csv (cut into parts), Electricity_P.csv, WHW.csv
_FILE = re.compile(r"(?:(Water|NaturalGas|Electricity)_)?([A-Za-z0-9]+)(?:[-_]\d+)?", re.IGNORECASE)
_METER = re.compile(r"[A-Z][A-Z0-9]{2}")
_UTILITY = {"water": "water", "naturalgas": "gas"}
_UTILITY_OF_METER = {"WHW": "water", "HTW": "water", "WHG": "gas", "FRG": "gas"}


class Ampds(Format):
    """A meter's minutes."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By its header."""
        return _kind(_names(head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0])) is not None

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """Positions are bytes."""
        header, begin = header_of(path)
        names = _names(header)
        kind = _kind(names)
        if kind is None:
            raise BodyError(422, f"{path.name} lacks the header unix_ts,counter,...; it begins with {header[:60]!r}")
        streams = _STREAMS[kind](names, path)
        columns = sorted(streams)
        table = Table(
            "ampds",
            columns=len(names),
            stamp=(0,),
            pattern=("%s",),
            values=tuple(columns),
            titles=tuple(names[c] for c in columns),
            define=lambda key, k: streams[columns[k]],
        )
        yield from read(path, after, begin, table)


def _names(header: bytes) -> list[str]:
    return [name.strip().replace(" ", "_") for name in header.decode("latin-1").strip().split(",")]


def _kind(names: list[str]) -> str | None:
    if names[0].lower() not in _STAMPS or len(set(names)) < len(names):
        return None
    rest = names[1:]
    if tuple(name.lower() for name in rest) == _COUNTER:
        return "counter"
    if {"V", "P", "Pt"} <= set(rest) and set(rest) <= {*_MEASURES, *_LEFT_OUT}:
        return "meter"
    return "measure" if rest and all(_METER.fullmatch(name) for name in rest) else None


def _file(path: Path) -> tuple[str, str]:
    """(water, naturalgas, electricity or nothing; the meter or the measure) of a file's name."""
    match = _FILE.fullmatch(path.name.partition(".")[0])
    return ((match[1] or "").lower(), match[2]) if match else ("", path.name.partition(".")[0])


def _counter(names: list[str], path: Path) -> dict[int, Stream]:
    said, meter = _file(path)
    utility = _UTILITY.get(said) or _UTILITY_OF_METER.get(meter.upper())
    if utility is None:
        raise BodyError(
            422,
            f"{path.name} holds a counter of water or of gas; the set tells which by the file's name, "
            "such as Water_WHW.csv or NaturalGas_FRG.csv",
        )
    return {1: Stream(_channel(meter, meter, utility, "L", "register"), _THOUSAND)}


def _meter(names: list[str], path: Path) -> dict[int, Stream]:
    meter = _file(path)[1]
    return {
        column: Stream(_channel(f"{meter}:{name}", meter, "electricity", *_MEASURES[name]), _THOUSAND)
        for column, name in enumerate(names)
        if name in _MEASURES
    }


def _measure(names: list[str], path: Path) -> dict[int, Stream]:
    measure = _file(path)[1]
    if measure in _LEFT_OUT:
        raise BodyError(422, f"{path.name}: no unit measures {measure}; frequency and power factors are not taken in")
    if measure not in _MEASURES:
        raise BodyError(
            422,
            f"{path.name} has a column for each meter; the set tells what of by the file's name, such as Electricity_P.csv",
        )
    return {
        column: Stream(_channel(f"{meter}:{measure}", meter, "electricity", *_MEASURES[measure]), _THOUSAND)
        for column, meter in enumerate(names)
        if column
    }


def _channel(id: str, meter: str, utility: str, unit: str, kind: str) -> Channel:
    return Channel(id, utility, unit, usage_point=meter, meter=meter, kind=kind, interval_seconds=60, time_zone=ZONE)


_STREAMS = {"counter": _counter, "meter": _meter, "measure": _measure}
