"""A small city under test: a pipeline in this process, the oracle beside it, and one comparison of everything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from oracle import Oracle, Reading, Row

from meterpulse.config import Config, load
from meterpulse.model.channel import Channel
from meterpulse.pipeline import Pipeline
from meterpulse.serving.answers import as_json
from meterpulse.serving.queries import UsageQuery, usage
from meterpulse.serving.rebuilds import Wanted, rebuild_days

NDJSON = "application/x-ndjson"
SCALE = {"kWh": 10**6, "m3": 10**6, "L": 10**3}  # thousandths of the base unit in one
NOON = int(datetime(2026, 4, 1, 12, tzinfo=UTC).timestamp() * 1000)


def config_for(data: Path, **sections: dict[str, Any]) -> Config:
    """Quick to settle: what is idle for a second is not waited for."""
    quick = {
        "speed": {"idle_seconds": 1, "checkpoint_seconds": 1},
        "lake": {"commit_seconds": 1},
        "batch": {"quiet_seconds": 0},
    }
    merged = {name: quick.get(name, {}) | sections.get(name, {}) for name in {*quick, *sections}}
    return load({"data": str(data), "log": {"max_bytes": 1 << 30}, "stores": {"max_bytes": 1 << 30}} | merged)


def channels(n: int, zones: Sequence[str], *, interval_seconds: int = 300) -> list[dict[str, Any]]:
    """n channels of three utilities in three postcodes (of two boroughs) and the given zones."""
    utilities = (("electricity", "kWh"), ("gas", "m3"), ("water", "L"))
    return [
        {
            "id": f"{utilities[i % 3][0][0].upper()}-{i:04d}",
            "utility": utilities[i % 3][0],
            "unit": utilities[i % 3][1],
            "interval_seconds": interval_seconds,
            "area": f"1000{i // 3 % 3}",
            "time_zone": zones[i % len(zones)],
        }
        for i in range(n)
    ]


def line_of(reading: Reading, unit: str) -> str:
    """The reading as one line of NDJSON, its quantity as a decimal string in the channel's unit."""
    start = datetime.fromtimestamp(reading.start_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    quantity = Decimal(reading.quantity) / SCALE[unit]
    shape = {
        "channel": reading.channel,
        "start": f"{start}.{reading.start_ms % 1000:03d}Z",
        "seconds": reading.seconds,
        "quantity": f"{quantity:f}",
        "revision": reading.revision,
    }
    return json.dumps(shape)


class City:
    """Opens, closes and reopens a pipeline; everything sent goes to the oracle when it is acknowledged."""

    def __init__(
        self,
        data: Path,
        shapes: list[dict[str, Any]],
        *,
        now_ms: int = NOON,
        config: Config | None = None,
        nested: bool = True,
    ):
        self.data, self.shapes, self.now_ms = data, {s["id"]: s for s in shapes}, now_ms
        self.config = config or config_for(data)
        self.pipeline = self._open()
        areas = sorted({s["area"] for s in shapes if s.get("area")})
        parents: dict[str, str | None] = {}
        if nested and areas:
            self.pipeline.registry.add_area("city", "city", time_zone="America/New_York")
            self.pipeline.registry.add_area("north", "borough", parent="city")
            parents = {"north": "city", "city": None}
            for i, area in enumerate(areas):
                parents[area] = "north" if i < 2 else "city"
                self.pipeline.registry.add_area(area, parent=parents[area])
        done = self.pipeline.registry.register([Channel.from_dict(s) for s in shapes])
        assert done.created == len(shapes) and not done.errors
        zones = {
            name: self.pipeline.registry.areas.time_zone[self.pipeline.registry.areas.index(name)]
            for name in {*areas, *parents}
        }
        self.oracle = Oracle(self.shapes, parents, zones)

    def _open(self) -> Pipeline:
        return Pipeline.open(self.config, clock=lambda: self.now_ms)

    def __enter__(self) -> City:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipeline.close()

    def send(self, readings: Iterable[Reading], source: str = "http") -> None:
        """Acknowledged when it returns."""
        readings = list(readings)
        if not readings:
            return
        body = "\n".join(line_of(r, self.shapes[r.channel]["unit"]) for r in readings).encode()
        decoded = self.pipeline.take(body, NDJSON)
        assert not decoded.rejected, decoded.rejected[0]
        self.pipeline.ingest(decoded, source)
        self.oracle.take(readings)

    def breathe(self) -> None:
        """Everything sent is applied, and the watermark has had its look at it."""
        ticks = self.pipeline.runner.ticks
        deadline = time.monotonic() + 20
        while self.pipeline.engine.applied < self.pipeline.log.end or self.pipeline.runner.ticks < ticks + 2:
            assert time.monotonic() < deadline, self.pipeline.status()
            time.sleep(0.01)

    def reopen(self) -> None:
        """Close in order and start again."""
        self.pipeline.close()
        self.pipeline = self._open()

    def settle(self) -> None:
        """Every acknowledged reading is in every answer."""
        assert self.pipeline.settle(60), self.pipeline.status()

    def rebuild_all(self) -> None:
        """Batch recomputes everything it may."""
        assert not rebuild_days(self.pipeline, Wanted(all=True))["failed"]

    def answer(self, grain: str, **who: str) -> dict[datetime | date, Row]:
        """What /v1/usage says, in thousandths, keyed as the oracle does."""
        body = json.loads(
            as_json(usage(self.pipeline, UsageQuery(grain=grain, **who, **self._span()))), parse_float=Decimal
        )
        scale, rows = SCALE[body["unit"]], {}
        for row in body["rows"]:
            at = datetime.fromisoformat(row["start"])
            key = _date_at(at, body["time_zone"]) if grain == "1d" else at
            assert key not in rows, f"{who} {grain} {row['start']} answered twice"
            exact = [row["count"], *(int(Decimal(row[name]) * scale) for name in ("quantity", "min", "max"))]
            rows[key] = Row(*exact, int(Decimal(row["last"]) * scale) if "last" in row else None)
        return rows

    def _span(self) -> dict[str, str]:
        starts = [start for _, start in self.oracle.standing] or [self.now_ms]
        low, high = min(starts) - 3 * 86_400_000, max(starts) + 3 * 86_400_000
        return {
            name: datetime.fromtimestamp(at // 1000, UTC).isoformat() for name, at in (("start", low), ("end", high))
        }

    def differences(self) -> list[str]:
        """Every window of every channel and area that is not what the oracle says."""
        found = []
        for id in self.shapes:
            for grain in ("5m", "1h", "1d"):
                found += _compare(f"{id} {grain}", self.answer(grain, channel=id), self.oracle.channel(id, grain))
        for area in {*self.oracle.parents, *(s["area"] for s in self.shapes.values() if s.get("area"))}:
            for utility in {s["utility"] for s in self.shapes.values()}:
                for grain in ("1m", "5m", "1h", "1d"):
                    got = self.answer(grain, area=area, utility=utility)
                    found += _compare(f"{area} {utility} {grain}", got, self.oracle.area(area, utility, grain))
        return found

    def must_agree(self) -> None:
        """The first few differences, if there are any."""
        found = self.differences()
        assert not found, f"{len(found)} windows differ:\n" + "\n".join(found[:8])


def _date_at(at: datetime, zone: str) -> date:
    local = at.astimezone(ZoneInfo(zone))
    before = datetime.fromtimestamp(at.timestamp() - 0.001, ZoneInfo(zone))
    assert before.date() < local.date(), f"a day begins at {at}, which is {local} in {zone}"
    return local.date()


def _compare(name: str, got: dict[Any, Row], want: dict[Any, Row]) -> list[str]:
    keys = sorted({*got, *want}, key=str)
    return [f"{name} {k}: got {got.get(k)}, want {want.get(k)}" for k in keys if got.get(k) != want.get(k)]
