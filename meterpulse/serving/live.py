"""/v1/live: one stream per page, of what changed since the last second."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import orjson

from meterpulse.model.channel import NOT_FOUND
from meterpulse.model.problem import Problem
from meterpulse.model.window import WINDOW_MS, iso
from meterpulse.serving.answers import json_rows
from meterpulse.serving.queries import UsageQuery, load, usage

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_LOOK_BACK_MS = 3 * WINDOW_MS


class Rate:
    """Readings per second over the last ten seconds."""

    def __init__(self, pipeline: Pipeline):
        self._p = pipeline
        self._seen: deque[tuple[float, int]] = deque(maxlen=11)

    def sample(self) -> None:
        """Once a second."""
        self._seen.append((time.monotonic(), self._p.log.rows))

    def value(self) -> float:
        """0.0 before there are two samples."""
        if len(self._seen) < 2:
            return 0.0
        (t0, r0), (t1, r1) = self._seen[0], self._seen[-1]
        return round((r1 - r0) / max(t1 - t0, 1e-3), 1)


def live_status(p: Pipeline, rate: Rate) -> dict[str, Any]:
    """What the strip at the foot of each page shows."""
    full = p.status()
    names = ("accepted", "quarantined", "duplicates", "late", "watermark", "lag", "dirty_days", "channels", "now")
    return {name: full[name] for name in names} | {"readings_per_second": rate.value()}


async def events(
    p: Pipeline, rate: Rate, channels: list[str], area: str | None, utility: str | None, areas: bool
) -> AsyncIterator[dict[str, Any]]:
    """Server-sent events as dicts of event and data; ends when the client does."""
    sent: dict[str, Any] = {}
    last_load, load_at = None, 0.0
    while True:
        yield {"event": "status", "data": orjson.dumps(live_status(p, rate)).decode()}
        now = p.clock()
        span = {"start": iso(now // 1000 * 1000 - _LOOK_BACK_MS), "end": iso(now // 1000 * 1000 + WINDOW_MS)}
        queries = [
            UsageQuery(channel=c, grain="5m", **span) for c in channels if p.registry.table.lookup_one(c) != NOT_FOUND
        ]
        if area and utility:
            queries.append(UsageQuery(area=area, utility=utility, grain="5m", **span))
        for query in queries:
            try:
                answer = await asyncio.to_thread(usage, p, query)
            except Problem:  # it is told by /v1/usage; the stream goes on
                continue
            rows = json_rows(answer)
            name = query.channel or f"{query.area}/{query.utility}"
            seen = {f"{name}@{row['start']}": orjson.dumps(row) for row in rows}
            changed = [row for row, key in zip(rows, seen, strict=True) if sent.get(key) != seen[key]]
            if changed:
                sent |= seen
                body = {
                    **answer.head,
                    "grain": "5m",
                    "unit": answer.unit.name,
                    "fresh_until": answer.fresh_until,
                    "rows": changed,
                }
                yield {"event": "usage", "data": orjson.dumps(body).decode()}
        if len(sent) > 1_000:
            sent.clear()
        if areas and utility and time.monotonic() - load_at >= 2:
            found = await asyncio.to_thread(load, p, utility)
            load_at = time.monotonic()
            if found != last_load:
                last_load = found
                yield {"event": "load", "data": orjson.dumps(found).decode()}
        await asyncio.sleep(1)
