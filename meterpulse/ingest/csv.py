"""Readings as CSV (RFC 4180): a header that names at least channel, start and quantity, then one reading a line.

Columns come in any order. `seconds` (default: the channel's interval), `unit` (default: the channel's) and `revision`
(default: 0) may be left out or left empty; other columns are ignored. A byte order mark and CRLF are taken. A refused
row is kept as its line.
"""

from __future__ import annotations

import csv
import re
from functools import lru_cache

import numpy as np

from meterpulse.ingest import csv_scan
from meterpulse.ingest.contract import BodyError, Decoded, RowError
from meterpulse.ingest.few import SMALL_BYTES, decode_few
from meterpulse.ingest.layout import (
    CANONICAL,
    CHANNEL,
    END,
    LAYOUTS,
    NO_ROLE,
    QUALITY,
    QUANTITY,
    REVISION,
    SECONDS,
    START,
    UNIT,
    Layout,
)
from meterpulse.ingest.media import CSV, with_parameters
from meterpulse.ingest.record import NumberText, Record, read
from meterpulse.ingest.scanned import UNIT_NAMES, UNIT_OFFSETS, Scanned
from meterpulse.ingest.vector import padded
from meterpulse.model.channel import ChannelTable

HEADER_MAX = 64 * 1024
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def decode_csv(
    body: bytes, table: ChannelTable, now_ms: int, layout: Layout = CANONICAL, columns: str | None = None
) -> Decoded:
    """All rows behind the header, or all of them where `columns` are given; raises BodyError 400 without a readable
    header, 422 where it lacks a column."""
    body = bytes(body).removeprefix(_BOM)
    if columns is not None:
        return decode_rows(body, 0, _cached_roles(columns.encode(), layout.name), table, now_ms, layout)
    end = body.find(b"\n", 0, HEADER_MAX)
    header = body[:HEADER_MAX] if end < 0 else body[:end]
    roles = _cached_roles(header, layout.name)
    return decode_rows(body, len(header) + 1, roles, table, now_ms, layout)


@lru_cache(maxsize=256)
def _cached_roles(header: bytes, layout: str) -> np.ndarray:
    return header_roles(header, LAYOUTS[layout])


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
                f"the header lacks {name}; it takes {', '.join(layout.roles)} in any order, not {header[:60]!r}",
            )
    return np.array(roles, np.uint8)


def decode_rows(
    body: bytes, at: int, roles: np.ndarray, table: ChannelTable, now_ms: int, layout: Layout = CANONICAL
) -> Decoded:
    """The rows of `body` from `at` on, whose columns have these roles."""
    kept_as = _kept_as(roles.tobytes(), layout.name)
    if len(body) <= SMALL_BYTES and b'"' not in body:
        lines = [line.removesuffix(b"\r") for line in body[at:].split(b"\n") if line.strip(_BLANK)]
        return decode_few(lines, lambda row: parsed(row, roles, layout), table, now_ms, kept_as)
    rows = Scanned(padded(body), body.count(b"\n", at) + 1)
    rows.rows = csv_scan.scan(rows.data, at, len(body), roles, UNIT_OFFSETS, UNIT_NAMES, layout.unit, *rows.room)
    return rows.decoded(lambda row: parsed(row, roles, layout), table, now_ms, kept_as)


@lru_cache(maxsize=256)
def _kept_as(roles: bytes, layout: str) -> str:
    """The media type of a row by itself."""
    names = {role: name for name, role in LAYOUTS[layout].roles.items()}
    columns = ",".join(names.get(role, "") for role in roles)
    return with_parameters(CSV, header="absent", columns=columns, layout=LAYOUTS[layout].parameter)


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
        text(QUALITY),
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
