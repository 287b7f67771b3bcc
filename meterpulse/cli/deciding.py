"""What the commands that decide about values share: their options, and showing what came of it."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from meterpulse.cli.options import city
from meterpulse.cli.output import FINDINGS, put_facts, put_json, put_table, say

Numbers = Annotated[list[int] | None, typer.Argument(help="Exceptions by number; none: those of the filters.")]
Author = Annotated[str | None, typer.Option(help="Who decides (default: you).")]
Reason = Annotated[str, typer.Option(help="Why; others will read it.")]
Preview = Annotated[bool, typer.Option("--preview", help="Only show what would change.")]
Rule = Annotated[str | None, typer.Option(help="Only of this rule, such as V10.")]
Utility = Annotated[str | None, typer.Option(help="electricity, gas or water.")]
Area = Annotated[str | None, typer.Option(help="Only of this area.")]
Channel = Annotated[str | None, typer.Option(help="Only of this channel.")]
Start = Annotated[str | None, typer.Option(help="Only after this time, with an offset.")]
End = Annotated[str | None, typer.Option(help="Only before this time, with an offset.")]
Change = Annotated[int, typer.Argument(help="The change's number, from `edits list`.")]


def me() -> str:
    """Who runs this command."""
    return getpass.getuser()


def decide(
    action: str,
    which: dict[str, Any],
    reason: str,
    author: str | None,
    preview: bool,
    as_json: bool,
    data: Any,
    url: Any,
) -> None:
    """Shows what the action would do, or does it. Exits 4 where it did not fit some of the intervals."""
    if not preview and not reason.strip():
        raise typer.BadParameter("say why with --reason, or look first with --preview")
    with city(data, url) as place:
        if preview:
            answer = place.preview(action, **which)
        else:
            answer = place.decide(action, author=author or me(), reason=reason, **which)
    if as_json:
        put_json(answer)
    elif preview:
        _show_preview(answer)
    else:
        say(f"change {answer['change']}; `meterpulse edits undo {answer['change']}` takes it back")
        put_facts({name: answer[name] for name in ("change", "resolved", "edits")} | {"days": " ".join(answer["days"])})
        _show_refused(answer)
    if answer["refused_count"]:
        raise typer.Exit(FINDINGS)


def _show_preview(answer: dict[str, Any]) -> None:
    rows = [
        (item.get("number"), item["channel"], row["start"], row["effective"], row["proposed"], item["unit"])
        for item in answer["items"]
        for row in item["intervals"]
    ]
    put_table(rows, ("exception", "channel", "start", "stands", "would be", "unit"))
    for total in answer["totals"]:
        say(f"{total['utility']}: {total['before']} → {total['after']} {total['unit']} ({total['difference']:+})")
    if answer["count"] > len(answer["items"]):
        say(f"the first {len(answer['items'])} of {answer['count']} are shown; the sums are of all")
    _show_refused(answer)


def _show_refused(answer: dict[str, Any]) -> None:
    for one in answer["refused"]:
        say(f"not {one.get('number', '')} {one['channel']} {one['start']}: {one['reason']}")
    if answer["refused_count"] > len(answer["refused"]):
        say(f"and {answer['refused_count'] - len(answer['refused'])} more")


def undo(change: int, reason: str, author: str | None, as_json: bool, data: Any, url: Any) -> None:
    """Takes a change back."""
    if not reason.strip():
        raise typer.BadParameter("say why with --reason")
    with city(data, url) as place:
        answer = place.undo(change, author=author or me(), reason=reason)
    put_json(answer) if as_json else put_facts(answer | {"days": " ".join(answer["days"])})
