"""Decoders: the bytes of a body become readings in columns, and refused rows. Pure: the time, `now_ms`, is given.

>>> decoded = decode(body, "application/x-ndjson", registry.table, now_ms)
>>> len(decoded.readings), [r.reason for r in decoded.rejected]
(999999, ['unknown_channel'])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from meterpulse.ingest.arrow import ARROW, decode_arrow
from meterpulse.ingest.contract import REASONS, BodyError, Decoded, FileBatch, Rejected
from meterpulse.ingest.csv import CSV, decode_csv
from meterpulse.ingest.encoding import decompress
from meterpulse.ingest.json import JSON, NDJSON, decode_array, decode_ndjson
from meterpulse.ingest.layout import LAYOUTS, layout_of
from meterpulse.model.channel import ChannelTable

MEDIA_TYPES = (ARROW, NDJSON, JSON, CSV)
BYTES_MAX = 256 * 2**20
_SAME = {
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "application/x-jsonlines": NDJSON,
    "application/csv": CSV,
}

__all__ = [
    "BYTES_MAX",
    "LAYOUTS",
    "MEDIA_TYPES",
    "REASONS",
    "BodyError",
    "Decoded",
    "FileBatch",
    "Format",
    "Rejected",
    "decode",
    "decompress",
]


def decode(
    body: bytes,
    media_type: str,
    table: ChannelTable,
    now_ms: int,
    layout: str = "canonical",
    max_bytes: int = BYTES_MAX,
) -> Decoded:
    """The readings of one body, in its order, and its refused rows.

    Raises BodyError: 415 for other media types, 400 where the body is not what its type says, 413 where it unpacks to
    more than `max_bytes`, 422 where it is well formed but lacks a column or nearly all of it would be refused.
    `layout` tells whose field names these are (`LAYOUTS`).
    """
    if len(body) > max_bytes:
        raise BodyError(413, f"the body has {len(body)} bytes; at most {max_bytes} are taken, so send it in parts")
    kind = media_type
    if kind not in MEDIA_TYPES:
        kind = media_type.partition(";")[0].strip().lower()
        kind = _SAME.get(kind, kind)
    if kind == NDJSON:
        return decode_ndjson(body, table, now_ms, layout_of(layout))
    if kind == ARROW:
        return decode_arrow(body, table, now_ms, max_bytes)
    if kind == JSON:
        return decode_array(body, table, now_ms, layout_of(layout))
    if kind == CSV:
        return decode_csv(body, table, now_ms, layout_of(layout))
    raise BodyError(415, f"{media_type[:60]!r} is not taken; send one of {', '.join(MEDIA_TYPES)}")


class Format(ABC):
    """A file format, named after the file that holds it. A format documents the zone of its times."""

    @abstractmethod
    def fits(self, head: bytes, path: Path) -> bool:
        """Whether a file that begins with these bytes (up to 64 KiB) is of this format."""

    @abstractmethod
    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """The batches behind position `after` (0: all of them); raises BodyError where it is not of this format."""
