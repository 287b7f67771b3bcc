"""What batch answers otherwise than speed did: by day, utility and area, and for each channel with its cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
import pyarrow as pa
from fastapi import FastAPI, Query, Response

from meterpulse.batch.differences import CAUSES, of_day
from meterpulse.model.channel import NO_AREA, NOT_FOUND, Kind, Utility
from meterpulse.model.groups import group_index
from meterpulse.model.problem import Problem
from meterpulse.model.quantity import BY_CODE, Unit, decimal_text
from meterpulse.model.window import DAY_MS, day_of_text, day_text, iso
from meterpulse.serving.answers import MEDIA, numbers, table_bytes
from meterpulse.serving.queries import area_unit, utility_of
from meterpulse.serving.repair import repairs
from meterpulse.stores import BLOCK
from meterpulse.stores.rollup import day_rows

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

COLUMNS = ("day", "utility", "area", "channel", "cause", "windows", "speed", "batch", "difference", "unit", "found")
_QUANTITIES = ("speed", "batch", "difference")
_PLACES = Decimal(1).scaleb(-9)
_EXAMPLE = {
    "rows": [{"day": "2026-03-08", "utility": "electricity", "area": "10003", "channel": "E-0001", "cause": "late", "windows": 3,
              "speed": 1.25, "batch": 1.5, "difference": 0.25, "unit": "kWh", "found": "2026-03-09T02:30:04Z"}],
    "next": None,
    "totals": [{"day": "2026-03-08", "utility": "electricity", "area": "10003", "unit": "kWh", "difference": 0.25,
                "batch": 1250.5, "share": 0.0002, "causes": {"late": 0.25}, "windows": {"late": 3}}],
    "unexplained": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What /v1/differences takes; texts as they came. `after` is the `next` of the page before."""

    day: str | None = None
    start: str | None = None
    end: str | None = None
    utility: str | None = None
    area: str | None = None
    channel: str | None = None
    cause: str | None = None
    after: str | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class _Day:
    """A UTC day's differences by channel and cause: columns of the same length, sorted; quantities in thousandths."""

    day: int
    channel: np.ndarray
    cause: np.ndarray
    windows: np.ndarray
    batch: np.ndarray
    delta: np.ndarray
    moved: np.ndarray  # sum of |delta| over the windows
    found_ms: np.ndarray


@repairs
def differences(p: Pipeline, asked: Asked) -> dict[str, Any]:
    """The document of /v1/differences. Raises Problem 404 and 422."""
    days = [_grouped(p, day, asked) for day in _days(p, asked)]
    rows, following = _page(p, days, asked)
    totals = [total for day in days for total in _totals(p, day)]
    unexplained = sum(int(day.windows[day.cause == len(CAUSES) - 1].sum()) for day in days)
    return {"rows": rows, "next": following, "totals": totals, "unexplained": unexplained}


def table(p: Pipeline, asked: Asked) -> pa.Table:
    """All rows that are asked for; quantities are decimals in the unit of their row."""
    found: list[dict[str, Any]] = []
    for day in (_grouped(p, day, asked) for day in _days(p, asked)):
        found += _shapes(p, day, slice(None), _decimals)
    texts = ("day", "utility", "area", "channel", "cause", "unit", "found")
    types = {name: pa.string() for name in texts} | {"windows": pa.int64()}
    types |= {name: pa.decimal128(38, 9) for name in _QUANTITIES}
    return pa.table({name: pa.array([row[name] for row in found], types[name]) for name in COLUMNS})


def _days(p: Pipeline, asked: Asked) -> Iterator[int]:
    if asked.day is not None and (asked.start is not None or asked.end is not None):
        raise Problem(422, "day", "Which days?", "Give either day=, or start= and end= (the first and the last day).")
    if asked.cause is not None and asked.cause not in CAUSES:
        raise Problem(422, "cause", "No such cause", f"cause={asked.cause!r}; it takes {', '.join(CAUSES)}.")
    low, high = (_day(text) for text in (asked.day or asked.start, asked.day or asked.end))
    for day in p.rebuilder.differing_days():
        if (low is None or low <= day) and (high is None or day <= high):
            yield day


def _day(text: str | None) -> int | None:
    try:
        return None if text is None else day_of_text(text)
    except ValueError:
        raise Problem(422, "day", "Not a day", f"{text[:40]!r}; days are UTC days such as 2026-03-08.") from None


def _grouped(p: Pipeline, day: int, asked: Asked) -> _Day:
    rows = of_day(p.store, day)
    rows = rows[rows["channel"] < p.registry.table.count]
    rows = rows[_wanted(p, rows["channel"], asked)]
    if asked.cause is not None:
        rows = rows[rows["cause"] == CAUSES.index(asked.cause)]
    key, first, inverse = np.unique(
        rows["channel"].astype(np.int64) * len(CAUSES) + rows["cause"], return_index=True, return_inverse=True
    )
    sums = []
    for values in (np.ones(len(rows), np.int64), rows["batch"], rows["delta"], np.abs(rows["delta"])):
        total = np.zeros(len(key), np.int64)
        np.add.at(total, inverse, values)
        sums.append(total)
    newest = rows["found_ms"][first] if len(rows) else np.zeros(0, np.int64)
    np.maximum.at(newest, inverse, rows["found_ms"])
    return _Day(day, (key // len(CAUSES)).astype(np.uint32), key % len(CAUSES), *sums, newest)


def _wanted(p: Pipeline, channel: np.ndarray, asked: Asked) -> np.ndarray:
    table = p.registry.table
    wanted = np.ones(len(channel), bool)
    if asked.channel is not None:
        index = p.keys.index_of(asked.channel)
        if index == NOT_FOUND:
            raise Problem(404, "no-channel", "No such channel", f"{asked.channel[:200]!r} is not registered.")
        wanted &= channel == index
    if asked.utility is not None:
        wanted &= table.profiles.utility[np.asarray(table.profile)[channel]] == utility_of(asked.utility)
    if asked.area is not None:
        area = p.registry.areas.index(asked.area)
        if area is None:
            raise Problem(404, "no-area", "No such area", f"{asked.area!r} is not an area; see /v1/areas.")
        wanted &= np.isin(np.asarray(table.area)[channel], p.keys.descendants(area))
    return wanted


def _page(p: Pipeline, days: Sequence[_Day], asked: Asked) -> tuple[list[dict[str, Any]], str | None]:
    """At most `limit` rows after the one that `after` names, and the name of the last where there are more."""
    seen = _place(asked.after)
    rows: list[dict[str, Any]] = []
    last = seen
    for day in days:
        key = day.channel.astype(np.int64) * len(CAUSES) + day.cause
        first = 0
        if seen is not None and day.day <= seen[0]:
            first = len(key) if day.day < seen[0] else int(np.searchsorted(key, seen[1], "right"))
        until = min(len(key), first + asked.limit - len(rows))
        rows += _shapes(p, day, slice(first, until), numbers)
        if until > first:
            last = day.day, int(key[until - 1])
        if until < len(key):
            return rows, None if last is None else f"{last[0]}.{last[1]}"
    return rows, None


def _place(after: str | None) -> tuple[int, int] | None:
    if after is None:
        return None
    day, _, key = after.partition(".")
    try:
        return int(day), int(key)
    except ValueError:
        raise Problem(422, "after", "No such page", "after takes the `next` of the page before.") from None


def _shapes(p: Pipeline, day: _Day, which: slice, told: Any) -> list[dict[str, Any]]:
    channel = day.channel[which]
    if not len(channel):
        return []
    profiles, profile = p.registry.table.profiles, np.asarray(p.registry.table.profile)[channel]
    quantities = np.column_stack([day.batch - day.delta, day.batch, day.moved])[which]
    adds_up = profiles.kind[profile] == Kind.interval
    ids = p.registry.table.ids(channel).to_pylist()
    shapes = []
    for i, id in enumerate(ids):
        unit = BY_CODE[int(profiles.unit[profile[i]])]
        speed, batch, moved = told(quantities[i], unit) if adds_up[i] else (None,) * 3
        shapes.append(
            {
                "day": day_text(day.day),
                "utility": Utility(int(profiles.utility[profile[i]])).name,
                "area": _area_name(p, int(p.registry.table.area[channel[i]])),
                "channel": id,
                "cause": CAUSES[day.cause[which][i]],
                "windows": int(day.windows[which][i]),
                "speed": speed,
                "batch": batch,
                "difference": moved,
                "unit": unit.name,
                "found": iso(int(day.found_ms[which][i])),
            }
        )
    return shapes


def _area_name(p: Pipeline, area: int) -> str | None:
    return None if area == NO_AREA else p.registry.areas.names[area]


def _decimals(quantity: np.ndarray, unit: Unit) -> list[Decimal]:
    return [Decimal(decimal_text(int(q), unit)).quantize(_PLACES) for q in quantity]


def _totals(p: Pipeline, day: _Day) -> list[dict[str, Any]]:
    """By utility and area: what is different, and its share of what batch says the area used that UTC day."""
    table = p.registry.table
    profile = np.asarray(table.profile)[day.channel]
    adds_up = table.profiles.kind[profile] == Kind.interval
    utility, area = (
        table.profiles.utility[profile].astype(np.int64),
        np.asarray(table.area)[day.channel].astype(np.int64),
    )
    found = []
    for place in np.unique(utility << 32 | area).tolist():
        of, where = Utility(place >> 32), place & 0xFFFFFFFF
        own = (utility == of) & (area == where)
        unit, used = area_unit(p, of), _used(p, day.day, where, of)
        moved = int(day.moved[own & adds_up].sum())
        causes = {cause: own & (day.cause == c) for c, cause in enumerate(CAUSES) if (own & (day.cause == c)).any()}
        by_cause = numbers(np.array([day.moved[m & adds_up].sum() for m in causes.values()], np.int64), unit)
        found.append(
            {
                "day": day_text(day.day),
                "utility": of.name,
                "area": _area_name(p, where),
                "unit": unit.name,
                "difference": numbers(np.array([moved]), unit)[0],
                "batch": None if used is None else numbers(np.array([used]), unit)[0],
                "share": moved / used if used else None,
                "causes": dict(zip(causes, by_cause, strict=True)),
                "windows": {cause: int(day.windows[mask].sum()) for cause, mask in causes.items()},
            }
        )
    return found


def _used(p: Pipeline, day: int, area: int, utility: Utility) -> int | None:
    """What an area was delivered and gave back in a UTC day; None where that is not known."""
    if area == NO_AREA:
        return None
    group = group_index(area, utility)
    block, at = divmod(group, BLOCK)
    chunk = p.store.chunk("area_1h", block, day * DAY_MS)
    rows = chunk.rows if chunk is not None else day_rows(p.store, "area_1m", block, day, BLOCK, 4)[0]
    return None if rows is None or at + 2 > len(rows) else int(rows[at : at + 2, :, 1].sum())


def add_differences(app: FastAPI, p: Pipeline) -> None:
    """Adds the routes."""

    def answered(form: str) -> Any:
        def found(
            day: Annotated[str | None, Query(description="a UTC day", examples=["2026-03-08"])] = None,
            start: Annotated[str | None, Query(description="the first UTC day")] = None,
            end: Annotated[str | None, Query(description="the last UTC day")] = None,
            utility: str | None = None,
            area: Annotated[str | None, Query(description="an area and those below it")] = None,
            channel: str | None = None,
            cause: Annotated[str | None, Query(description=", ".join(CAUSES))] = None,
            after: Annotated[str | None, Query(description="`next` of the page before; JSON only")] = None,
            limit: Annotated[int, Query(ge=1, le=100_000, description="rows of a page; JSON only")] = 1000,
        ) -> Response:
            """Where batch answers otherwise than speed did, by how much, and why; `unexplained` must be 0."""
            return Response(
                body(p, Asked(day, start, end, utility, area, channel, cause, after, limit), form),
                media_type=MEDIA[form],
            )

        return found

    example = {200: {"content": {"application/json": {"example": _EXAMPLE}}}}
    for form in MEDIA:
        path = "/v1/differences" if form == "json" else f"/v1/differences.{form}"
        responses: Any = example if form == "json" else None
        app.get(path, response_class=Response, responses=responses, name=f"differences_{form}")(answered(form))
    app.get("/v1/differences.json", include_in_schema=False, response_class=Response)(answered("json"))


def body(p: Pipeline, asked: Asked, form: str) -> bytes:
    """The answer in one of the forms of MEDIA."""
    return orjson.dumps(differences(p, asked)) if form == "json" else table_bytes(table(p, asked), form)
