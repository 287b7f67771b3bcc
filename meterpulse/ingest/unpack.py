"""What stands behind the names on a command line: files, folders, patterns, archives, standard input.

Every content becomes a file that a format can read, under the name that people know it by: `all.zip/2013/MAC000002.csv`.
Packed contents are unpacked one at a time into a scratch folder and removed behind the reader, so an archive needs the
room of its largest member. An archive is taken as hostile: its members, their sizes, and how much larger than packed they
become are limited, whatever its own directory says.
"""

from __future__ import annotations

import glob
import gzip
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Literal

from meterpulse.ingest.contract import BodyError

STDIN = "-"
MEMBERS_MAX = 100_000
NESTING_MAX = 3  # a gzip in a zip in a zip
FREE_BYTES = 64 * 2**20  # so much may come of anything; beyond it, no more than
RATIO_MAX = 200  # times the packed size
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Content:
    """A file to be read. `name` is for people; `path` ends in the file's own name."""

    name: str
    path: Path
    found: Literal["named", "inside"]  # by a person, or in a folder or an archive where other things may lie too


@dataclass(frozen=True)
class Unreadable:
    """What could not be opened, and why."""

    name: str
    error: Exception


def expand(given: list[str]) -> list[tuple[str, bool]]:
    """The files that names, folders and patterns stand for, each once and in order, and whether it lay in a folder.

    Raises FileNotFoundError with the name that stands for nothing.
    """
    found: dict[str, bool] = {}
    for name in given:
        path = Path(name)
        if name == STDIN or path.is_file():
            found.setdefault(name, False)
        elif path.is_dir():
            inside = [str(p) for p in sorted(path.rglob("*")) if p.is_file() and not _hidden(p.relative_to(path))]
            if not inside:
                raise FileNotFoundError(f"the folder {name} is empty")
            found |= {p: True for p in inside if p not in found}
        else:
            matching = sorted(p for p in glob.glob(name, recursive=True) if Path(p).is_file())
            if not matching:
                raise FileNotFoundError(
                    f"{name} does not exist" if not glob.has_magic(name) else f"nothing matches {name}"
                )
            found |= {p: False for p in matching if p not in found}
    return list(found.items())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") and part != ".." or part == "__MACOSX" for part in path.parts)


def contents(name: str, in_folder: bool = False) -> Iterator[Content | Unreadable]:
    """What a file holds: itself, or what is packed in it. A content's file is there until the next one is asked for."""
    with TemporaryDirectory(prefix="meterpulse-") as scratch:
        if name == STDIN:
            path = Path(scratch) / "stdin"
            with path.open("wb") as out:
                shutil.copyfileobj(sys.stdin.buffer, out, _BLOCK)
            yield from _unpacked(Content("stdin", path, "named"), Path(scratch) / "0", NESTING_MAX)
        else:
            content = Content(name, Path(name), "inside" if in_folder else "named")
            yield from _unpacked(content, Path(scratch) / "0", NESTING_MAX)


def _unpacked(content: Content, scratch: Path, depth: int) -> Iterator[Content | Unreadable]:
    try:
        with content.path.open("rb") as file:
            magic = file.read(4)
        if magic[:2] != b"\x1f\x8b" and magic != b"PK\x03\x04" and magic != b"PK\x05\x06":
            yield content
            return
        if depth == 0:
            raise BodyError(413, f"{content.name} is packed more than {NESTING_MAX} times; unpack it first")
        inner = _gunzipped(content, scratch) if magic[:2] == b"\x1f\x8b" else _unzipped(content, scratch)
        for each in inner:
            if isinstance(each, Unreadable):
                yield each
            else:
                yield from _unpacked(each, scratch / "0", depth - 1)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, BodyError) as error:
        yield Unreadable(content.name, error)


def _gunzipped(content: Content, scratch: Path) -> Iterator[Content]:
    name = content.path.name
    path = scratch / (name.removesuffix(".gz") or "content")
    with _room(scratch), gzip.open(content.path) as packed:
        _copy(packed, path, content.path.stat().st_size, content.name)  # type: ignore[arg-type]
        yield Content(content.name, path, content.found)


def _unzipped(content: Content, scratch: Path) -> Iterator[Content | Unreadable]:
    with zipfile.ZipFile(content.path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and not _hidden(Path(m.filename))]
        if len(members) > MEMBERS_MAX:
            raise BodyError(413, f"{content.name} has {len(members)} members; at most {MEMBERS_MAX} are taken")
        for member in members:
            name = f"{content.name}/{member.filename}"
            own = PurePosixPath(member.filename.replace("\\", "/")).name or "content"
            try:
                with _room(scratch):
                    with archive.open(member) as packed:
                        _copy(packed, scratch / own, member.compress_size, name)
                    yield Content(name, scratch / own, "inside")
            except NotImplementedError:
                yield Unreadable(
                    name,
                    BodyError(
                        415,
                        f"{name} is packed by a method that Python does not know (such as Deflate64); unpack it first, with 7z or unzip",
                    ),
                )
            except RuntimeError as error:  # encrypted
                yield Unreadable(name, BodyError(415, f"{name}: {error}; unpack it first"))
            except (zlib.error, zipfile.BadZipFile, EOFError, BodyError) as error:
                yield Unreadable(name, error)


@contextmanager
def _room(scratch: Path) -> Iterator[None]:
    """A folder that is gone behind the block."""
    scratch.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy(packed: IO[bytes], path: Path, packed_bytes: int, name: str) -> None:
    """Unpacks as long as it stays in proportion; raises BodyError 413."""
    left = max(FREE_BYTES, RATIO_MAX * packed_bytes)
    with path.open("wb") as out:
        while block := packed.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise BodyError(
                    413,
                    f"{name} unpacks to more than {RATIO_MAX} times its size, as archives that are made to fill a disk do; "
                    "if it is right, unpack it first",
                )
            out.write(block)
