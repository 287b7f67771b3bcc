"""The work list: `exceptions list`, `show`, `assign`, and what can be decided about them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from meterpulse.cli.deciding import (
    Area,
    Author,
    Change,
    Channel,
    End,
    Numbers,
    Preview,
    Reason,
    Rule,
    Start,
    Utility,
    decide,
    me,
    undo,
)
from meterpulse.cli.options import Csv, Data, Json, Url, city
from meterpulse.cli.output import put_csv, put_facts, put_json, put_table, say

_exceptions = typer.Typer(no_args_is_help=True, help="The work list: what rules found wrong, waiting for a decision.")
_COLUMNS = (
    "number", "rule", "channel", "start", "end", "quantity", "unit", "weight", "state", "assignee", "resolution", "change",
    "words",
)  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    for action, explained in (
        ("interpolate", "Put a straight line between the neighbouring values into the intervals."),
        ("copy-week", "Put the values of the same hours a week earlier into the intervals."),
        ("leave", "Resolve exceptions and change nothing: the values stay as they are graded."),
    ):
        _exceptions.command(action, help=explained)(_acting(action.replace("-", " ")))
    app.add_typer(_exceptions, name="exceptions")


@_exceptions.command("list")
def exceptions_list(
    state: Annotated[
        str, typer.Option(help="waiting (open or assigned), open, assigned, resolved, or all.")
    ] = "waiting",
    rule: Rule = None,
    utility: Utility = None,
    area: Area = None,
    assignee: Annotated[str | None, typer.Option(help="Only of this person.")] = None,
    channel: Channel = None,
    start: Start = None,
    end: End = None,
    opened_before: Annotated[
        str | None, typer.Option(help="Only what has waited since before this time, with an offset.")
    ] = None,
    sort: Annotated[str, typer.Option(help="weight (the heaviest first), age or newest.")] = "weight",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    as_json: Json = False,
    as_csv: Csv = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """The work list: what rules found wrong, the heaviest first."""
    asked = {"rule": rule, "utility": utility, "area": area, "assignee": assignee, "channel": channel, "start": start,
             "end": end, "opened_before": opened_before, "state": None if state == "all" else state, "sort": sort,
             "limit": limit}  # fmt: skip
    with city(data, url) as place:
        page = place.backing.desk("exceptions", asked)
    if as_json:
        put_json(page)
        return
    rows = [[row[name] for name in _COLUMNS] for row in page["exceptions"]]
    put_csv(rows, _COLUMNS) if as_csv else put_table(rows, _COLUMNS)
    total = sum(count["count"] for count in page["counts"])
    if total > len(rows):
        say(f"{len(rows)} of {total}; --limit shows more")
    if not total:
        say("nothing waits" if state == "waiting" else "there are none of that kind")


@_exceptions.command("show")
def exceptions_show(
    number: Annotated[int, typer.Argument(help="The exception's number, from `exceptions list`.")],
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """One exception: its evidence, its values half a day on both sides, and what happened to it."""
    with city(data, url) as place:
        one = place.backing.desk("exception", {"number": number})
    if as_json:
        put_json(one)
        return
    intervals, history = one.pop("intervals"), one.pop("history")
    put_facts(one)
    header = ("start", "raw", "effective", "quality", "mark", "")
    inside = [one["start"] <= row["start"] < one["end"] for row in intervals]
    put_table([[*row.values(), "◀" if it else ""] for row, it in zip(intervals, inside, strict=True)], header)
    put_table([[e["at"], e["event"], e["author"], e["note"]] for e in history], ("at", "event", "by", "note"))


@_exceptions.command("assign")
def exceptions_assign(
    numbers: Annotated[list[int], typer.Argument(help="Exceptions by number.")],
    to: Annotated[str | None, typer.Option(help="Who gets them; left out: back to the queue.")] = None,
    author: Author = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Give exceptions to somebody, or back to the queue."""
    given = {"exceptions": numbers, "assignee": to, "author": author or me()}
    with city(data, url) as place:
        answer = place.backing.desk("assign", given)
    put_json(answer) if as_json else put_facts(answer)


@_exceptions.command("accept")
def exceptions_accept(
    numbers: Numbers = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Accept the estimate instead of the measured value.")
    ] = False,
    reason: Reason = "",
    author: Author = None,
    preview: Preview = False,
    rule: Rule = None,
    utility: Utility = None,
    area: Area = None,
    channel: Channel = None,
    start: Start = None,
    end: End = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Let the measured values stand as they are, or with --estimate the estimated ones."""
    which = _which(numbers, rule=rule, utility=utility, area=area, channel=channel, start=start, end=end)
    decide("accept estimate" if estimate else "accept raw", which, reason, author, preview, as_json, data, url)


@_exceptions.command("set")
def exceptions_set(
    numbers: Annotated[list[int], typer.Argument(help="Exceptions by number.")],
    value: Annotated[list[str], typer.Option(help="In the channel's unit: once for all intervals, or once for each.")],
    reason: Reason = "",
    author: Author = None,
    preview: Preview = False,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Put values of your own into the intervals of exceptions."""
    decide("set", {"exceptions": numbers, "values": value}, reason, author, preview, as_json, data, url)


@_exceptions.command("undo")
def exceptions_undo(
    change: Change,
    reason: Reason = "",
    author: Author = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Take a decision back; its exceptions wait again."""
    undo(change, reason, author, as_json, data, url)


def _acting(action: str) -> Any:
    def act(
        numbers: Numbers = None,
        reason: Reason = "",
        author: Author = None,
        preview: Preview = False,
        rule: Rule = None,
        utility: Utility = None,
        area: Area = None,
        channel: Channel = None,
        start: Start = None,
        end: End = None,
        as_json: Json = False,
        data: Data = None,
        url: Url = None,
    ) -> None:
        which = _which(numbers, rule=rule, utility=utility, area=area, channel=channel, start=start, end=end)
        decide(action, which, reason, author, preview, as_json, data, url)

    return act


def _which(numbers: list[int] | None, **filters: str | None) -> dict[str, Any]:
    given = {name: value for name, value in filters.items() if value is not None}
    if bool(numbers) == bool(given):
        raise typer.BadParameter(
            "name exceptions by number, or choose those that wait with --rule, --area, --channel, ..."
        )
    return {"exceptions": numbers} if numbers else {"filter": given}
