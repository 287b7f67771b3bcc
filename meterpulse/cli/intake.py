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
    from meterpulse.model.channel import Channel

_CHANNELS_A_CALL = 1 << 17
# Sources that begin so are history: they make their days dirty and do not move the watermark.
IMPORT = "import:"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(ingest)


def ingest(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="Files of readings.")],
    format: Annotated[str | None, typer.Option("--format", help="The files' layout (default: recognised).")] = None,
    register: Annotated[bool, typer.Option("--register", help="Create the channels that the files imply.")] = False,
    channels: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Register the channels of this file first.")
    ] = None,
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
        if channels is not None:
            outcome.created += _register_file(place, channels)
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
            outcome.created += _register(place, batch.channels)
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


def _register(place: City, channels: list[Channel]) -> int:
    """Registers those that do not exist yet; how many were."""
    import pyarrow as pa

    from meterpulse.registry.listing import SCHEMA

    new = [channel.to_dict() for channel in channels if place.channel(channel.id) is None]
    if not new:
        return 0
    schema = pa.schema([field for field in SCHEMA if field.name != "index"])
    return place.backing.register(pa.Table.from_pylist(new, schema))["created"]


def _register_file(place: City, file: Path) -> int:
    """Registers the channels of a file; how many are new. Those that are wrong are told and left out."""
    import pyarrow as pa
    import pyarrow.json
    import pyarrow.parquet

    try:
        if file.suffix == ".parquet":
            batches = pa.parquet.ParquetFile(file).iter_batches(_CHANNELS_A_CALL)
        else:
            batches = iter(pa.json.read_json(file).to_batches(_CHANNELS_A_CALL))
        created = 0
        for batch in batches:
            answer = place.backing.register(pa.Table.from_batches([batch]))
            created += answer["created"]
            for error in answer["errors"][:10]:
                say(f"{file.name}: channel {error['position']}: {error['detail']}")
    except pa.ArrowException as error:
        raise typer.BadParameter(
            f"{file}: {error}; channels are read from Parquet, or NDJSON for other names"
        ) from None
    return created
