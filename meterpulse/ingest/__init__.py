"""Decoders: the bytes of a body become readings in columns, and refused rows. Pure: the time, `now_ms`, is given.

>>> decoded = decode(body, "application/x-ndjson", registry.table, now_ms)
>>> len(decoded.readings), [r.reason for r in decoded.rejected]
(999999, ['unknown_channel'])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meterpulse.ingest.arrow import decode_arrow
from meterpulse.ingest.contract import REASONS, BodyError, Decoded, FileBatch, Rejected
from meterpulse.ingest.csv import decode_csv
from meterpulse.ingest.delivery import Delivery, House
from meterpulse.ingest.encoding import decompress
from meterpulse.ingest.json import decode_array, decode_ndjson
from meterpulse.ingest.layout import LAYOUTS, layout_of
from meterpulse.ingest.media import ARROW, CSV, JSON, MEDIA_TYPES, NDJSON, split
from meterpulse.ingest.message import decode_kept
from meterpulse.model.channel import ChannelTable

BYTES_MAX = 256 * 2**20

__all__ = [
    "ARROW",
    "CSV",
    "JSON",
    "NDJSON",
    "BYTES_MAX",
    "LAYOUTS",
    "MEDIA_TYPES",
    "REASONS",
    "BodyError",
    "Decoded",
    "Delivery",
    "FileBatch",
    "Format",
    "House",
    "Rejected",
    "Source",
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
    `layout` tells whose field names these are (`LAYOUTS`); the media type's parameter `layout` goes before it. CSV with
    the parameter `header=absent` has its columns in the parameter `columns`: refused rows are kept that way.
    """
    if len(body) > max_bytes:
        raise BodyError(413, f"the body has {len(body)} bytes; at most {max_bytes} are taken, so send it in parts")
    kind, parameters = split(media_type)
    if "dialect" in parameters:
        return decode_kept(body, parameters, table)
    layout = parameters.get("layout", layout)
    if kind == NDJSON:
        return decode_ndjson(body, table, now_ms, layout_of(layout))
    if kind == JSON:
        return decode_array(body, table, now_ms, layout_of(layout))
    if kind == CSV:
        columns = parameters.get("columns", "") if parameters.get("header") == "absent" else None
        return decode_csv(body, table, now_ms, layout_of(layout), columns)
    return decode_arrow(body, table, now_ms, max_bytes)


class Format(ABC):
    """A file format, named after the file that holds it. A format documents the zone of its times."""

    @abstractmethod
    def fits(self, head: bytes, path: Path) -> bool:
        """Whether a file that begins with these bytes (up to 64 KiB) is of this format."""

    @abstractmethod
    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """The batches behind position `after` (0: all of them); raises BodyError where it is not of this format."""


class Source(ABC):
    """A stream of readings from outside, named after the file that holds it; it runs while the city is served.

    `settings` is the section `ingest.<name>` of the configuration; the source is on when its `is_on` is true. The origin is
    told that a message has arrived (MQTT's PUBACK, Kafka's offset) only in `Delivery.acknowledge`, so what was not yet on
    our disk comes again after a crash. A message that cannot be read goes, byte for byte, among the delivery's refused rows.
    """

    def __init__(self, settings: Any, house: House):
        self.settings, self.house = settings, house

    @abstractmethod
    def deliveries(self) -> Iterator[Delivery | None]:
        """Connects, and yields what arrives until `stop`; None at least once a second while nothing does, as a sign of life.

        No more is asked for while too much waits for the disk, so what the origin may send ahead must be bounded. Raises
        OSError where the origin is out of reach: it is called again after a while, and goes on behind what was acknowledged.
        Closing the iterator lets go of the connection.
        """

    @abstractmethod
    def stop(self) -> None:
        """Makes `deliveries` end soon; from any thread."""

    def lag(self) -> int | None:
        """Messages that the origin still holds for us; None where it does not tell."""
        return None

    def parts(self) -> list[dict[str, Any]]:
        """How far each part of the origin (a topic's partition) is read, where it has parts."""
        return []
