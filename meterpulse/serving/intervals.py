"""/v1/intervals: the record of a channel, interval by interval: measured, effective, how good, how it came about, since when."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
import pyarrow as pa
from fastapi import FastAPI, Query, Response

from meterpulse.model.channel import NOT_FOUND
from meterpulse.model.problem import Problem
from meterpulse.model.quality import Quality, nem12_of
from meterpulse.model.quantity import BY_CODE, Unit, decimal_text
from meterpulse.model.window import DAY_MS, instant_ms, iso
from meterpulse.serving.answers import MEDIA, iso_texts, table_bytes
from meterpulse.serving.queries import UsageQuery, span
from meterpulse.serving.repair import repairs
from meterpulse.serving.values import Standing, standing, step_ms_of
from meterpulse.serving.versions import Versions, standing_as_of, versions_of
from meterpulse.worklist.proposals import MISSING

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_LONGEST_DAYS = 800
_COLUMNS = ("start", "seconds", "measured", "quantity", "unit", "quality", "nem12", "method", "known_at")
_EXAMPLE = {
    "channel": "E-0001", "time_zone": "America/New_York", "unit": "kWh", "seconds": 900, "rows": [
        {"start": "2026-03-08T11:00:00Z", "seconds": 900, "measured": None, "quantity": 0.25, "unit": "kWh", "quality": "linear",
         "nem12": "S17", "method": "linear", "known_at": "2026-03-09T02:00:11Z"}],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class IntervalQuery:
    """What /v1/intervals takes; texts as they came."""

    channel: str
    start: str | None = None
    end: str | None = None
    as_of: str | None = None
    history: bool = False


@dataclass(frozen=True, slots=True)
class Intervals:
    """What was found: the rows of `standing` that have a measured or an effective value."""

    channel: str
    zone: str
    unit: Unit
    standing: Standing
    shown: np.ndarray  # int64, rows
    versions: Versions | None = None  # every version of every interval, where they are asked for


@repairs
def intervals(p: Pipeline, q: IntervalQuery) -> Intervals:
    """Raises Problem 404, 422, and 503 while a damaged part of the store is rebuilt."""
    index = p.keys.index_of(q.channel)
    if index == NOT_FOUND:
        raise Problem(404, "no-channel", "No such channel", f"{q.channel[:200]!r} is not registered.")
    table, step = p.registry.table, step_ms_of(p, index)
    profile = int(table.profile[index])
    low, high = span(p, UsageQuery(channel=q.channel, start=q.start, end=q.end, grain="5m"), index)
    low, high = -(-low // step) * step, -(-high // step) * step
    if high - low > _LONGEST_DAYS * DAY_MS:
        raise Problem(422, "query", "Too long", f"Ask for up to {_LONGEST_DAYS} days at a time.")
    high = max(low, high)
    if q.as_of is not None and q.history:
        raise Problem(422, "query", "One or the other", "Give as_of=, or history=true, which has every version.")
    if q.as_of is not None:
        found = standing_as_of(p, index, low, high, _instant(q.as_of))
    else:
        found = standing(p, index, low, high)
    every = versions_of(p, index, low, high) if q.history else None
    shown = np.flatnonzero((found.quality != MISSING) | (found.measured_quality != MISSING))
    zone = table.profiles.zones[int(table.profiles.zone[profile])]
    return Intervals(q.channel, zone, BY_CODE[int(table.profiles.unit[profile])], found, shown, every)


def _instant(text: str) -> int:
    try:
        return instant_ms(text)
    except ValueError as error:
        raise Problem(422, "time", "A time that cannot be read", f"as_of: {error}") from None


def rows_of(found: Intervals) -> list[tuple[Any, ...]]:
    """One tuple for each interval, or for each version of it, in the order of the columns; quantities as plain digits, None where
    there is none."""
    v = found.versions
    if v is not None:
        measured, has_measured, quantity, quality, method = v.measured, v.has_measured, v.quantity, v.quality, v.method
        start, seconds, known = v.start, v.seconds.tolist(), v.known_s
        more = [(_time(s), *(who or (None, None))) for s, who in zip(v.until_s.tolist(), v.who, strict=True)]
    else:
        s, at = found.standing, found.shown
        measured, has_measured = s.measured[at], s.measured_quality[at] != MISSING
        quantity, quality, method = s.effective[at], s.quality[at], [s.method[i] for i in at.tolist()]
        start, seconds, known, more = s.start[at], [s.step_ms // 1000] * len(at), s.known_s[at], [()] * len(at)
    rows = []
    for i, text in enumerate(iso_texts(start)):
        grade = int(quality[i])
        has_value = grade != MISSING
        flag, way = nem12_of(grade) if has_value else ("N", 0)
        rows.append(
            (
                text, seconds[i], decimal_text(int(measured[i]), found.unit) if has_measured[i] else None,
                decimal_text(int(quantity[i]), found.unit) if has_value else None, found.unit.name,
                Quality(grade & 0xFF).word if has_value else None, f"{flag}{way:02d}" if way else flag,
                method[i], _time(int(known[i])), *more[i],
            )
        )  # fmt: skip
    return rows


def _time(seconds: int) -> str | None:
    return iso(seconds * 1000) if seconds else None


def _columns(found: Intervals) -> tuple[str, ...]:
    return _COLUMNS if found.versions is None else (*_COLUMNS, "known_until", "author", "reason")


def as_bytes(found: Intervals, form: str) -> bytes:
    """The body in one of the forms of MEDIA."""
    rows = rows_of(found)
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_columns(found), *rows])
        return text.getvalue().encode()
    if form == "json":
        head = {"channel": found.channel, "time_zone": found.zone, "unit": found.unit.name}
        shapes = [dict(zip(_columns(found), _numbers(row), strict=True)) for row in rows]
        return orjson.dumps({**head, "seconds": found.standing.step_ms // 1000, "rows": shapes})
    return table_bytes(_table(found, rows), form)


def _numbers(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """With quantities as JSON numbers, exact."""
    return (*row[:2], *(None if text is None else orjson.Fragment(text) for text in row[2:4]), *row[4:])


def _table(found: Intervals, rows: list[tuple[Any, ...]]) -> pa.Table:
    decimal, time = pa.decimal128(38, found.unit.places), pa.timestamp("ms", "UTC")
    kinds = {"start": pa.timestamp("ms", found.zone), "seconds": pa.int32(), "measured": decimal, "quantity": decimal}
    kinds |= {"known_at": time, "known_until": time}

    def column(name: str, values: list[Any]) -> pa.Array:
        kind = kinds.get(name, pa.string())
        if kind == decimal:
            values = [None if text is None else Decimal(text) for text in values]
        elif pa.types.is_timestamp(kind):
            values = [None if text is None else instant_ms(text) for text in values]
        return pa.array(values, kind)

    names = _columns(found)
    return pa.table({name: column(name, [row[i] for row in rows]) for i, name in enumerate(names)})


def add_intervals(app: FastAPI, p: Pipeline) -> None:
    """Adds the routes."""

    def answered(form: str) -> Callable[..., Any]:
        async def intervals_of(
            channel: Annotated[str, Query(description="A channel's id", examples=["E-0001"])],
            start: Annotated[str | None, Query(description="ISO 8601 with an offset")] = None,
            end: Annotated[str | None, Query(description="ISO 8601 with an offset; exclusive")] = None,
            as_of: Annotated[
                str | None,
                Query(description="What was known then: ISO 8601 with an offset", examples=["2026-03-09T12:00:00Z"]),
            ] = None,
            history: Annotated[
                bool, Query(description="Every version of each interval, with known_until, author and reason")
            ] = False,
        ) -> Response:
            """The record: what was measured and what stands in each interval, its quality (ESPI's word, NEM12's flag and
            method), how it was made, and since when that is known. `as_of` gives what stood at a time, `history` every version."""

            def work() -> bytes:
                return as_bytes(intervals(p, IntervalQuery(channel, start, end, as_of, history)), form)

            return Response(await asyncio.to_thread(work), media_type=MEDIA[form])

        return intervals_of

    example = {200: {"content": {"application/json": {"example": _EXAMPLE}}}}
    for form in MEDIA:
        path = "/v1/intervals" if form == "json" else f"/v1/intervals.{form}"
        route = app.get(
            path, response_class=Response, responses=example if form == "json" else None, name=f"intervals_{form}"
        )
        route(answered(form))
    app.get("/v1/intervals.json", include_in_schema=False, response_class=Response)(answered("json"))
