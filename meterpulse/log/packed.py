"""Entries of the log and rows of the quarantine as bytes that name themselves and carry a checksum, so that they can be found
in a damaged file without any index.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import xxhash

from meterpulse.log import CorruptEntry, Entry, Quarantined, Record
from meterpulse.model.reading import pack, unpack

_HEAD = struct.Struct(
    "<4sBBHQQQqQ"
)  # magic, live, -, source bytes, offset, rows before, rows, received ms, payload bytes
_SUM = struct.Struct("<Q")
_BAD = struct.Struct("<4sIQQQ")  # magic, bytes of what is known about the row, key, bytes of the row, checksum of both
_ENTRY_MAGIC, _BAD_MAGIC = b"MPL1", b"MPQ1"


def encode(offset: int, rows_before: int, record: Record) -> bytes:
    """An entry: head, source, checksum, packed readings."""
    payload, source = pack(record.readings), record.source.encode()[:200]
    head = (
        _HEAD.pack(
            _ENTRY_MAGIC,
            record.live,
            0,
            len(source),
            offset,
            rows_before,
            len(record.readings),
            record.received_ms,
            len(payload),
        )
        + source
    )
    digest = xxhash.xxh3_64(head)
    digest.update(payload)
    return b"".join((head, _SUM.pack(digest.intdigest()), payload))


def decode(offset: int, value: bytes | memoryview) -> Entry:
    """Raises CorruptEntry. Nothing in the result refers to `value`."""
    view = memoryview(value)
    if len(view) < _HEAD.size + _SUM.size:
        raise CorruptEntry(offset, "too short")
    magic, live, _, source_bytes, at, rows_before, _, received_ms, size = _HEAD.unpack_from(view, 0)
    body = _HEAD.size + source_bytes + _SUM.size
    if magic != _ENTRY_MAGIC or at != offset or len(view) != body + size:
        raise CorruptEntry(offset, "header")
    digest = xxhash.xxh3_64(view[: _HEAD.size + source_bytes])
    digest.update(view[body : body + size])
    if digest.intdigest() != _SUM.unpack_from(view, _HEAD.size + source_bytes)[0]:
        raise CorruptEntry(offset, "checksum")
    source = bytes(view[_HEAD.size : _HEAD.size + source_bytes]).decode(errors="replace")
    return Entry(offset, rows_before, Record(source, unpack(view[body : body + size]), received_ms, bool(live)))


def encode_bad(key: int, row: Quarantined) -> bytes:
    """A row of the quarantine."""
    about = orjson.dumps([row.reason, row.detail, row.media_type, row.source, row.received_ms])
    return (
        _BAD.pack(_BAD_MAGIC, len(about), key, len(row.original), _bad_sum(key, about, row.original))
        + about
        + row.original
    )


def decode_bad(key: int, value: bytes) -> Quarantined:
    """Raises CorruptEntry."""
    if len(value) < _BAD.size:
        raise CorruptEntry(key, "quarantined row: too short")
    magic, size, at, original_bytes, digest = _BAD.unpack_from(value, 0)
    about, original = bytes(value[_BAD.size : _BAD.size + size]), bytes(value[_BAD.size + size :])
    if magic != _BAD_MAGIC or at != key or len(original) != original_bytes or digest != _bad_sum(key, about, original):
        raise CorruptEntry(key, "quarantined row: checksum")
    reason, detail, media_type, source, received_ms = orjson.loads(about)
    return Quarantined(reason, detail, media_type, source, received_ms, original, key)


def _bad_sum(key: int, about: bytes, original: bytes) -> int:
    return xxhash.xxh3_64_intdigest(
        about + original, seed=(key + 1 + len(about) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    )


class Place(NamedTuple):
    """Where in a file, and since when where that is known."""

    at: int
    size: int
    received_ms: int = 0


def find_entries(file: Path) -> dict[int, Place]:
    """Every entry in a damaged file whose checksum holds, by offset; of several for one offset the one that came last."""
    found: dict[int, Place] = {}
    for at, data in _find(file, _ENTRY_MAGIC):
        if at + _HEAD.size > len(data):
            continue
        _, _, _, source_bytes, offset, _, _, received_ms, payload_bytes = _HEAD.unpack_from(data, at)
        place = Place(at, _HEAD.size + source_bytes + _SUM.size + payload_bytes, received_ms)
        if at + place.size <= len(data) and _holds(decode, offset, data, place):
            if offset not in found or found[offset].received_ms <= received_ms:
                found[offset] = place
    return found


def find_bad(file: Path) -> dict[int, Place]:
    """Every row of the quarantine in a damaged file whose checksum holds, by key."""
    found: dict[int, Place] = {}
    for at, data in _find(file, _BAD_MAGIC):
        if at + _BAD.size > len(data):
            continue
        _, about_bytes, key, original_bytes, _ = _BAD.unpack_from(data, at)
        place = Place(at, _BAD.size + about_bytes + original_bytes)
        if at + place.size <= len(data) and _holds(decode_bad, key, data, place):
            found[key] = place
    return found


def _holds(decoder: Callable[[int, bytes], object], number: int, data: mmap.mmap, place: Place) -> bool:
    try:
        decoder(number, data[place.at : place.at + place.size])
    except (CorruptEntry, ValueError, struct.error):
        return False
    return True


def _find(file: Path, magic: bytes) -> Iterator[tuple[int, mmap.mmap]]:
    if file.stat().st_size == 0:
        return
    with open(file, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(magic)
        while at >= 0:
            yield at, data
            at = data.find(magic, at + 1)
