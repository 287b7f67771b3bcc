"""Days that are to be rebuilt because somebody asked, or because it is night: kept in the store, so that they go on after a kill.

Dirty days come first, always. A plan's day that fails is told, and does not hold up the others.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from meterpulse.model.window import DAY_MS, day_of_text, day_text, zone
from meterpulse.stores import Store

NIGHTLY = "nightly"
_NOTE, _NIGHT = "plans", "night"
_REMEMBERED = 5  # plans that are done


@dataclass
class Plan:
    """UTC days: those that are left, what became of the others."""

    number: int
    what: str
    asked_ms: int
    left: list[int]
    done: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def shape(self) -> dict[str, Any]:
        """As the API tells it."""
        total = len(self.left) + len(self.done) + len(self.failed)
        return {
            "number": self.number,
            "what": self.what,
            "total": total,
            "left": len(self.left),
            "next": day_text(self.left[0]) if self.left else None,
            "days": self.done,
            "failed": self.failed,
        }


class Plans:
    """One after the other. Any thread may add; one works."""

    def __init__(self, store: Store):
        self._store, self._changed = store, threading.Condition()
        noted = store.note(_NIGHT)
        self._night = None if noted is None else int(noted)
        self._plans = [Plan(**told) for told in json.loads(store.note(_NOTE) or b"[]")]

    def add(self, what: str, days: Sequence[int], now_ms: int) -> int:
        """Its number. Durable on return."""
        with self._changed:
            number = 1 + max((plan.number for plan in self._plans), default=0)
            self._plans.append(Plan(number, what, now_ms, sorted(set(days))))
            self._keep()
        return number

    def next(self) -> tuple[int, int] | None:
        """(number, day) of what is to be rebuilt now."""
        with self._changed:
            return next(((plan.number, plan.left[0]) for plan in self._plans if plan.left), None)

    def finished(self, number: int, day: int, became: dict[str, Any] | str) -> None:
        """A day was rebuilt, with this report, or failed for this reason."""
        with self._changed:
            plan = self._of(number)
            plan.left.remove(day)
            if isinstance(became, str):
                plan.failed[day_text(day)] = became
            else:
                plan.done.append(became)
            self._keep()

    def wait(self, number: int, seconds: float) -> dict[str, Any]:
        """The plan's shape when it is done, or after so long. Raises KeyError."""
        with self._changed:
            self._changed.wait_for(lambda: not self._of(number).left, seconds)
            return self._of(number).shape()

    def summary(self) -> dict[str, Any] | None:
        """Of the one that is worked on."""
        with self._changed:
            told = next((plan.shape() for plan in self._plans if plan.left), None)
        return None if told is None else {name: told[name] for name in ("number", "what", "total", "left", "next")}

    def _of(self, number: int) -> Plan:
        for plan in self._plans:
            if plan.number == number:
                return plan
        raise KeyError(number)

    def _keep(self) -> None:
        done = [plan for plan in self._plans if not plan.left][:-_REMEMBERED]
        self._plans = [plan for plan in self._plans if plan not in done]
        self._store.write([], notes={_NOTE: json.dumps([asdict(plan) for plan in self._plans]).encode()})
        self._changed.notify_all()

    # -- at night

    def begin_night(
        self, at: str, zone_name: str, days: int, known: Callable[[], Sequence[int]], now_ms: int
    ) -> int | None:
        """Plans the newest `days` whole UTC days of those that are known, once a night. A night that went by while nobody was up
        is made up for at the next start; on a first start none has gone by. The plan's number, None where nothing is due."""
        night = last_night(at, zone_name, now_ms)
        if night is None or (self._night is not None and self._night >= night):
            return None
        whole = [day for day in sorted(known()) if (day + 1) * DAY_MS <= now_ms] if self._night is not None else []
        number = self.add(NIGHTLY, whole[-days:], now_ms) if whole else None
        self._store.write([], notes={_NIGHT: str(night).encode()})  # after the plan: done twice does no harm
        self._night = night
        return number


def last_night(at: str, zone_name: str, now_ms: int) -> int | None:
    """The newest instant (ms) at or before now at which a clock on the wall said `at` ("02:30"); None for "off".

    Where the clock skips that time it is what the clock would have said; where it says so twice, the first.
    """
    if at == "off":
        return None
    hour, minute = map(int, at.split(":"))
    there = zone(zone_name)
    today = datetime.fromtimestamp(now_ms / 1000, there).replace(
        hour=hour, minute=minute, second=0, microsecond=0, fold=0
    )
    for days in (0, 1, 2):
        instant = int((today.replace(tzinfo=None) - timedelta(days=days)).replace(tzinfo=there).timestamp() * 1000)
        if instant <= now_ms:
            return instant
    raise AssertionError("one of three nights has gone by")


def days_between(days: Sequence[int], start: str | None, end: str | None) -> list[int]:
    """Those from the day `start` to the day `end` (UTC, both included); raises ValueError."""
    low = None if start is None else day_of_text(start)
    high = None if end is None else day_of_text(end)
    return [day for day in days if (low is None or low <= day) and (high is None or day <= high)]
