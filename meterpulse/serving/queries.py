"""Questions to the city, checked and answered: usage of a channel or an area, the newest minute of every area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from meterpulse.model import cells as c
from meterpulse.model.channel import NO_AREA, NOT_FOUND, Direction, Kind, Utility
from meterpulse.model.groups import fold_up, group_index
from meterpulse.model.problem import Problem
from meterpulse.model.quantity import BY_CODE, UNITS, Unit, decimal_text
from meterpulse.model.window import DAY_MS, GRAINS, HOUR_MS, MINUTE_MS, WINDOW_MS, instant_ms, iso
from meterpulse.serving import effective
from meterpulse.serving.answers import Answer
from meterpulse.serving.repair import repairs
from meterpulse.stores import BLOCK

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

VALUES = ("measured", "effective")
_UNITS = {Utility.electricity: UNITS["kWh"], Utility.gas: UNITS["m3"], Utility.water: UNITS["m3"]}
_SPAN_DAYS = {"1m": 1 / 24, "5m": 1, "1h": 7, "1d": 31}
_LONGEST_DAYS = {"1m": 62, "5m": 800, "1h": 8_000, "1d": 60_000}


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What /v1/usage takes; texts as they came."""

    channel: str | None = None
    area: str | None = None
    utility: str | None = None
    direction: str = "delivered"
    start: str | None = None
    end: str | None = None
    grain: str = "1h"
    fill: str | None = None
    values: str = "measured"
    as_of: str | None = None


@repairs
def usage(p: Pipeline, q: UsageQuery) -> Answer:
    """Raises Problem 404 and 422, and 503 while a damaged part of the store is rebuilt."""
    if (q.channel is None) == (q.area is None):
        raise Problem(422, "query", "Which usage?", "Give either channel=, or area= and utility=.")
    if q.grain not in GRAINS:
        raise Problem(422, "query", "No such grain", f"grain={q.grain!r}; it takes {', '.join(GRAINS)}.")
    if q.fill not in (None, "null"):
        raise Problem(422, "query", "No such fill", "fill takes null: windows without readings get a row of nulls.")
    if q.values not in VALUES:
        raise Problem(422, "query", "No such values", f"values={q.values!r}; it takes {' or '.join(VALUES)}.")
    if q.as_of is not None:
        told = "/v1/intervals takes as_of, for the intervals of one channel."
        raise Problem(422, "query", "Usage is told as of now", told)
    chosen = {} if q.values == "measured" else {"values": q.values}
    fresh = p.engine.fresh_until(p.clock())
    fresh_text = None if fresh is None else iso(fresh)
    if q.channel is not None:
        if q.grain == "1m":
            raise Problem(
                422, "query", "No minutes of channels", "grain=1m is kept for areas; a channel has 5m, 1h and 1d."
            )
        index = p.keys.index_of(q.channel)
        if index == NOT_FOUND:
            raise Problem(404, "no-channel", "No such channel", f"{q.channel[:200]!r} is not registered.")
        table = p.registry.table
        profile = int(table.profile[index])
        zone = table.profiles.zones[int(table.profiles.zone[profile])]
        low, high = span(p, q, index)
        rows = p.usage_reader.channel(index, zone, q.grain, low, high)
        found = effective.of_channel(p, rows, q.values, index, zone, q.grain, low, high)
        unit = BY_CODE[int(table.profiles.unit[profile])]
        head = {"channel": q.channel, "time_zone": zone} | chosen
        adds_up = int(table.profiles.kind[profile]) == Kind.interval
        return Answer(
            head,
            q.grain,
            unit,
            fresh_text,
            found.rows,
            adds_up,
            GRAINS[q.grain] if q.fill else None,
            (low, high),
            found.grade,
            found.is_replaced,
        )
    area = p.registry.areas.index(q.area or "")
    if area is None:
        raise Problem(404, "no-area", "No such area", f"{q.area!r} is not an area; see /v1/areas.")
    utility = utility_of(q.utility)
    if q.direction not in Direction.__members__:
        raise Problem(422, "query", "No such direction", "direction takes delivered or received.")
    zone = p.registry.areas.time_zone[area]
    low, high = span(p, q, None)
    rows = p.usage_reader.area(area, utility, Direction[q.direction], zone, q.grain, low, high)
    if q.values == "effective" and q.grain == "1m":
        raise Problem(422, "query", "The record has no minutes", "values=effective takes grain 5m, 1h or 1d.")
    direction = Direction[q.direction]
    found = effective.of_area(p, rows, q.values, area, utility, direction, zone, q.grain, low, high)
    head = {"area": q.area, "utility": utility.name, "direction": q.direction, "time_zone": zone} | chosen
    step = GRAINS[q.grain] if q.fill else None
    return Answer(head, q.grain, area_unit(p, utility), fresh_text, found.rows, True, step, (low, high), found.grade)


def area_unit(p: Pipeline, utility: Utility) -> Unit:
    """The unit of totals: that of the utility's first interval channel, so that a city of litres is told in litres."""
    profiles = p.registry.table.profiles
    for profile in np.flatnonzero((profiles.utility == utility) & (profiles.kind == Kind.interval)):
        unit = BY_CODE[int(profiles.unit[profile])]
        if unit.dimension == _UNITS[utility].dimension:
            return unit
    return _UNITS[utility]


def utility_of(name: str | None) -> Utility:
    """Raises Problem 422."""
    if name not in Utility.__members__:
        raise Problem(422, "query", "Which utility?", "utility takes electricity, gas or water.")
    return Utility[name]


def span(p: Pipeline, q: UsageQuery, index: int | None) -> tuple[int, int]:
    """[start, end) in ms. Without `end` it ends now, or after the channel's newest reading where that is older."""
    try:
        end = instant_ms(q.end) if q.end else None
        start = instant_ms(q.start) if q.start else None
    except ValueError as error:
        raise Problem(422, "time", "A time that cannot be read", str(error)) from None
    width = int(_SPAN_DAYS[q.grain] * DAY_MS)
    if end is None:
        now = p.clock() + WINDOW_MS
        newest = None if start is not None or index is None else _newest(p, index)
        end = min(now, newest) if newest is not None else now
        end = max(end, (start or end) + 1)
    start = end - width if start is None else start
    if not -(10**15) < start <= end < 10**15:
        raise Problem(422, "time", "The span is empty", "end must be after start.")
    if end - start > _LONGEST_DAYS[q.grain] * DAY_MS:
        raise Problem(
            422,
            "time",
            "The span is too long",
            f"grain={q.grain} takes up to {_LONGEST_DAYS[q.grain]} days; take a coarser grain.",
        )
    return start, end


def _newest(p: Pipeline, index: int) -> int | None:
    """The end of the newest window that a channel has in the store; None where memory has it, or nobody."""
    if any(w.rows(index, index + 1)[0, 0, 0] for w in p.engine.open_windows()):
        return None
    return p.store.newest("usage_5m", index, WINDOW_MS)


def window(p: Pipeline, start: str, first: int, count: int) -> pa.Table:
    """One 5-minute window of neighbouring channels, as stored: channel (dense index), count, and sum, min, max, last in
    thousandths of the base unit. Channels without readings have no row."""
    try:
        start_ms = instant_ms(start)
    except ValueError as error:
        raise Problem(422, "time", "A time that cannot be read", str(error)) from None
    if start_ms % WINDOW_MS:
        raise Problem(422, "time", "Not the start of a window", "start takes a multiple of five minutes.")
    last = min(first + count, p.registry.table.count)
    rows = np.zeros((max(0, last - first), c.ROW), np.int64)
    open_window = next((w for w in p.engine.open_windows() if w.start_ms == start_ms), None)
    if open_window is not None:
        rows = open_window.rows(first, last)[:, 0]
    else:
        for block in range(first // BLOCK, -(-last // BLOCK)):
            hour_ms = start_ms - start_ms % HOUR_MS
            for at in dict.fromkeys((start_ms, hour_ms)):
                chunk = p.store.chunk("usage_5m", block, at)
                step = (start_ms - at) // WINDOW_MS
                if chunk is None or step >= chunk.rows.shape[1]:
                    continue
                low, high = max(first, block * BLOCK), min(last, block * BLOCK + len(chunk.rows))
                rows[low - first : high - first] = chunk.rows[low - block * BLOCK : high - block * BLOCK, step]
                break
    present = np.flatnonzero(rows[:, 0])
    columns = {"channel": (present + first).astype(np.uint32)}
    return pa.table(columns | {name: rows[present, i] for i, name in enumerate(("count", "sum", "min", "max", "last"))})


def load(p: Pipeline, utility_name: str | None) -> dict[str, Any]:
    """The newest complete minute of every area."""
    utility = utility_of(utility_name)
    fresh = p.engine.fresh_until(p.clock())
    unit = area_unit(p, utility)
    head = {
        "utility": utility.name,
        "unit": unit.name,
        "seconds": 60,
        "fresh_until": None if fresh is None else iso(fresh),
    }
    minute = None if fresh is None else fresh // MINUTE_MS * MINUTE_MS - MINUTE_MS
    window = next(
        (w for w in p.engine.open_windows() if minute is not None and w.start_ms == minute // WINDOW_MS * WINDOW_MS),
        None,
    )
    if window is None or minute is None:
        return {**head, "start": None if minute is None else iso(minute), "areas": {}}
    areas = p.registry.areas
    rows = fold_up(window.minutes(p.keys.group_of()), p.keys.parents())[:, (minute - window.start_ms) // MINUTE_MS]
    groups = np.array([group_index(a, utility) for a in range(len(areas))], np.int64)
    groups = groups[groups < len(rows)]
    found = {
        areas.names[a]: {"quantity": decimal_text(int(rows[g, 1]), unit), "count": int(rows[g, 0])}
        for a, g in enumerate(groups.tolist())
        if rows[g, 0]
    }
    return {**head, "start": iso(minute), "areas": found}


def areas(p: Pipeline) -> dict[str, Any]:
    """Every area with its place in the nesting and its channels, those of the areas below it included."""
    found = p.registry.areas
    table = p.registry.table
    count = np.zeros((len(found), 3), np.int64)
    area = np.asarray(table.area[: table.count]).astype(np.int64)
    own = area != NO_AREA
    np.add.at(count, (area[own], table.profiles.utility[np.asarray(table.profile[: table.count])[own]]), 1)
    total = np.stack([count[p.keys.descendants(a)].sum(axis=0) for a in range(len(found))]) if len(found) else count
    return {
        "areas": [
            {
                "area": found.names[a],
                "title": found.title[a] or found.names[a],
                "kind": found.kind[a],
                "parent": None if found.parent[a] == NO_AREA else found.names[int(found.parent[a])],
                "time_zone": found.time_zone[a],
                "channels": {u.name: int(total[a, u]) for u in Utility},
            }
            for a in range(len(found))
        ]
    }
