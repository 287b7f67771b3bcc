"""Rebuilding days on request: planned, so that a restart goes on with it, and told as it goes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from meterpulse.batch.plans import days_between
from meterpulse.model.problem import Problem
from meterpulse.model.window import day_of_text

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_WAIT_SECONDS_MAX = 86_400


class Wanted(BaseModel):
    """Which UTC days: these, from `start` to `end` (both included), or all; else the dirty ones."""

    model_config = ConfigDict(extra="forbid")

    days: list[str] | None = Field(None, examples=[["2026-03-08"]])
    start: str | None = None
    end: str | None = None
    all: bool = False
    wait_seconds: float = Field(_WAIT_SECONDS_MAX, ge=0, le=_WAIT_SECONDS_MAX, description="0 answers at once")


def rebuild_days(p: Pipeline, wanted: Wanted) -> dict[str, Any]:
    """The plan when it is done, or after `wait_seconds`: {"number", "total", "left", "days": reports, "failed": reasons,
    "seconds"}. Raises Problem 422 for a text that is no day."""
    began = time.perf_counter()
    what, days = _chosen(p, wanted)
    number = p.rebuilder.plan(what, days)
    return p.rebuilder.plans.wait(number, wanted.wait_seconds) | {"seconds": round(time.perf_counter() - began, 3)}


def _chosen(p: Pipeline, wanted: Wanted) -> tuple[str, list[int]]:
    ranged = wanted.start is not None or wanted.end is not None
    if sum((wanted.days is not None, ranged, wanted.all)) > 1:
        raise Problem(422, "day", "Which days?", "Give one of days, start and end, and all.")
    try:
        if wanted.days is not None:
            return "days", [day_of_text(text) for text in wanted.days]
        if not ranged and not wanted.all:
            return "dirty", sorted(p.engine.marks)
        p.lake.ask("flush", to=p.log.end, timeout_seconds=600)  # days that are only logged so far are days too
        kept = [day for day in p.lake.ask("days") if not p.store.note(f"sealed/{day}")]
        return ("all", kept) if wanted.all else ("range", days_between(kept, wanted.start, wanted.end))
    except (ValueError, TypeError):
        raise Problem(422, "day", "Not a day", "Days are UTC days such as 2026-03-08.") from None


def add_rebuilds(app: FastAPI, p: Pipeline) -> None:
    """Adds the routes."""

    @app.post("/v1/rebuild")
    async def rebuild(wanted: Wanted | None = None) -> dict[str, Any]:
        """Rebuild days from the lake. The plan is kept: it goes on after a restart."""
        return await asyncio.to_thread(rebuild_days, p, wanted or Wanted())

    @app.get("/v1/rebuild/{number}")
    async def planned(number: int, wait_seconds: float = 0) -> dict[str, Any]:
        """How far a plan has come; the newest few are remembered."""
        return await asyncio.to_thread(plan_of, p, number, wait_seconds)


def plan_of(p: Pipeline, number: int, wait_seconds: float) -> dict[str, Any]:
    """Raises Problem 404."""
    try:
        return p.rebuilder.plans.wait(number, min(max(wait_seconds, 0), 30))
    except KeyError:
        raise Problem(404, "no-plan", "No such plan", f"{number} is not remembered.") from None
