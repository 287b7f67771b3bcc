"""/v1/intervals: the record of a channel, interval by interval: measured, effective, how good, how it came about, since when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
import pyarrow as pa
from fastapi import FastAPI, Query, Response

from meterpulse.model.channel import NOT_FOUND
from meterpulse.model.problem import Problem
from meterpulse.model.quality import Quality, nem12_of
from meterpulse.model.quantity import BY_CODE, Unit, decimal_text, from_thousandths
from meterpulse.model.window import DAY_MS, iso
from meterpulse.serving.answers import MEDIA, iso_texts, table_bytes
from meterpulse.serving.queries import UsageQuery, span
from meterpulse.serving.repair import repairs
from meterpulse.serving.values import Standing, standing, step_ms_of
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


@dataclass(frozen=True, slots=True)
class Intervals:
    """What was found: the rows of `standing` that have a measured or an effective value."""

    channel: str
    zone: str
    unit: Unit
    standing: Standing
    shown: np.ndarray  # int64, rows


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
    found = standing(p, index, low, max(low, high))
    shown = np.flatnonzero((found.quality != MISSING) | (found.measured_quality != MISSING))
    zone = table.profiles.zones[int(table.profiles.zone[profile])]
    return Intervals(q.channel, zone, BY_CODE[int(table.profiles.unit[profile])], found, shown)


def rows_of(found: Intervals) -> list[tuple[Any, ...]]:
    """One tuple for each interval, in the order of the columns; quantities as plain digits, None where there is none."""
    s, unit, rows = found.standing, found.unit, []
    starts = iso_texts(s.start[found.shown])
    for at, start in zip(found.shown.tolist(), starts, strict=True):
        grade = int(s.quality[at])
        has_value, has_measured = grade != MISSING, s.measured_quality[at] != MISSING
        flag, method = nem12_of(grade) if has_value else ("N", 0)
        rows.append(
            (
                start, s.step_ms // 1000, decimal_text(int(s.measured[at]), unit) if has_measured else None,
                decimal_text(int(s.effective[at]), unit) if has_value else None, unit.name,
                Quality(grade & 0xFF).word if has_value else None, f"{flag}{method:02d}" if method else flag,
                s.method[at], iso(int(s.known_s[at]) * 1000) if s.known_s[at] else None,
            )
        )  # fmt: skip
    return rows


def as_bytes(found: Intervals, form: str) -> bytes:
    """The body in one of the forms of MEDIA."""
    rows = rows_of(found)
    if form == "csv":
        lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
        return ("\n".join([",".join(_COLUMNS), *lines]) + "\n").encode()
    if form == "json":
        head = {"channel": found.channel, "time_zone": found.zone, "unit": found.unit.name}
        shapes = [dict(zip(_COLUMNS, _numbers(row), strict=True)) for row in rows]
        return orjson.dumps({**head, "seconds": found.standing.step_ms // 1000, "rows": shapes})
    return table_bytes(_table(found, rows), form)


def _numbers(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """With quantities as JSON numbers, exact."""
    return (*row[:2], *(None if text is None else orjson.Fragment(text) for text in row[2:4]), *row[4:])


def _table(found: Intervals, rows: list[tuple[Any, ...]]) -> pa.Table:
    s, at = found.standing, found.shown
    decimal = pa.decimal128(38, found.unit.places)

    def exact(values: np.ndarray, grade: np.ndarray) -> pa.Array:
        pairs = zip(values[at].tolist(), grade[at].tolist(), strict=True)
        return pa.array([None if g == MISSING else from_thousandths(v, found.unit) for v, g in pairs], decimal)

    texts = {
        name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(_COLUMNS) if i in (4, 5, 6, 7)
    }
    known = s.known_s[at]
    return pa.table(
        {
            "start": pa.array(s.start[at], pa.timestamp("ms", found.zone)),
            "seconds": pa.array(np.full(len(at), s.step_ms // 1000, np.int32)),
            "measured": exact(s.measured, s.measured_quality),
            "quantity": exact(s.effective, s.quality),
            **texts,
            "known_at": pa.array(known * 1000, pa.timestamp("ms", "UTC"), mask=known == 0),
        }
    )


def add_intervals(app: FastAPI, p: Pipeline) -> None:
    """Adds the routes."""

    def answered(form: str) -> Callable[..., Any]:
        async def intervals_of(
            channel: Annotated[str, Query(description="A channel's id", examples=["E-0001"])],
            start: Annotated[str | None, Query(description="ISO 8601 with an offset")] = None,
            end: Annotated[str | None, Query(description="ISO 8601 with an offset; exclusive")] = None,
        ) -> Response:
            """The record: what was measured and what stands in each interval, its quality (ESPI's word, NEM12's flag and
            method), how it was made, and since when that is known."""

            def work() -> bytes:
                return as_bytes(intervals(p, IntervalQuery(channel, start, end)), form)

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
