"""The desk over HTTP: /v1/exceptions and /v1/edits."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import Body, FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from meterpulse.model.problem import Problem
from meterpulse.serving import desk
from meterpulse.serving.answers import MEDIA
from meterpulse.serving.deskjson import Span
from meterpulse.serving.fingerprints import fingerprints

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_WORDS = "set, interpolate, copy week, accept raw, accept estimate or leave"
_EXAMPLE_EXCEPTION = {
    "number": 412, "channel": "E-0001", "utility": "electricity", "area": "10003", "rule": "V10", "title": "Spike",
    "words": "21 kWh, where the day's other values allow 1.8 kWh, 11.7 times that.", "start": "2026-03-08T12:00:00Z",
    "end": "2026-03-08T12:15:00Z", "seconds": 900, "measured": 21000000, "limit": 1800000, "quantity": 9.75, "unit": "kWh",
    "weight": 2.438, "state": "open", "assignee": None, "resolution": None, "change": None, "opened": "2026-03-09T02:00:11Z",
    "changed": "2026-03-09T02:00:11Z",
}  # fmt: skip
_EXAMPLE_DECISION = {
    "exceptions": [412], "action": "interpolate", "author": "ana", "reason": "the meter was read during an exchange",
    "fingerprint": "5b6f0e2a9d1c44e0a7c3b1d2",
}  # fmt: skip
_EXAMPLE_DONE = {"change": 7, "resolved": 1, "edits": 1, "days": ["2026-03-08"], "refused": [], "refused_count": 0}
_EXAMPLE_EDIT = {
    "channel": "E-0001", "start": "2026-03-08T12:00:00Z", "end": "2026-03-08T12:30:00Z", "action": "set", "values": ["0.25", "0.3"],
    "author": "ana", "reason": "read off the meter's display",
}  # fmt: skip
_CSV = (
    "number", "channel", "utility", "area", "rule", "title", "words", "start", "end", "measured", "limit", "quantity", "unit",
    "weight", "state", "assignee", "resolution", "change", "opened", "changed",
)  # fmt: skip


class Which(BaseModel):
    """Exceptions by what they have in common; only those that wait are decided about."""

    model_config = ConfigDict(extra="forbid")

    rule: str | None = None
    utility: str | None = None
    area: str | None = None
    assignee: str | None = None
    channel: str | None = None
    start: str | None = None
    end: str | None = None
    opened_before: str | None = None


class Proposed(BaseModel):
    """What to try: an action on exceptions by number or by filter, or on intervals of a channel."""

    model_config = ConfigDict(extra="forbid")

    action: str = Field(description=_WORDS)
    exceptions: list[int] | None = None
    filter: Which | None = None
    channel: str | None = None
    start: str | None = None
    end: str | None = None
    values: list[str | int | float] | None = Field(None, description="for set: one for all intervals, or one for each")


class Decided(Proposed):
    """What to do, by whom and why. With the fingerprint of a preview: only if the values are still the same."""

    author: str
    reason: str
    fingerprint: str | None = None


class Undone(BaseModel):
    """Who takes a change back, and why."""

    model_config = ConfigDict(extra="forbid")

    author: str
    reason: str


class Assigned(Undone):
    """Who gets exceptions; null gives them back to the queue."""

    reason: str = ""
    exceptions: list[int]
    assignee: str | None


def add_desk(app: FastAPI, p: Pipeline) -> None:
    """Adds the routes."""
    _exceptions(app, p)
    _decisions(app, p)
    _edits(app, p)
    _fingerprints(app, p)


def _exceptions(app: FastAPI, p: Pipeline) -> None:
    def listed(form: str) -> Any:
        def exceptions(
            state: Annotated[
                str | None, Query(description="waiting (open or assigned), open, assigned, resolved")
            ] = None,
            rule: Annotated[str | None, Query(examples=["V10"])] = None,
            utility: str | None = None,
            area: str | None = None,
            assignee: str | None = None,
            channel: str | None = None,
            start: str | None = None,
            end: str | None = None,
            opened_before: Annotated[str | None, Query(description="waiting since before this time")] = None,
            sort: Annotated[str, Query(description="weight, age or newest")] = "weight",
            after: Annotated[str | None, Query(description="`next` of the page before")] = None,
            limit: Annotated[int, Query(ge=1, le=1000)] = 50,
            around: Annotated[str | None, Query(description="values: with the values around each")] = None,
        ) -> Response:
            """The work list: what rules found wrong, and where its handling stands."""
            given = {"state": state, "rule": rule, "utility": utility, "area": area, "assignee": assignee,
                     "channel": channel, "start": start, "end": end,
                     "opened_before": opened_before}  # fmt: skip
            page = desk.exceptions(p, desk.filter_of(p, given), sort, after, limit, around)
            body = _csv(page["exceptions"]) if form == "csv" else orjson.dumps(page)
            return Response(body, media_type=MEDIA[form])

        return exceptions

    page = {
        200: {
            "content": {
                "application/json": {"example": {"exceptions": [_EXAMPLE_EXCEPTION], "next": None, "counts": []}}
            }
        }
    }
    app.get("/v1/exceptions", response_class=Response, responses=page, name="exceptions")(listed("json"))
    app.get("/v1/exceptions.csv", response_class=Response, name="exceptions_csv")(listed("csv"))

    @app.get("/v1/exceptions/{number}")
    def exception(number: int) -> Response:
        """One exception with its history, and its values half a day on both sides."""
        return _json(desk.exception(p, number))

    @app.post("/v1/exceptions/assign")
    async def assign(given: Assigned) -> Response:
        """Give exceptions to somebody, or back to the queue."""
        work = (desk.assign, p, given.exceptions, given.assignee, given.author)
        return _json(await asyncio.to_thread(*work))


def _decisions(app: FastAPI, p: Pipeline) -> None:
    @app.post("/v1/edits/preview")
    async def preview(
        given: Annotated[Proposed, Body(examples=[{"exceptions": [412], "action": "interpolate"}])],
    ) -> Response:
        """What an action would change, and by how much. Nothing is written."""

        return _json(await asyncio.to_thread(answer, p, "preview", given.model_dump()))

    done = {200: {"content": {"application/json": {"example": _EXAMPLE_DONE}}}}

    @app.post("/v1/edits", responses=done)
    async def commit(given: Annotated[Decided, Body(examples=[_EXAMPLE_DECISION, _EXAMPLE_EDIT])]) -> Response:
        """Decide. The days concerned are built again; the answer comes when the decision is on disk."""

        return _json(await asyncio.to_thread(answer, p, "decide", given.model_dump()))

    @app.post("/v1/edits/{change}/undo")
    async def undo(change: int, given: Undone) -> Response:
        """Take a change back: its values are no longer in force, its exceptions wait again. The change itself stays told."""
        return _json(await asyncio.to_thread(desk.undo, p, change, given.author, given.reason))


def _edits(app: FastAPI, p: Pipeline) -> None:
    @app.get("/v1/edits")
    def edits(
        before: Annotated[int | None, Query(description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        channel: str | None = None,
        author: str | None = None,
    ) -> Response:
        """Who decided what, when and why; the newest first."""
        return _json(desk.changes(p, before, limit, channel, author))

    @app.get("/v1/edits/{change}")
    def edit(change: int) -> Response:
        """One change and the intervals that it is about."""
        return _json(desk.change(p, change))


def _fingerprints(app: FastAPI, p: Pipeline) -> None:
    @app.get("/v1/fingerprints")
    def listed(
        start: Annotated[str | None, Query(description="the first UTC day", examples=["2026-03-08"])] = None,
        end: Annotated[str | None, Query(description="the UTC day after the last one")] = None,
    ) -> Response:
        """A fingerprint of each derived table and day; equal ones mean equal tables, to the last bit."""
        return _json(fingerprints(p, start, end))


def answer(p: Pipeline, question: str, given: dict[str, Any]) -> dict[str, Any]:
    """What the API answers, without HTTP: `question` is one of exceptions, exception, assign, preview, decide, undo, changes,
    change and fingerprints, `given` what its body or its query would be. Raises Problem."""
    return _ANSWERS[question](p, given)


def _exceptions_of(p: Pipeline, given: dict[str, Any]) -> dict[str, Any]:
    sort, after, limit = given.get("sort") or "weight", given.get("after"), given.get("limit") or 50
    return desk.exceptions(p, desk.filter_of(p, given), sort, after, limit, given.get("around"))


def _preview_of(p: Pipeline, given: dict[str, Any]) -> dict[str, Any]:
    asked = Proposed(**given)
    return desk.previewed(p, desk.tried(p, _spans(p, asked), asked.action, asked.values), asked.action)


def _decision_of(p: Pipeline, given: dict[str, Any]) -> dict[str, Any]:
    asked = Decided(**given)
    trials = desk.tried(p, _spans(p, asked), asked.action, asked.values)
    return desk.commit(p, trials, asked.action, asked.author, asked.reason, asked.fingerprint)


_ANSWERS: dict[str, Any] = {
    "exceptions": _exceptions_of,
    "exception": lambda p, given: desk.exception(p, given["number"]),
    "assign": lambda p, given: desk.assign(p, given["exceptions"], given["assignee"], given["author"]),
    "preview": _preview_of,
    "decide": _decision_of,
    "undo": lambda p, given: desk.undo(p, given["change"], given["author"], given["reason"]),
    "changes": lambda p, given: desk.changes(
        p, given.get("before"), given.get("limit") or 50, given.get("channel"), given.get("author")
    ),
    "change": lambda p, given: desk.change(p, given["change"]),
    "fingerprints": lambda p, given: fingerprints(p, given.get("start"), given.get("end")),
}


def _spans(p: Pipeline, given: Proposed) -> list[Span]:
    if given.channel is None:
        which = None if given.filter is None else desk.filter_of(p, given.filter.model_dump() | {"state": "waiting"})
        return desk.spans_of(p, given.exceptions, which)
    if given.exceptions is not None or given.filter is not None or given.start is None or given.end is None:
        raise Problem(
            422, "span", "Which intervals?", "channel goes with start and end, and without exceptions or filter."
        )
    return [desk.span_of(p, given.channel, given.start, given.end)]


def _json(document: Any) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")


def _csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return out.getvalue().encode()


def _plain(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, orjson.Fragment) else value
