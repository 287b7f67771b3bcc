"""`meterpulse ingest`: files become readings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterpulse.cli.options import Data, Json, Url, city
from meterpulse.cli.output import FINDINGS, Progress, progress, put_facts, put_json, say

if TYPE_CHECKING:
    from meterpulse.city import City

_CHANNELS_A_CALL = 10_000
# Sources that begin so are history: they make their days dirty and do not move the watermark.
IMPORT = "import:"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(ingest)


def ingest(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="Files of readings.")],
    format: Annotated[str | None, typer.Option("--format", help="The files' layout (default: recognised).")] = None,
    register: Annotated[bool, typer.Option("--register", help="Create the channels that the files imply.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything is in the answers.")] = True,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Take in files: CSV, NDJSON, Parquet, Arrow, London's half hours. Exits 4 where rows were quarantined."""
    from meterpulse.ingest.files import detect, format_of

    formats = {file: format or detect(file) for file in files}
    for name in set(formats.values()):
        format_of(name)
    outcome = _Outcome()
    with city(data, url) as place:
        with progress("reading", sum(file.stat().st_size for file in files), "bytes") as bar:
            for file in files:
                _take(place, file, formats[file], register, outcome, bar)
        if wait and outcome.accepted and not place.settle():
            say("some days are still being computed; `meterpulse status` shows dirty_days 0 when they are done")
    put_json(outcome.facts()) if as_json else put_facts(outcome.facts())
    if outcome.quarantined:
        say("`meterpulse quarantine list` shows the rows that did not count")
        raise typer.Exit(FINDINGS)


class _Outcome:
    """What became of the rows of all files."""

    def __init__(self) -> None:
        self.accepted = self.created = 0
        self.reasons: Counter[str] = Counter()

    @property
    def quarantined(self) -> int:
        return self.reasons.total()

    def facts(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "quarantined": self.quarantined,
            "reasons": dict(sorted(self.reasons.items())),
            "channels_created": self.created,
        }


def _take(place: City, file: Path, format: str, register: bool, outcome: _Outcome, bar: Progress) -> None:
    from meterpulse.ingest.files import read

    size, done = file.stat().st_size, 0
    for batch in read(file, format):
        if register and batch.channels:
            outcome.created += _register(place, [channel.to_dict() for channel in batch.channels])
        if batch.rejected:
            place.backing.refuse(batch.rejected, IMPORT + file.name)
            outcome.reasons.update(row.reason for row in batch.rejected)
        if batch.rows:
            answer = place.backing.ingest(batch.body, batch.media_type, IMPORT + file.name)
            outcome.accepted += answer["accepted"]
            outcome.reasons.update(answer["reasons"])
        # A position counts bytes in text and rows in Parquet, where the bar jumps at the end of the file.
        bar.advance(min(batch.position, size) - done, file.name)
        done = min(batch.position, size)
    bar.advance(size - done)


def _register(place: City, channels: list[dict[str, Any]]) -> int:
    """Registers those that do not exist yet; how many were."""
    new = [channel for channel in channels if place.channel(channel["id"]) is None]
    for at in range(0, len(new), _CHANNELS_A_CALL):
        place.backing.register(new[at : at + _CHANNELS_A_CALL])
    return len(new)
