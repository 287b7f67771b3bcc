"""SML: telegrams of German and related meters, as they come from the optical port (binary) or as hexadecimal text.

- The channel's id is `<equipment id>:<OBIS>` (1EMH0012345678:1-0:1.8.0); the equipment id is the meter's server id as it is
  printed on it (DIN 43863-5), or in hexadecimal. Values of the past (...*96) are left out, and so is what is not measured in
  Wh, varh, VAh, W, var, VA, V, A, m3 or L.
- x.8.x and volumes are registers, x.7.x gauges; 2.8.x and 22.7.0 are received; 16.7.0 is the power of all phases, negative
  where it goes into the network.
- Most meters tell no time but a count of seconds. A time with an offset on a line before a telegram
  (2026-01-31T23:55:00Z) is that telegram's, and those behind it follow by the meter's count, for as long as that rises.
  Without one, readings are refused. A file's own time is not used: it is when it was written or copied.
- Checksums of the transport and of each message are checked (X.25's, and Kermit's that some meters send). Where a stream begins
  or ends within a telegram, that one is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError, RowError
from meterpulse.ingest.gathered import BATCH_ROWS, Gathered
from meterpulse.ingest.sml_list import Listed, lists
from meterpulse.ingest.sml_tree import START, Frame, Frames
from meterpulse.model.window import instant_ms

MEDIA_TYPE = "application/x-sml"
_PIECE_BYTES = 64 * 1024
_TIME = re.compile(rb"(?:^|\n)[ \t]*(\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:?\d\d))[ \t]*(?=\r?\n)", re.ASCII)
_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class Sml(Format):
    """SML telegrams; positions are bytes."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By the sequence that begins a telegram: bytes, or text in hexadecimal."""
        return START in head or _is_hex(head)

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """See `Format.read`."""
        rows, frames, clock, seen, end = Gathered(MEDIA_TYPE), Frames(), Clock(), False, 0
        for piece, end in _pieces(path):
            for frame in frames.feed(piece):
                seen = True
                _take(rows if end > after else None, clock, frame)
            if rows.rows >= BATCH_ROWS:
                yield rows.batch(end)
        rest = frames.rest()
        if not seen and rest is None:
            raise BodyError(422, f"{path.name} holds no telegram: none begins with 1B 1B 1B 1B 01 01 01 01")
        if rest is not None and end > after:
            rows.refuse("truncated", "the file ends within a telegram", rest.original)
        if rows:
            yield rows.batch(end)


class Clock:
    """When a telegram was sent: by the line before it, or by the meter's seconds since one that had such a line."""

    def __init__(self) -> None:
        self._known: tuple[int, int] | None = None  # (count of seconds, ms UTC)

    def ms(self, stamp: int | None, index_seconds: int | None) -> int | None:
        """Of a telegram with that line, if any, and that count."""
        if index_seconds is None:
            return stamp
        if stamp is not None:
            self._known = index_seconds, stamp
        elif self._known is not None and index_seconds < self._known[0]:
            self._known = None  # it began to count anew: how long it stood still nobody knows
        if self._known is None:
            return None
        stamp = self._known[1] + (index_seconds - self._known[0]) * 1_000
        self._known = index_seconds, stamp
        return stamp


def _take(rows: Gathered | None, clock: Clock, frame: Frame) -> None:
    """A telegram's readings; without `rows` only the clock moves on."""
    try:
        found = _listed(clock, frame)
    except RowError as error:
        if rows is not None:
            rows.refuse(error.reason, error.detail, frame.original)
        return
    if rows is None:
        return
    for refused in found.refused:
        rows.refuse(refused.reason, refused.detail, frame.original)
    for what in found.ignored:
        rows.ignore(what)
    if found.timeless:
        rows.refuse(
            "bad_time",
            "the telegram tells no time; put one such as 2026-01-31T23:55:00Z on a line before it",
            frame.original,
        )
    elif not found.values and not found.refused:
        rows.ignore("telegrams without readings")
    for value in found.values:
        rows.add(
            rows.channel(value.channel), [value.start_ms], value.seconds, [value.text], value.scale, frame.original
        )


def _listed(clock: Clock, frame: Frame) -> Listed:
    if frame.problem == "truncated":
        raise RowError("truncated", "another telegram begins before this one has ended, or it never ends")
    if frame.problem:
        raise RowError(frame.problem, "the telegram's checksum does not match")
    found = lists(frame.body, None)
    at = clock.ms(_stamp(frame.before), found.index_seconds)
    return lists(frame.body, at) if found.timeless and at is not None else found


def _stamp(before: bytes) -> int | None:
    """The last time on a line of its own; behind it may stand the end of a telegram that was cut."""
    lines = _TIME.findall(before)
    try:
        return instant_ms(lines[-1].decode("ascii")) if lines else None
    except ValueError:
        return None


def _is_hex(head: bytes) -> bool:
    """Whether it is text: digits, and times on lines or before the digits of a line, and a telegram begins in it."""
    begun = START.hex().encode() in b"".join(head.split()).lower()
    return begun and START not in head and all(set(_split(line)[1]) <= _DIGITS for line in head.splitlines()[:9])


def _split(line: bytes) -> tuple[bytes, bytes]:
    """(a time or nothing, the digits without blanks) of a line."""
    first, _, rest = line.strip().partition(b" ")
    return (first, b"".join(rest.split())) if b"T" in first else (b"", b"".join(line.split()))


def _pieces(path: Path) -> Iterator[tuple[bytes, int]]:
    """Bytes of telegrams, and times on lines of their own, with the position behind them."""
    with open(path, "rb") as file:
        as_text = _is_hex(file.read(_PIECE_BYTES))
        file.seek(0)
        odd = b""
        while data := file.readline(_PIECE_BYTES) if as_text else file.read(_PIECE_BYTES):
            if not as_text:
                yield data, file.tell()
                continue
            stamp, digits = _split(data)
            stamp, digits, odd = stamp and stamp + b"\n", odd + digits, b""
            if not set(digits) <= _DIGITS:
                yield stamp, file.tell()
                continue
            whole = len(digits) & ~1
            if not data.endswith(b"\n"):
                odd = digits[whole:]
            yield stamp + bytes.fromhex(digits[:whole].decode("ascii")), file.tell()
