"""Files become bodies of the public face: what the format is, and its batches, resumable.

A format is a file of this folder with a class that derives from `Format`; its name is the file's. Nothing else names
it, so that adding a format is adding a file.

>>> for batch in read(Path("MAC000002.csv")):
...     registry.register(batch.channels)                       # with --register
...     decode(batch.body, batch.media_type, registry.table, now_ms)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from meterpulse import plugins
from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError

HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 4 * 2**20
LINE_BYTES_MAX = 64 * 2**20
_LINES_BYTES, _LINES_MIN = 16 * 1024, 4  # of the lines before the last, to tell whether that one is whole
_MARKS = frozenset((b" ", b'"', b";", b"'"))
_VALUE = re.compile(rb"\d[ \";']*$")
_DECIMALS = re.compile(rb"\.(\d+)\r?$")


def formats() -> list[str]:
    """The names of the formats there are."""
    return plugins.available("ingest", "Format")


def format_of(name: str) -> Format:
    """The format of that name; raises BodyError 415."""
    if name not in formats():
        raise BodyError(415, f"format {name[:40]!r} is not known; known are {', '.join(formats())}")
    return plugins.implementation("ingest", name, "Format")()


def detect(path: Path) -> str:
    """The name of the file's format by its first bytes; raises BodyError 415, OSError."""
    if path.stat().st_size == 0:
        raise BodyError(415, f"{path.name} is empty")
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    fitting = [name for name in formats() if format_of(name).fits(head, path)]
    if not fitting:
        raise BodyError(
            415,
            f"{path.name} is in no known format ({', '.join(formats())}); it begins with {head[:60]!r}. "
            "Say what its columns are with --mapping FILE, or which format it is with --format NAME",
        )
    if len(fitting) > 1:
        raise BodyError(415, f"{path.name} may be {' or '.join(fitting)}; say --format NAME")
    return fitting[0]


def read(path: Path, format: str | None = None, after: int = 0) -> Iterator[FileBatch]:
    """The batches of a file behind position `after`, detected where no format is named; raises BodyError, OSError."""
    return format_of(format or detect(path)).read(path, after)


def chunks(path: Path, after: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines of a text file from byte `after` on, about CHUNK_BYTES at a time, and the position behind them.

    A last line without an end is given too, unless it shows that it was cut: then BodyError 422 comes behind the others.
    """
    size = CHUNK_BYTES
    with open(path, "rb") as file:
        file.seek(max(0, after - _LINES_BYTES))
        before = file.read(min(after, _LINES_BYTES))
        rest, block = b"", b" "
        while block:
            block = file.read(size)
            cut = block.rfind(b"\n") + 1
            lines, rest = (rest + block[:cut], block[cut:]) if cut else (b"", rest + block)
            if len(rest) > LINE_BYTES_MAX:
                raise BodyError(422, f"{path.name} has a line of more than {LINE_BYTES_MAX} bytes")
            before = (before + lines)[-_LINES_BYTES:]
            if len(block) < size and not _is_cut(rest, before):  # a short block is the file's last
                lines, rest, block = lines + rest, b"", b""
            if lines:
                yield lines, file.tell() - len(rest)
        if rest:
            raise BodyError(
                422,
                f"{path.name} ends in the middle of a line, {rest[-40:]!r}; the lines before it were taken in. Ask for the "
                "file again, or end that line with a line feed if it is whole",
            )


def _is_cut(last: bytes, before: bytes) -> bool:
    """Whether a line without an end lacks what all of the lines before it have at theirs: a blank, a mark, the decimals.

    0.2 behind 0.219, 0.310, ... is a number that was cut. Where values have any number of decimals nobody can tell.
    """
    lines = [line.rstrip(b"\r") for line in before.split(b"\n")[1:-1]]
    valued = [line for line in lines if _VALUE.search(line)]  # not those that end in a marker of no value
    if not last or len(valued) < _LINES_MIN:
        return False
    marks = {line[-1:] for line in valued}
    if len(marks) == 1 and marks <= _MARKS:
        return last.rstrip(b"\r")[-1:] not in marks
    decimals = set(map(_decimals, valued))
    return len(decimals) == 1 and _decimals(last) < min(decimals)


def _decimals(line: bytes) -> int:
    found = _DECIMALS.search(line)
    return len(found[1]) if found else 0


def header_of(path: Path) -> tuple[bytes, int]:
    """A text file's first line without a byte order mark and line end, and the position behind it."""
    with open(path, "rb") as file:
        line = file.readline(HEAD_BYTES)
    return line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n"), len(line)
