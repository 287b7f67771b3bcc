"""The ledger of edits: `edits list`, `show`, `set`, `undo`."""

from __future__ import annotations

from typing import Annotated

import typer

from meterpulse.cli.deciding import Author, Change, Channel, Preview, Reason, decide, undo
from meterpulse.cli.options import Data, Json, Url, city
from meterpulse.cli.output import put_facts, put_json, put_table, say

_edits = typer.Typer(no_args_is_help=True, help="What people decided about values: look, set, undo.")


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(_edits, name="edits")


@_edits.command("list")
def edits_list(
    channel: Channel = None,
    author: Annotated[str | None, typer.Option(help="Only by this person.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Who decided what, when and why; the newest first."""
    with city(data, url) as place:
        found = place.changes(channel=channel, author=author, limit=limit)
    if as_json:
        put_json(found)
        return
    header = ("change", "at", "author", "action", "values", "start", "undoes", "undone", "reason")
    put_table([[row[name] for name in header] for row in found], header)
    if not found:
        say("nobody has decided anything yet")


@_edits.command("show")
def edits_show(change: Change, as_json: Json = False, data: Data = None, url: Url = None) -> None:
    """One change and the intervals that it is about."""
    with city(data, url) as place:
        one = place.backing.desk("change", {"change": change})
    if as_json:
        put_json(one)
        return
    spans = one.pop("spans")
    put_facts(one)
    put_table([[span["channel"], span["start"], span["end"]] for span in spans], ("channel", "start", "end"))


@_edits.command("set")
def edits_set(
    channel: Annotated[str, typer.Argument(help="A channel's id.")],
    start: Annotated[str, typer.Option(help="The first interval's start, with an offset.")],
    end: Annotated[str, typer.Option(help="The last interval's end, with an offset.")],
    value: Annotated[list[str], typer.Option(help="In the channel's unit: once for all intervals, or once for each.")],
    reason: Reason = "",
    author: Author = None,
    preview: Preview = False,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Put values of your own into intervals of a channel, whether a rule complains or not."""
    which = {"channel": channel, "start": start, "end": end, "values": value}
    decide("set", which, reason, author, preview, as_json, data, url)


@_edits.command("undo")
def edits_undo(
    change: Change,
    reason: Reason = "",
    author: Author = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Take a change back. It stays told, and the undo is told beside it."""
    undo(change, reason, author, as_json, data, url)
