"""Files become bodies of the public face: what the format is, and its batches, resumable.

A format is a file of this folder with a class that derives from `Format`; its name is the file's. Nothing else names
it, so that adding a format is adding a file.

>>> for batch in read(Path("MAC000002.csv")):
...     registry.register(batch.channels)                       # with --register
...     decode(batch.body, batch.media_type, registry.table, now_ms)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from meterpulse import plugins
from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError

HEAD_BYTES = 64 * 1024
CHUNK_BYTES = 4 * 2**20
LINE_BYTES_MAX = 64 * 2**20


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
    """Whole lines of a text file from byte `after` on, about CHUNK_BYTES at a time, and the position behind them."""
    size = CHUNK_BYTES
    with open(path, "rb") as file:
        file.seek(after)
        rest = b""
        while block := file.read(size):
            cut = block.rfind(b"\n") + 1 if len(block) == size else len(block)  # a short block is the file's last
            if cut:
                lines, rest = rest + block[:cut], block[cut:]
                yield lines, file.tell() - len(rest)
            else:
                rest += block
                if len(rest) > LINE_BYTES_MAX:
                    raise BodyError(422, f"{path.name} has a line of more than {LINE_BYTES_MAX} bytes")
        if rest:
            yield rest, file.tell()


def header_of(path: Path) -> tuple[bytes, int]:
    """A text file's first line without a byte order mark and line end, and the position behind it."""
    with open(path, "rb") as file:
        line = file.readline(HEAD_BYTES)
    return line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n"), len(line)
