"""How far each file has come: one small file per content, so that an ingest that was killed goes on where it was.

The position is written after the readings before it are on disk, so the journal never claims too much; claiming too
little costs time only, because a reading counts once. A content is known by the hash of its bytes and of how it is read
(format, mapping, names): the same file elsewhere, or packed, is the same content.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

_KEY = re.compile(r"[0-9a-f]{32}")
_BLOCK = 1 << 22


@dataclass
class Progress:
    """What has become of a content's rows so far."""

    file: str = ""
    format: str = ""
    position: int = 0
    done: bool = False
    accepted: int = 0
    created: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)

    def add(self, accepted: int, reasons: dict[str, int], ignored: dict[str, int]) -> None:
        """Counts a batch."""
        self.accepted += accepted
        self.reasons = dict(Counter(self.reasons) + Counter(reasons))
        self.ignored = dict(Counter(self.ignored) + Counter(ignored))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Any) -> Progress:
        """The inverse; raises ValueError."""
        if not isinstance(given, dict):
            raise ValueError("the progress of a file is a JSON object")
        try:
            known = {name: kind(given[name]) for name, kind in _KINDS.items() if name in given}
        except TypeError as error:
            raise ValueError(f"not the progress of a file: {error}") from None
        return cls(**known)


_KINDS: dict[str, Any] = {
    "file": str,
    "format": str,
    "position": int,
    "done": bool,
    "accepted": int,
    "created": int,
    "reasons": dict,
    "ignored": dict,
}


class Journal:
    """The progress of all files, by `key_of`."""

    def __init__(self, folder: Path):
        self._folder = folder

    def get(self, key: str) -> Progress | None:
        """None where the content is new, or its entry cannot be read."""
        try:
            return Progress.from_dict(json.loads(self._path(key).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def put(self, key: str, progress: Progress) -> None:
        """Replaces the entry at once."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps(progress.to_dict()), encoding="utf-8")
        new.rename(path)

    def forget(self, key: str) -> None:
        """The next ingest begins anew."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key[:40]!r} is no key of a content: 32 digits from 0 to f")
        return self._folder / f"{key}.json"


def key_of(path: Path, *read_as: str) -> str:
    """The content's key; `read_as` is whatever changes the readings that come of it."""
    digest = xxhash.xxh3_128("\x1f".join(read_as).encode())
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
