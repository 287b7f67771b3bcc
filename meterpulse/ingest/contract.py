"""What every decoder gives: readings in columns, and the rows that were refused, each with its reason and its bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from meterpulse.model.channel import Channel
from meterpulse.model.problem import Problem
from meterpulse.model.reading import Readings

REASONS: dict[str, str] = {
    "unknown_channel": "no such channel; register it with POST /v1/channels, then replay the row",
    "missing_field": "a reading needs channel, start and quantity",
    "wrong_type": "the field is not of the type that the format takes",
    "duplicate_key": "the same key stands twice",
    "bad_json": "not valid JSON, or not an object",
    "bad_csv": "not a row of this file's header",
    "bad_utf8": "not valid UTF-8",
    "bad_time": "not an ISO 8601 time of the years 1970 to 2200 in whole milliseconds",
    "no_offset": "a time without an offset; add Z or +01:00",
    "bad_seconds": "seconds takes a whole number from 1 to 31622400 (366 days)",
    "not_a_number": "quantity takes a finite number, or a decimal string such as 12.5",
    "bad_unit": "the unit is unknown or does not measure what the channel measures",
    "bad_revision": "revision takes a whole number from 0 to 9223372036854775807",
    "bad_quality": "quality takes a word such as raw, validated, edited, or NEM12's flag and method such as A, S17",
    "overflow": "the quantity is more than a meter measures: 10^14 thousandths of the base unit, 100 GWh",
    "negative": "interval and register channels take no negative quantity",
    "future": "starts more than 5 minutes after now",
    "missing": "the row has no value",
    "truncated": "the file ends before it is complete; ask for it again",
    "bad_checksum": "the checksum does not match: bytes were lost or changed on the way",
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """One refused row: a reason of `REASONS`, what exactly was wrong, and the bytes as they came."""

    reason: str
    detail: str
    original: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The good rows in the order of the body, and the refused ones in the order of the body."""

    readings: Readings
    rejected: list[Rejected]


@dataclass(frozen=True, slots=True)
class FileBatch:
    """A part of a file as a body that POST /v1/readings and `decode` take, and what the format itself knows of it."""

    body: bytes
    media_type: str
    rows: int  # in the body
    position: int  # behind this batch: `read(path, after=position)` goes on there
    channels: list[Channel] = field(default_factory=list)  # definitions of ids that this batch is the first to name
    rejected: list[Rejected] = field(
        default_factory=list
    )  # rows that the format itself refuses; they are not in the body
    ignored: dict[str, int] = field(default_factory=dict)  # what is no reading, by what it is

    @property
    def table(self) -> pa.Table:
        """An Arrow body as a table: channel text, start timestamp[ms, UTC], seconds, quantity, revision, quality."""
        with pa.ipc.open_stream(self.body) as stream:
            return stream.read_all()


class RowError(Exception):
    """One row cannot be taken; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail or REASONS[reason]


class BodyError(Problem):
    """The body as a whole cannot be read (400, 413, 415 or 422); nothing of it was taken."""

    def __init__(self, status: int, detail: str):
        kind, title = _TITLES[status]
        super().__init__(status, kind, title, detail)


_TITLES = {
    400: ("unreadable-body", "The body cannot be read"),
    413: ("body-too-large", "The body is too large"),
    415: ("unsupported-media-type", "This media type is not taken here"),
    422: ("unusable-body", "The body cannot be used"),
}
