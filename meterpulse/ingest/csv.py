"""Readings as CSV (RFC 4180): a header that names at least channel, start and quantity, in any order, then one reading a line.

`seconds` (default: the channel's interval), `unit` (default: the channel's) and `revision` (default: 0) may be left out or
left empty; other columns are ignored. A byte order mark and CRLF are taken. A refused row is kept as its line.
"""

from __future__ import annotations

import csv
import re

import numpy as np

from meterpulse.ingest import csv_scan
from meterpulse.ingest.checks import REFUSED, Columns, Limits, finish
from meterpulse.ingest.contract import BodyError, Decoded, RowError
from meterpulse.ingest.json import _UNIT_NAMES, _UNIT_OFFSETS, place
from meterpulse.ingest.layout import CANONICAL, CHANNEL, END, NO_ROLE, QUANTITY, REVISION, SECONDS, START, UNIT, Layout
from meterpulse.ingest.record import NumberText, Record, read
from meterpulse.ingest.vector import padded
from meterpulse.model.channel import ChannelTable

CSV = "text/csv"
HEADER_MAX = 64 * 1024
_BOM = b"\xef\xbb\xbf"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def decode_csv(body: bytes, table: ChannelTable, now_ms: int, layout: Layout = CANONICAL) -> Decoded:
    """All rows behind the header; raises BodyError 400 without a readable header, 422 where it lacks a column."""
    body = bytes(body).removeprefix(_BOM)
    end = body.find(b"\n", 0, HEADER_MAX)
    header = body[:HEADER_MAX] if end < 0 else body[:end]
    roles = header_roles(header, layout)
    return decode_rows(body, len(header) + 1, roles, table, now_ms, layout)


def header_roles(header: bytes, layout: Layout = CANONICAL) -> np.ndarray:
    """The role of each column (uint8); raises BodyError."""
    try:
        names = [name.strip() for name in fields_of(header.removesuffix(b"\r"))]
    except RowError as error:
        raise BodyError(400, f"the header cannot be read: {error.detail}") from None
    if not any(names):
        raise BodyError(
            400, "the body is empty; the first line names the columns, such as channel,start,seconds,quantity"
        )
    known = {name.lower(): role for name, role in layout.roles.items()}
    roles = [known.get(name.lower(), NO_ROLE) for name in names]
    for name, role in layout.roles.items():
        if roles.count(role) > 1:
            raise BodyError(400, f"the header names {name} twice")
        if role in (CHANNEL, START, QUANTITY) and role not in roles:
            raise BodyError(
                422,
                f"the header lacks the column {name}; it takes {', '.join(layout.roles)} in any order, not {header[:60]!r}",
            )
    return np.array(roles, np.uint8)


def decode_rows(
    body: bytes, at: int, roles: np.ndarray, table: ChannelTable, now_ms: int, layout: Layout = CANONICAL
) -> Decoded:
    """The rows of `body` from `at` on, whose columns have these roles."""
    data = padded(body)
    size, rows_max = len(body), body.count(b"\n", at) + 1
    span, code, offsets = (
        np.empty((2, rows_max), np.int64),
        np.empty(rows_max, np.uint8),
        np.empty(rows_max + 1, np.int64),
    )
    start, seconds, mantissa, revision = (np.empty(rows_max, np.int64) for _ in range(4))
    exponent, unit, ids = np.empty(rows_max, np.int16), np.empty(rows_max, np.uint8), np.empty(size, np.uint8)
    n = csv_scan.scan(
        data, at, size, roles, _UNIT_OFFSETS, _UNIT_NAMES, layout.unit,
        span, code, offsets, ids, start, seconds, mantissa, exponent, unit, revision,
    )  # fmt: skip
    channel = table.lookup(offsets[: n + 1], ids[: offsets[n]])
    columns = Columns(code[:n], channel, start[:n], seconds[:n], mantissa[:n], exponent[:n], unit[:n], revision[:n], {})
    wide: dict[int, tuple[int, int]] = {}

    def original(row: int) -> bytes:
        return data[span[0, row] : span[1, row]].tobytes()

    for row in np.flatnonzero(columns.code == REFUSED).tolist():
        try:
            record = parsed(original(row), roles, layout)
        except RowError as error:
            columns.refused[row] = (error.reason, error.detail)
        else:
            place(columns, row, record, table, wide)
    return finish(columns, Limits.of(table), now_ms, original, CSV, wide=wide)


def parsed(row: bytes, roles: np.ndarray, layout: Layout = CANONICAL) -> Record:
    """One row, strictly; raises RowError."""
    fields = fields_of(row)
    if len(fields) != len(roles):
        raise RowError("bad_csv", f"{len(fields)} fields where the header has {len(roles)}")
    by_role = {int(role): field for role, field in zip(roles, fields, strict=True) if role != NO_ROLE}

    def text(role: int) -> str | None:
        return by_role.get(role, "").strip(" \t") or None

    def number(role: int) -> NumberText | None:
        value = text(role)
        return None if value is None else NumberText(value)

    return read(
        by_role.get(CHANNEL) or None,
        text(START),
        text(QUANTITY),
        number(SECONDS),
        text(END),
        text(UNIT),
        number(REVISION),
        layout.unit,
    )


def fields_of(row: bytes) -> list[str]:
    """The fields of one CSV row; raises RowError."""
    try:
        text = row.decode()
    except UnicodeDecodeError as error:
        raise RowError("bad_utf8", f"byte {error.start} is not valid UTF-8") from None
    if control := _CONTROL.search(text):
        raise RowError("bad_csv", f"control character {control[0]!r}")
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise RowError("bad_csv", str(error)) from None
    if len(rows) > 1:
        raise RowError("bad_csv", "more than one row")
    return rows[0] if rows else [""]
