"""Many messages of a stream at once: each is a body by itself, and single JSON objects are read together, as the lines of one.

What is refused is known by the number of its message, so that its topic and offset can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from meterpulse.ingest.contract import BodyError, Decoded, Rejected
from meterpulse.ingest.media import ARROW, JSON, NDJSON
from meterpulse.model.reading import Readings

Decode = Callable[[bytes, str], Decoded]
_ARROW_MARK = b"\xff\xff\xff\xff"
_BLANK = b" \t\r\n"


class Refused(NamedTuple):
    """`message` is its place among the bodies."""

    message: int
    row: Rejected


def decode_bodies(bodies: Sequence[bytes], decode: Decode) -> tuple[Readings, list[Refused]]:
    """The readings of all bodies, in their order, and the refused rows in theirs. `decode(body, media_type)` reads one."""
    if are_lines(bodies):
        parts = list(_lines(bodies, 0, decode))
    else:
        parts, at = [], 0
        for together, run in groupby(bodies, is_line):
            own = list(run)
            if together:
                parts += _lines(own, at, decode)
            else:
                parts += [_body(body, at + number, decode) for number, body in enumerate(own)]
            at += len(own)
    readings = [found for found, _ in parts if len(found)]
    if not readings:
        return Readings.empty(), [row for _, rows in parts for row in rows]
    return (
        readings[0] if len(readings) == 1 else Readings.concat(readings),
        [row for _, rows in parts for row in rows],
    )


def are_lines(bodies: Sequence[bytes]) -> bool:
    """Whether every body may be one JSON object on one line. Counted in all of them together: there may be a million."""
    text = b"\n".join(bodies)
    return text[:1] == b"{" and text.count(b"\n") == text.count(b"\n{") == len(bodies) - 1


def is_line(body: bytes) -> bool:
    """Whether it may be one JSON object on one line."""
    return body[:1] == b"{" and b"\n" not in body


def _lines(bodies: Sequence[bytes], first: int, decode: Decode) -> Iterator[tuple[Readings, list[Refused]]]:
    try:
        decoded = decode(b"\n".join(bodies), NDJSON)
    except BodyError as error:  # too many of them are wrong, or they are too large together
        if len(bodies) == 1:
            yield Readings.empty(), [Refused(first, _whole(error, bodies[0], NDJSON))]
            return
        half = len(bodies) // 2
        yield from _lines(bodies[:half], first, decode)
        yield from _lines(bodies[half:], first + half, decode)
        return
    yield decoded.readings, list(_placed(decoded.rejected, bodies, first))


def _placed(rejected: Sequence[Rejected], bodies: Sequence[bytes], first: int) -> Iterator[Refused]:
    """Refused lines are in the order of the lines; what has the same bytes has the same fate."""
    at = 0
    for row in rejected:
        wanted = row.original.strip(_BLANK)
        while at < len(bodies) - 1 and bodies[at].strip(_BLANK) != wanted:
            at += 1
        yield Refused(first + at, row)
        at = min(at + 1, len(bodies) - 1)


def _body(body: bytes, number: int, decode: Decode) -> tuple[Readings, list[Refused]]:
    kind = ARROW if body[:4] == _ARROW_MARK else JSON if _is_one_value(body) else NDJSON
    try:
        decoded = decode(body, kind)
    except BodyError as error:
        return Readings.empty(), [Refused(number, _whole(error, body, kind))]
    return decoded.readings, [Refused(number, row) for row in decoded.rejected]


def _is_one_value(body: bytes) -> bool:
    """Whether it is one array, or one object over several lines, and not an object a line."""
    text = body.lstrip()
    return text[:1] == b"[" or (text[:1] == b"{" and not text.partition(b"\n")[0].rstrip().endswith(b"}"))


def _whole(error: BodyError, body: bytes, media_type: str) -> Rejected:
    """A message of which nothing can be taken, kept as it came."""
    return Rejected("bad_json" if media_type != ARROW else "wrong_type", error.detail, body, media_type)
