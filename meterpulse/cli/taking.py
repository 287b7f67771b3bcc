"""Files on their way into a city: opened, recognised, read, sent, and noted in the journal batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from meterpulse.city import City
from meterpulse.cli.output import Progress as Bar
from meterpulse.cli.output import say
from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.files import detect, format_of
from meterpulse.ingest.journal import Progress, key_of
from meterpulse.ingest.mapping import Mapping
from meterpulse.ingest.naming import Names
from meterpulse.ingest.unpack import Content, Unreadable, contents
from meterpulse.model.channel import Channel
from meterpulse.model.problem import Problem

# Sources that begin so are history: they make their days dirty and do not move the watermark.
IMPORT = "import:"


@dataclass
class Outcome:
    """What became of one file: `done`, `taken in before`, `skipped` (in a folder, and no readings), or `failed`."""

    name: str
    format: str = ""
    state: str = "done"
    accepted: int = 0
    created: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    error: str = ""

    def facts(self) -> dict[str, Any]:
        """As --json prints it."""
        facts: dict[str, Any] = {
            "file": self.name,
            "format": self.format or None,
            "state": self.state,
            "accepted": self.accepted,
            "quarantined": sum(self.reasons.values()),
            "reasons": dict(sorted(self.reasons.items())),
            "channels_created": self.created,
        }
        facts |= {"ignored": dict(sorted(self.ignored.items()))} if self.ignored else {}
        return facts | ({"error": self.error} if self.error else {})


@dataclass
class Taking:
    """How files are taken in. `registers` tells whether channels may have come into being since the last time."""

    place: City
    bar: Bar
    format: str | None = None
    mapping: Path | None = None
    id_template: str | None = None
    registers: bool = False
    implied: Literal["created", "left"] = "left"
    known: Literal["skipped", "sent"] = "skipped"

    def __post_init__(self) -> None:
        self._mapping = Mapping.of(self.mapping) if self.mapping else None
        self._known_channels: set[str] = set()

    def file(self, name: str, in_folder: bool) -> Iterator[Outcome]:
        """The outcome of each content behind a name; one that fails does not stop the others."""
        left = Path(name).stat().st_size if name != "-" else 0
        for content in contents(name, in_folder):
            if isinstance(content, Unreadable):
                yield self._failed(Outcome(content.name), content.error)
                continue
            outcome = Outcome(content.name)
            moved = left if str(content.path) == name else 0
            try:
                self._take(content, outcome, moved)
            except (OSError, Problem) as error:
                if isinstance(error, Problem) and error.status >= 500 or isinstance(error, ConnectionError):
                    raise
                self._failed(outcome, error, content.found)
            yield outcome
            left -= moved
        self.bar.advance(left)

    def _failed(self, outcome: Outcome, error: Exception, found: str = "named") -> Outcome:
        detail = error.detail if isinstance(error, Problem) else str(error)
        unknown = isinstance(error, Problem) and error.status == 415 and found == "inside" and not outcome.format
        outcome.state, outcome.error = ("skipped" if unknown else "failed"), detail
        if unknown:
            say(f"{outcome.name} is in no known format and left out")
        else:
            say(detail if Path(outcome.name).name in detail else f"{outcome.name}: {detail}")
        return outcome

    def _take(self, content: Content, outcome: Outcome, size: int) -> None:
        self.bar.advance(0, content.name)
        outcome.format = self._format_name(content.path)
        key = self._key(content.path, outcome.format)
        progress = self.place.backing.imported(key) if self.known == "skipped" else None
        if progress is not None and self.registers and "unknown_channel" in progress.reasons:
            progress = None  # the rows that lacked a channel may have one now
        if progress is not None and progress.done:
            outcome.state = "taken in before"
            say(f"{content.name} was taken in before; --restart sends it again")
        else:
            progress = self._send(content, key, progress or Progress(content.name, outcome.format), size)
        outcome.accepted, outcome.reasons, outcome.ignored = progress.accepted, progress.reasons, progress.ignored
        outcome.created = progress.created if outcome.state == "done" else 0

    def _send(self, content: Content, key: str, progress: Progress, size: int) -> Progress:
        source = IMPORT + content.name.rpartition("/")[2] if "/" in content.name else IMPORT + content.name
        names = Names(self.id_template, content.path) if self.id_template else None
        reader, done = self._reader(progress.format), 0
        for batch in reader.read(content.path, progress.position):
            self._send_batch(names.renamed(batch) if names else batch, source, progress)
            progress.position = batch.position
            self.place.backing.note_import(key, progress)
            # A position counts bytes in text and rows in Parquet, where the bar jumps at the end of the file.
            self.bar.advance(min(batch.position, size) - done, content.name)
            done = min(batch.position, size)
        self.bar.advance(size - done)
        progress.done = True
        self.place.backing.note_import(key, progress)
        return progress

    def _send_batch(self, batch: FileBatch, source: str, progress: Progress) -> None:
        if self.implied == "created" and batch.channels:
            progress.created += self._register(batch.channels)
        accepted, reasons = 0, dict[str, int]()
        if batch.rejected:
            self.place.backing.refuse(batch.rejected, source)
            for row in batch.rejected:
                reasons[row.reason] = reasons.get(row.reason, 0) + 1
        if batch.rows:
            answer = self.place.backing.ingest(batch.body, batch.media_type, source)
            accepted = answer["accepted"]
            for reason, count in answer["reasons"].items():
                reasons[reason] = reasons.get(reason, 0) + count
        progress.add(accepted, reasons, batch.ignored)

    def _format_name(self, path: Path) -> str:
        return "mapping" if self._mapping else self.format or detect(path)

    def _reader(self, format: str) -> Format:
        return self._mapping or format_of(format)

    def _key(self, path: Path, format: str) -> str:
        # Some formats take the meter's name from the file's, so that is a part of how it is read.
        mapping = self.mapping.read_text(encoding="utf-8") if self.mapping else ""
        return key_of(path, format, mapping, self.id_template or "", path.name)

    def _register(self, channels: list[Channel]) -> int:
        """Registers those that do not exist yet; how many were."""
        import pyarrow as pa

        from meterpulse.registry.listing import SCHEMA

        unseen = [channel for channel in channels if channel.id not in self._known_channels]
        new = [channel.to_dict() for channel in unseen if self.place.channel(channel.id) is None]
        self._known_channels |= {channel.id for channel in unseen}
        if not new:
            return 0
        schema = pa.schema([field for field in SCHEMA if field.name != "index"])
        return self.place.backing.register(pa.Table.from_pylist(new, schema))["created"]
