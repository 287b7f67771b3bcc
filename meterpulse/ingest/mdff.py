"""What NEM12 and NEM13 share (AEMO, Meter Data File Format): records, the clock, units, suffixes, quality.

Times are NEM time, UTC+10 all year: no day has 23 or 25 hours. The zone is therefore Australia/Brisbane, which has kept that
clock since 1992.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path

from meterpulse.ingest.contract import BodyError, RowError
from meterpulse.model.quality import of_nem12

ZONE = "Australia/Brisbane"
OFFSET_MS = 10 * 3_600_000
RECORD_BYTES_MAX = 256 * 1024  # a day of single minutes has 1,440 values
_BOM = b"\xef\xbb\xbf"
_EPOCH = datetime(1970, 1, 1)
_NMI = re.compile(r"[A-Za-z0-9._-]{1,32}")
_SUFFIX = re.compile(r"[A-Za-z0-9]{1,4}")
_FLAG = re.compile(r"([AEFNSV])(\d\d)?", re.ASCII)
_STAMP = re.compile(r"\d{12}(?:\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Measure:
    """What a unit of the file is: the channel's unit, its kind where it is not used up, and thousandths in one of it."""

    unit: str
    kind: str
    scale: Fraction


def _measures() -> dict[str, Measure]:
    known = {}
    for unit, kind in (("Wh", ""), ("varh", ""), ("VAh", ""), ("W", "gauge"), ("V", "gauge"), ("A", "gauge")):
        for prefix, factor in (("", 1), ("k", 10**3), ("M", 10**6)):
            shown = {"Wh": "kWh", "varh": "kvarh", "VAh": "kVAh", "W": "kW"}.get(unit, unit)
            known[(prefix + unit).lower()] = Measure(shown, kind, Fraction(1_000) * factor)
    return known


MEASURES = _measures()
RECEIVED = frozenset("ABCJKL")  # the suffixes of what goes into the network; D, E, F, P, Q, R are what comes out of it


@dataclass(frozen=True, slots=True)
class Record:
    """One line: its fields without blanks, its bytes, where it ends, and whether a line end was there."""

    fields: list[str]
    original: bytes
    end: int
    whole: bool

    @property
    def kind(self) -> str:
        """The record indicator."""
        return self.fields[0]

    def field(self, number: int) -> str:
        """The field, empty where the record is shorter."""
        return self.fields[number] if number < len(self.fields) else ""


def is_mdff(head: bytes, version: bytes) -> bool:
    """Whether a file begins with the header of this version."""
    first = head.removeprefix(_BOM).lstrip().partition(b"\n")[0].split(b",")
    return len(first) > 1 and first[0].strip() == b"100" and first[1].strip().upper() == version


def records(path: Path, version: str) -> Iterator[Record]:
    """The records of a file, blank lines left out; raises BodyError where it has no header of this version."""
    with open(path, "rb") as file:
        started = False
        while line := file.readline(RECORD_BYTES_MAX):
            whole = line.endswith(b"\n")
            long = len(line) == RECORD_BYTES_MAX and not whole
            while not whole and (more := file.readline(RECORD_BYTES_MAX)):
                whole = more.endswith(b"\n")
            text = line.removeprefix(_BOM) if not started else line
            if not text.strip():
                continue
            fields = [f.strip() for f in text.decode("latin-1").split(",")] if not long else ["too long"]
            if not started and (fields[0] != "100" or len(fields) < 2 or fields[1].upper() != version):
                raise BodyError(422, f"{path.name} lacks the header 100,{version}; it begins with {line[:40]!r}")
            started = True
            yield Record(fields, line.rstrip(b"\r\n"), file.tell(), whole)
        if not started:
            raise BodyError(422, f"{path.name} is empty; a file begins with the header 100,{version}")


def identity(nmi: str, suffix: str) -> str:
    """The channel's id; raises RowError."""
    if not _NMI.fullmatch(nmi) or not _SUFFIX.fullmatch(suffix):
        raise RowError(
            "missing_field", f"{nmi[:40]!r}, {suffix[:40]!r} is not a NMI and a suffix such as 4103035421, E1"
        )
    return f"{nmi}:{suffix}"


def measure_of(uom: str) -> Measure:
    """What a unit is; raises RowError."""
    known = MEASURES.get(uom.lower())
    if known is None:
        raise RowError(
            "bad_unit", f"unit {uom[:20]!r} is not taken; taken are kWh, kvarh, kVAh, kW, V, A and their multiples"
        )
    return known


def quality_of(method: str, reason: str) -> int:
    """Packed, of a quality method and a reason code; raises RowError. S, E and F need their method: a cut field has none."""
    match = _FLAG.fullmatch(method)
    if match is None or (match[1] in "SEF" and match[2] is None):
        raise RowError("bad_quality", f"{method[:20]!r} is not a quality method such as A, S14 or E52")
    if reason and not (reason.isascii() and reason.isdecimal() and int(reason) <= 255):
        raise RowError("bad_quality", f"{reason[:20]!r} is not a reason code")
    return of_nem12(match[1], int(match[2] or 0), int(reason) if reason else None)


def day_ms(text: str) -> int:
    """The first instant (UTC ms) of a day such as 20230301 in NEM time; raises RowError."""
    return stamp_ms(f"{text}0000") if len(text) == 8 else _no_time(text)


def stamp_ms(text: str) -> int:
    """The instant (UTC ms) of a time such as 20230301113000; raises RowError."""
    if not _STAMP.fullmatch(text):
        return _no_time(text)
    try:
        at = datetime.strptime(text.ljust(14, "0"), "%Y%m%d%H%M%S")
    except ValueError:
        return _no_time(text)
    ms = int((at - _EPOCH).total_seconds()) * 1_000 - OFFSET_MS
    return ms if ms >= 0 else _no_time(text)


def revision_of(updated: str) -> int:
    """Seconds since 1970 of UpdateDateTime, so that what was updated later replaces what came before; 0 without one."""
    return stamp_ms(updated) // 1_000 if updated else 0


def _no_time(text: str) -> int:
    raise RowError("bad_time", f"{text[:20]!r} is not a time such as 20230301 or 20230301113000 of 1970 or later")
