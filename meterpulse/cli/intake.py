"""`meterpulse ingest`: files become readings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterpulse.cli.options import Data, Json, Url, city
from meterpulse.cli.output import FAILURE, FINDINGS, progress, put_facts, put_json, put_table, say

if TYPE_CHECKING:
    from meterpulse.city import City
    from meterpulse.cli.taking import Outcome

_CHANNELS_A_CALL = 1 << 17


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(ingest)


def ingest(
    files: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns, archives (zip, gzip); - is standard input.")
    ],
    format: Annotated[str | None, typer.Option("--format", help="The files' layout (default: recognised).")] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A TOML file that says what the columns of a table are."),
    ] = None,
    register: Annotated[bool, typer.Option("--register", help="Create the channels that the files imply.")] = False,
    channels: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Register the channels of this file first.")
    ] = None,
    id_template: Annotated[
        str | None,
        typer.Option("--id-template", metavar="TEXT", help="Other ids, of {id}, {meter}, {stream} and {file}."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Send files again that were taken in before.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until everything is in the answers.")] = True,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Take in files of readings, whatever their format. Goes on where it was stopped; a file that was taken in is not
    sent again. Exits 1 where a file could not be read, 4 where rows were quarantined."""
    from meterpulse.cli.taking import Taking
    from meterpulse.ingest.files import format_of
    from meterpulse.ingest.naming import TemplateError, check
    from meterpulse.ingest.unpack import expand

    if mapping is not None and format not in (None, "mapping"):
        raise typer.BadParameter(f"--mapping describes a format of its own; leave --format {format} out")
    if format is not None:
        format_of(format)
    try:
        found = expand(files)
        if id_template is not None:
            check(id_template)
    except (FileNotFoundError, TemplateError) as error:
        raise typer.BadParameter(str(error)) from None
    created = 0
    with city(data, url) as place:
        if channels is not None:
            created = _register_file(place, channels)
        sizes = [Path(name).stat().st_size for name, _ in found if name != "-"]
        with progress("reading", sum(sizes) or None, "bytes") as bar:
            taking = Taking(
                place,
                format=format,
                mapping=mapping,
                id_template=id_template,
                registers=register or channels is not None,
                implied="created" if register else "left",
                known="sent" if restart else "skipped",
                bar=bar,
            )
            outcomes = [outcome for name, in_folder in found for outcome in taking.file(name, in_folder)]
        if wait and any(outcome.accepted for outcome in outcomes) and not _settled(place):
            say("some days are still being computed; `meterpulse status` shows dirty_days 0 when they are done")
    _tell(outcomes, created, as_json)


def _settled(place: City) -> bool:
    """Waits for every reading to be in every answer, for as long as that comes nearer: years of days take their time."""
    left: tuple[int, int] | None = None
    while not place.settle():
        status = place.status()
        now = status["dirty_days"], status["lag"]["readings"]
        if left is not None and now >= left:
            return False
        left = now
        say(f"{now[0]} days are still to be computed")
    return True


def _tell(outcomes: list[Outcome], created: int, as_json: bool) -> None:
    """Prints the summary and ends with the exit code that it asks for."""
    facts = _facts(outcomes, created)
    if as_json:
        put_json(facts | {"files": [outcome.facts() for outcome in outcomes]})
    else:
        put_facts(facts)
        if len(outcomes) > 1:
            rows = [(o.name, o.format, o.state, o.accepted, sum(o.reasons.values())) for o in outcomes]
            put_table(rows, ("file", "format", "state", "accepted", "quarantined"))
    unread = [outcome for outcome in outcomes if outcome.error]
    failed = [outcome for outcome in unread if outcome.state == "failed"]
    if failed or len(unread) == len(outcomes):
        raise typer.Exit(FAILURE)
    if facts["quarantined"]:
        say("`meterpulse quarantine list` shows the rows that did not count")
        if facts["reasons"].get("unknown_channel"):
            say("--register creates the channels that the files imply")
        raise typer.Exit(FINDINGS)


def _facts(outcomes: list[Outcome], created: int) -> dict[str, Any]:
    reasons: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    for outcome in outcomes:
        reasons.update(outcome.reasons)
        ignored.update(outcome.ignored)
    facts = {
        "accepted": sum(outcome.accepted for outcome in outcomes),
        "quarantined": reasons.total(),
        "reasons": dict(sorted(reasons.items())),
        "channels_created": created + sum(outcome.created for outcome in outcomes),
    }
    return facts | ({"ignored": dict(sorted(ignored.items()))} if ignored else {})


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
