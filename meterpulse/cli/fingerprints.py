"""`fingerprints`: whether derived tables are the same as before, to the last bit."""

from __future__ import annotations

from typing import Annotated

import typer

from meterpulse.cli.options import Data, Json, Url, city
from meterpulse.cli.output import put_json, put_table, say


def add_to(app: typer.Typer) -> None:
    """Add this group's command."""
    app.command()(fingerprints)


def fingerprints(
    start: Annotated[str | None, typer.Option(help="The first UTC day, such as 2026-03-08.")] = None,
    end: Annotated[str | None, typer.Option(help="The UTC day after the last one.")] = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """A fingerprint of every derived table and day. Equal before and after a rebuild: everything came back, bit for bit."""
    with city(data, url) as place:
        answer = place.backing.desk("fingerprints", {"start": start, "end": end})
    if as_json:
        put_json(answer)
        return
    header = ("day", "view", "rows", "fingerprint")
    put_table([[row[name] for name in header] for row in answer["rows"]], header)
    say(f"in all: {answer['fingerprint']}")
