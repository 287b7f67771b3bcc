"""UCI "ElectricityLoadDiagrams20112014": 370 Portuguese clients in columns, quarter by quarter.

`"";"MT_001";"MT_002";...` then `"2011-01-01 00:15:00";3,8071;22,8;...`

- The channel's id is the column, `MT_001`. A value is the mean power of a quarter hour in kW with a decimal comma; the
  channel holds its energy in kWh: a quarter of it, rounded half to even to a thousandth of a Wh.
- Stamps are Portuguese local time and name the end of the quarter: 00:15 is [00:00, 00:15).
- Every day has 96 rows. In March the four quarters of the hour that the clock skips are zeros: they are padding and not
  readings. A value there that is not zero is refused. In October the four quarters from 01:00 to 02:00 hold both passes of
  that hour: each stands in the first pass, with the quality `mixed`. Days are exact; those two hours are only as a sum.
- Clients that came later have zeros before. The file does not say since when, so they stay.
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

ZONE = "Europe/Lisbon"
_QUARTER = Fraction(10**6 * 900, 3_600)  # mWh of one kW in 15 minutes


class UciLd2011(Format):
    """The clients of UCI's data set 321."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By its header: nothing, then MT_ and a number in every column."""
        return bool(_clients(head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]))

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """Positions are bytes."""
        header, begin = header_of(path)
        clients = _clients(header)
        if not clients:
            raise BodyError(422, f'{path.name} lacks the header "";"MT_001";...; it begins with {header[:60]!r}')

        def define(key: tuple[str, ...], k: int) -> Stream:
            return Stream(
                Channel(
                    clients[k],
                    "electricity",
                    "kWh",
                    usage_point=clients[k],
                    meter=clients[k],
                    interval_seconds=900,
                    time_zone=ZONE,
                ),
                _QUARTER,
            )

        table = Table(
            "uci_ld2011",
            columns=len(clients) + 1,
            delimiter=";",
            point=",",
            stamp=(0,),
            pattern=("%Y-%m-%d %H:%M:%S",),
            values=tuple(range(1, len(clients) + 1)),
            titles=tuple(clients),
            clock=ZONE,
            stamps="end",
            repeated="merged",
            skipped="zeros",
            define=define,
        )
        yield from read(path, after, begin, table)


def _clients(header: bytes) -> list[str]:
    first, *names = [name.strip().strip('"') for name in header.decode("latin-1").strip().split(";")]
    good = first == "" and names and all(name.startswith("MT_") and name[3:].isdigit() for name in names)
    return names if good and len(set(names)) == len(names) else []
