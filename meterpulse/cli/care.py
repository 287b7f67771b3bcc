"""Looking after the data: `status`, `doctor`, `quarantine`, `rebuild`, `compact`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from meterpulse.cli.options import Data, Json, Url, city, settings
from meterpulse.cli.output import FAILURE, FINDINGS, complain, progress, put_facts, put_json, put_table, say

_quarantine = typer.Typer(no_args_is_help=True, help="Rows that did not count: look, replay, export.")
_PAGE = 1000


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(status)
    app.command()(doctor)
    app.command()(rebuild)
    app.command()(compact)
    app.add_typer(_quarantine, name="quarantine")


def status(as_json: Json = False, data: Data = None, url: Url = None) -> None:
    """What has arrived, how fresh the answers are, and what is still to be done."""
    with city(data, url) as place:
        facts = place.status()
    put_json(facts) if as_json else put_facts(facts, place.place)


def doctor(as_json: Json = False, data: Data = None) -> None:
    """Examine this machine and the data; exits 4 where data is damaged, 1 where something else is wrong."""
    from meterpulse.cli.checkup import examine

    findings = examine(settings(data))
    if as_json:
        put_json([finding.__dict__ for finding in findings])
    else:
        put_table([(finding.verdict, finding.what, finding.detail) for finding in findings], ["", "what", "detail"])
    if any(finding.verdict == "damaged" for finding in findings):
        raise typer.Exit(FINDINGS)
    if any(finding.verdict == "wrong" for finding in findings):
        raise typer.Exit(FAILURE)


def rebuild(
    day: Annotated[list[str] | None, typer.Option(help="A UTC day such as 2026-03-08; may be repeated.")] = None,
    dirty: Annotated[bool, typer.Option("--dirty", help="The days that are dirty (this is the default).")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every day of the lake.")] = False,
    start: Annotated[str | None, typer.Option(help="The first UTC day, with or without --end.")] = None,
    end: Annotated[str | None, typer.Option(help="The last UTC day.")] = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Compute days anew from the lake. Rebuilding a day twice gives the same day; what was stopped goes on at the next start."""
    if sum((bool(day), dirty, everything, bool(start or end))) > 1:
        raise typer.BadParameter("choose one of --day, --dirty, --all, and --start with --end")
    _check_days([*(day or []), *(text for text in (start, end) if text)])
    wanted = {"days": day or None, "start": start, "end": end, "all": everything}
    with city(data, url) as place, progress("rebuilding", None) as bar:
        seen = 0

        def told(plan: dict[str, Any]) -> None:
            nonlocal seen
            bar.of(plan["total"])
            bar.advance(plan["total"] - plan["left"] - seen, f"rebuilding {plan['next']}")
            seen = plan["total"] - plan["left"]

        answer = place.backing.rebuild({name: value for name, value in wanted.items() if value}, told)
    if as_json:
        put_json(answer)
    else:
        put_table([list(report.values()) for report in answer["days"]], ["day", "rows", "effective", "seconds"])
    for failed, why in answer["failed"].items():
        complain(f"{failed}: {why}")
    if answer["failed"]:
        raise typer.Exit(FAILURE)


def _check_days(days: list[str]) -> None:
    from datetime import date

    for day in days:
        try:
            date.fromisoformat(day)
        except ValueError:
            raise typer.BadParameter(f"{day!r} is not a day; write it like 2026-03-08") from None


def compact(as_json: Json = False, data: Data = None, url: Url = None) -> None:
    """Merge the small files of days that have closed; answers stay the same."""
    with city(data, url) as place:
        answer = place.backing.compact()
    put_json(answer) if as_json else put_facts(answer)


@_quarantine.command("list")
def quarantine_list(
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 50,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """The rows that did not count, oldest first, with their reasons."""
    with city(data, url) as place:
        rows = _rows(place, limit)
    if as_json:
        put_json(rows)
        return
    header = ["key", "reason", "detail", "source", "received", "original"]
    put_table([[_short(row.get(name)) for name in header] for row in rows], header)


@_quarantine.command("show")
def quarantine_show(
    key: Annotated[int, typer.Argument(help="The row's key, from `quarantine list`.")],
    data: Data = None,
    url: Url = None,
) -> None:
    """One row whole: its reason and its bytes as they came."""
    with city(data, url) as place:
        rows = place.backing.quarantine(key - 1, 1)["rows"]
    if not rows or rows[0]["key"] != key:
        say(f"meterpulse: there is no row {key} in quarantine; `meterpulse quarantine list` shows what is")
        raise typer.Exit(FAILURE)
    put_json(rows[0])


@_quarantine.command("replay")
def quarantine_replay(
    key: Annotated[list[int] | None, typer.Option(help="Only this row; may be repeated.")] = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Send rows through ingest again, after what refused them was mended. Exits 4 where some are refused again."""
    with city(data, url) as place:
        answer = place.backing.replay(key)
        place.settle()
    put_json(answer) if as_json else put_facts(answer)
    if answer.get("quarantined"):
        raise typer.Exit(FINDINGS)


@_quarantine.command("export")
def quarantine_export(
    to: Annotated[Path | None, typer.Option("--to", "-o", help="A file (default: stdout).")] = None,
    data: Data = None,
    url: Url = None,
) -> None:
    """The original bytes of every row, one a line, as they came."""
    with city(data, url) as place:
        rows = _rows(place, None)
    lines = b"".join(_original(row) + b"\n" for row in rows)
    if to is None:
        sys.stdout.buffer.write(lines)
    else:
        to.write_bytes(lines)
    say(f"{len(rows)} rows")


def _rows(place: Any, limit: int | None) -> list[dict[str, Any]]:
    """Rows in quarantine, page by page; None asks for all."""
    rows: list[dict[str, Any]] = []
    while limit is None or len(rows) < limit:
        size = _PAGE if limit is None else min(_PAGE, limit - len(rows))
        page = place.backing.quarantine(rows[-1]["key"] if rows else 0, size)["rows"]
        rows += page
        if len(page) < size:
            break
    return rows


def _original(row: dict[str, Any]) -> bytes:
    """The bytes of a row: text where it was UTF-8, else base64."""
    if row.get("original_base64"):
        import base64

        return base64.b64decode(row["original_base64"])
    return str(row["original"]).encode()


def _short(value: Any) -> Any:
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
