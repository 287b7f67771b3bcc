"""Questions: `usage`, `intervals`, `sql`."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Annotated, Any

import typer

from meterpulse.cli.options import Csv, Data, Json, Url, city, settings
from meterpulse.cli.output import put_csv, put_json, put_table, say

Start = Annotated[str | None, typer.Option(help="From: a date (midnight where the meter is) or a time with an offset.")]
End = Annotated[str | None, typer.Option(help="Up to, not included: a date or a time with an offset.")]
Grain = Annotated[str, typer.Option(help="1m (areas only), 5m, 1h or 1d.")]


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(usage)
    app.command()(intervals)
    app.command()(sql)


def usage(
    channel: Annotated[str | None, typer.Argument(help="A channel's id.")] = None,
    area: Annotated[str | None, typer.Option(help="An area instead of a channel, with --utility.")] = None,
    utility: Annotated[str | None, typer.Option(help="electricity, gas or water.")] = None,
    start: Start = None,
    end: End = None,
    grain: Grain = "1h",
    values: Annotated[
        str, typer.Option(help="measured, or effective: the record, with estimates and edits.")
    ] = "measured",
    as_json: Json = False,
    as_csv: Csv = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """What a channel used, window by window; with --area and --utility, what an area used."""
    _one_subject(channel, area, utility)
    form = "csv" if as_csv else "json"
    with city(data, url) as place:
        which: dict[str, Any] = {"area": area, "utility": utility, "start": start, "end": end}
        answer = place.usage_body(form, channel, **which, grain=grain, values=values)
        dirty = place.status()["dirty_days"]
    if dirty:
        say(f"{dirty} days wait to be computed again; `meterpulse rebuild --dirty` does it now")
    if as_json or as_csv:
        sys.stdout.write(answer.decode().rstrip("\n") + "\n")
        return
    document = json.loads(answer, parse_float=str)
    header = ["start", "quantity", "unit", "count", "min", "max", "quality", "source"]
    rows = [[row[name] for name in header] for row in document["rows"]]
    put_table(rows, header, f"{channel or f'{utility} in {area}'} by {grain}, fresh until {document['fresh_until']}")
    if not rows:
        say("no readings there; `meterpulse status` tells what has arrived")


def intervals(
    channel: Annotated[str, typer.Argument(help="A channel's id.")],
    start: Start = None,
    end: End = None,
    as_of: Annotated[
        str | None, typer.Option(help="What was known then: a date (midnight at the meter) or a time with an offset.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Every version of each interval, the replaced ones too.")
    ] = False,
    as_json: Json = False,
    as_csv: Csv = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """The record: what was measured and what stands in each interval, how good it is, how it was made, since when."""
    with city(data, url) as place:
        form = "csv" if as_csv else "json"
        answer = place.intervals_body(form, channel, start=start, end=end, as_of=as_of, history=history)
    if as_json or as_csv:
        sys.stdout.write(answer.decode().rstrip("\n") + "\n")
        return
    document = json.loads(answer, parse_float=str)
    header = ["start", "measured", "quantity", "unit", "quality", "nem12", "method", "known_at"]
    header += ["known_until", "author", "reason"] if history else []
    put_table([[row[name] for name in header] for row in document["rows"]], header, f"the record of {channel}")


def _one_subject(channel: str | None, area: str | None, utility: str | None) -> None:
    if (channel is None) == (area is None):
        raise typer.BadParameter("name a channel, or an area with --area and --utility")
    if area is not None and utility is None:
        raise typer.BadParameter("an area needs --utility electricity, gas or water")


def sql(
    statement: Annotated[
        str,
        typer.Argument(
            help="A select over readings, channels, areas, usage_5m, usage_1h, usage_1d, differences, intervals, intervals_history."
        ),
    ],
    days: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many of the newest days usage_5m (default: 2), usage_1h and intervals (31) hold."
        ),
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    data: Data = None,
) -> None:
    """Ask anything in SQL (DuckDB) over readings, usage and the registry. Reads only; works beside a running server."""
    from meterpulse.cli.tables import ask

    names, rows = ask(settings(data), statement, days)
    if as_json:
        put_json([dict(zip(names, map(_plain, row), strict=True)) for row in rows])
    elif as_csv:
        put_csv(([_plain(value) for value in row] for row in rows), names)
    else:
        put_table([[_plain(value) for value in row] for row in rows], names)


def _plain(value: Any) -> Any:
    """As JSON holds it exactly: numbers stay numbers up to 15 digits, times are ISO 8601."""
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        return float(value) if len(value.normalize().as_tuple().digits) <= 15 else str(value.normalize())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat().replace("+00:00", "Z") if hasattr(value, "isoformat") else str(value)
