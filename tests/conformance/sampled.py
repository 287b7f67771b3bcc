"""Samples of every format: files of our own making in the layouts of the real ones, and the readings they are.

`samples/<format>/` holds files and, beside each, `<file>.expected`: a line `channel start seconds thousandths quality` for
every reading in order, then `! reason` for every refused row. A mapping's folder holds its TOML file too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from meterpulse.ingest import FileBatch, Format, decode, files
from meterpulse.ingest.mapping import Mapping
from meterpulse.model.channel import Channel
from meterpulse.model.quality import text_of
from meterpulse.registry import Registry

FOLDER = Path(__file__).parent / "samples"
NOW_MS = 1_790_000_000_000  # September 2026: nothing in the samples is ahead of it

Row = tuple[str, int, int, int, str]


@dataclass(frozen=True)
class Sample:
    """A file of a format."""

    format: str
    path: Path

    @property
    def reader(self) -> Format:
        """The format as `meterpulse ingest` uses it."""
        mapping = self.path.parent / "mapping.toml"
        return Mapping.of(mapping) if mapping.exists() else files.format_of(self.format)

    @property
    def expected(self) -> str:
        """What stands beside it."""
        return self.path.with_name(self.path.name + ".expected").read_text(encoding="utf-8")


SAMPLES = [
    Sample(folder.name, path)
    for folder in sorted(FOLDER.iterdir())
    for path in sorted(folder.iterdir())
    if path.suffix not in (".expected", ".toml")
]


class Taken:
    """Batches taken into a registry as `meterpulse ingest --register` does."""

    def __init__(self, registry: Registry):
        self.registry = registry
        self.ids: list[str] = []
        self.rows: list[Row] = []
        self.refused: list[str] = []
        self.channels: list[Channel] = []

    def add(self, batch: FileBatch) -> None:
        """Its channels, then its readings."""
        if batch.channels:
            done = self.registry.register(batch.channels)
            assert not done.errors, done.errors
            self.channels += batch.channels
        decoded = decode(batch.body, batch.media_type, self.registry.table, NOW_MS)
        readings = decoded.readings
        assert batch.rows == len(readings) + len(decoded.rejected)
        rejected = [*batch.rejected, *decoded.rejected]
        assert all(row.original and row.detail for row in rejected)
        self.refused += [row.reason for row in rejected]
        if len(self.ids) < self.registry.table.count:
            self.ids = self.registry.channels()["id"].to_pylist()
        names = ("channel", "start", "seconds", "quantity", "quality")
        columns = (readings.full(name).tolist() for name in names)
        self.rows += [(self.ids[c], s, n, q, text_of(v)) for c, s, n, q, v in zip(*columns, strict=True)]


def taken(batches: Iterator[FileBatch], registry: Registry) -> Taken:
    """All of them."""
    out = Taken(registry)
    for batch in batches:
        out.add(batch)
    return out


def as_text(found: Taken) -> str:
    """As `.expected` files have it."""
    lines = [
        f"{id} {_iso(start)} {seconds} {quantity} {quality}" for id, start, seconds, quantity, quality in found.rows
    ]
    return "\n".join([*lines, *(f"! {reason}" for reason in found.refused)]) + "\n"


def _iso(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1_000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{ms % 1_000:03d}" if ms % 1_000 else "") + "Z"
