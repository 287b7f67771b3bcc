"""What the compiled scanners write: one entry per row, from the bytes of a body to the columns that are checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from meterpulse.ingest.checks import PARSED, REFUSED, Limits
from meterpulse.ingest.contract import Decoded, RowError
from meterpulse.ingest.layout import packed
from meterpulse.ingest.record import Record
from meterpulse.ingest.rows import Columns, finish, refuse_all_if_too_many
from meterpulse.model.channel import NOT_FOUND, ChannelTable
from meterpulse.model.quality import RAW
from meterpulse.model.quantity import UNITS

UNIT_OFFSETS, UNIT_NAMES = packed(list(UNITS))


@dataclass
class Scanned:
    """Room for `rows` rows of a padded body; `rows` is set to how many were found."""

    data: np.ndarray
    rows: int
    span: np.ndarray = field(init=False)  # int64[2, rows]: where the row's bytes begin and end
    code: np.ndarray = field(init=False)  # uint8: PARSED, or REFUSED for what is left to plain Python
    offsets: np.ndarray = field(init=False)  # int64[rows + 1] into `ids`
    ids: np.ndarray = field(init=False)  # uint8: the channels' ids, one behind the other

    def __post_init__(self) -> None:
        n = self.rows
        self.span, self.code, self.offsets = (
            np.empty((2, n), np.int64),
            np.empty(n, np.uint8),
            np.empty(n + 1, np.int64),
        )
        self.ids = np.empty(len(self.data), np.uint8)
        self.start, self.seconds, self.mantissa, self.revision = (np.empty(n, np.int64) for _ in range(4))
        self.exponent, self.unit = np.empty(n, np.int16), np.empty(n, np.uint8)

    @property
    def room(self) -> tuple[np.ndarray, ...]:
        """The arrays in the order in which the scanners take them."""
        values = (self.start, self.seconds, self.mantissa, self.exponent, self.unit, self.revision)
        return (self.span, self.code, self.offsets, self.ids, *values)

    def original(self, row: int) -> bytes:
        """The bytes of a row."""
        return self.data[self.span[0, row] : self.span[1, row]].tobytes()

    def decoded(self, parsed: Callable[[bytes], Record], table: ChannelTable, now_ms: int, media_type: str) -> Decoded:
        """Looks the channels up, reads what the scanner left to `parsed`, and checks."""
        n = self.rows
        channel = table.lookup(self.offsets[: n + 1], self.ids[: self.offsets[n]])
        values = (
            self.start[:n],
            self.seconds[:n],
            self.mantissa[:n],
            self.exponent[:n],
            self.unit[:n],
            self.revision[:n],
        )
        columns = Columns(self.code[:n], channel, *values)
        for row in np.flatnonzero(columns.code == REFUSED).tolist():
            try:
                record = parsed(self.original(row))
            except RowError as error:
                columns.refused[row] = (error.reason, error.detail)
                refuse_all_if_too_many(len(columns.refused), [error.reason])
            else:
                _place(columns, row, record, table)
        return finish(columns, Limits.of(table), now_ms, self.original, media_type)


def index_of(channel: str | int, table: ChannelTable) -> int:
    """The dense index of a text id or of a dense index, or NOT_FOUND."""
    if isinstance(channel, int):
        return channel if 0 <= channel < table.count else NOT_FOUND
    try:
        return table.lookup_one(channel)
    except UnicodeEncodeError:  # half of a surrogate pair: no id holds one
        return NOT_FOUND


def _place(columns: Columns, row: int, record: Record, table: ChannelTable) -> None:
    """Puts a record that Python read among the columns."""
    columns.code[row], columns.channel[row] = PARSED, index_of(record.channel, table)
    columns.start[row], columns.seconds[row], columns.revision[row] = record.start, record.seconds, record.revision
    columns.exponent[row], columns.unit[row] = record.exponent, record.unit
    if record.quality != RAW:
        if len(columns.quality) != len(columns.channel):
            columns.quality = np.full(len(columns.channel), RAW, np.int32)
        columns.quality[row] = record.quality
    if -(2**63) < record.mantissa < 2**63:
        columns.mantissa[row] = record.mantissa
    else:
        columns.mantissa[row], columns.exponent[row] = (1 if record.mantissa > 0 else -1), 1  # above 0: wide integers
        columns.wide[row] = record.mantissa, record.exponent
