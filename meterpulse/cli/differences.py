"""Speed against batch: `differences`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from meterpulse.cli.options import Csv, Data, Json, Url, city
from meterpulse.cli.output import FINDINGS, put_table, say


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(differences)


def differences(
    day: Annotated[str | None, typer.Option(help="A UTC day such as 2026-03-08.")] = None,
    start: Annotated[str | None, typer.Option(help="The first UTC day, instead of --day.")] = None,
    end: Annotated[str | None, typer.Option(help="The last UTC day.")] = None,
    utility: Annotated[str | None, typer.Option(help="electricity, gas or water.")] = None,
    area: Annotated[str | None, typer.Option(help="An area and those below it.")] = None,
    channel: Annotated[str | None, typer.Option(help="A channel's id.")] = None,
    cause: Annotated[str | None, typer.Option(help="late, revision, duplicate, ..., or unexplained.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many channels (not with --csv).")] = 1000,
    as_json: Json = False,
    as_csv: Csv = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Where batch answers otherwise than speed did, and why. Exits 4 where a difference has no known cause."""
    given = {"day": day, "start": start, "end": end, "utility": utility, "area": area, "channel": channel,
             "cause": cause, "limit": limit}  # fmt: skip
    query = {name: value for name, value in given.items() if value is not None}
    with city(data, url) as place:
        document = json.loads(place.backing.differences(query, "json"), parse_float=str)
        text = place.backing.differences(query, "csv") if as_csv else place.backing.differences(query, "json")
    if as_json or as_csv:
        sys.stdout.write(text.decode().rstrip("\n") + "\n")
    else:
        _show(document)
    if document["unexplained"]:
        say(
            f"meterpulse: {document['unexplained']} windows differ without a known cause; please report this as a defect"
        )
        raise typer.Exit(FINDINGS)


def _show(document: dict) -> None:
    header = ("day", "utility", "area", "difference", "batch", "unit", "share", "windows")
    rows = [
        [*(total[name] for name in header[:6]), _percent(total["share"]), _causes(total["windows"])]
        for total in document["totals"]
    ]
    put_table(rows, header, "by day, utility and area")
    print()
    header = ("day", "channel", "cause", "windows", "speed", "batch", "difference", "unit")
    put_table([[row[name] for name in header] for row in document["rows"]], header)
    if not document["rows"]:
        say("batch says what speed said")
    if document["next"]:
        say("there are more; narrow it down, raise --limit or take --csv")


def _percent(share: str | float | None) -> str:
    return "" if share is None else f"{float(share):.4%}"


def _causes(windows: dict[str, int]) -> str:
    return ", ".join(f"{n} {cause}" for cause, n in windows.items())
