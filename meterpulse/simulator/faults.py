"""Faults on purpose, each one labelled: what a meter, its clock, its network or its owner does wrong.

Some faults hit single readings (their rate is the chance of a reading), some a channel or an area for a while (their
rate is the share of the channels that can have it, or of the areas, in the run, or in each day of a longer one). A
channel has at most one of the latter, and none of its readings in it gets one of the former, so the truth says exactly
what was done. All is a function of the city's seed, the span and the rates.

>>> parse("late=0.02,stuck=0.1")
{'late': 0.02, 'stuck': 0.1}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS, iso
from meterpulse.simulator.chance import hashed, key_of
from meterpulse.simulator.city import City
from meterpulse.simulator.episodes import EPISODES, Applied, Plan

# fault: rate under "all"
OF_READINGS = {
    "missing": 0.005,
    "duplicate": 0.01,
    "late": 0.01,
    "out_of_order": 0.01,
    "spike": 0.0005,
    "sentinel": 0.0005,
}
DEFAULTS = OF_READINGS | EPISODES
ALL_ONES = 0xFFFFFF  # what a register of 24 bits shows when it could not be read
SPIKE_TIMES, SPIKE_PER_SECOND = 20, 10_000  # 10 Wh/s is 36 kW
TruthRow = dict[str, Any]


class FaultSpecError(ValueError):
    """The faults asked for are not known, or a rate is not a share."""


def parse(spec: str) -> dict[str, float]:
    """Rates by fault: "late=0.01,duplicate=0.02"; a name alone takes its usual rate; "all" is every fault; "" or
    "none" is none.
    """
    rates: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in spec.split(","))):
        name, given, text = (p.strip() for p in part.partition("="))
        if name == "none":
            continue
        if name != "all" and name not in DEFAULTS:
            raise FaultSpecError(f"fault {name[:40]!r} is not known; known are all, none, {', '.join(DEFAULTS)}")
        try:
            rate = float(text) if given else None
        except ValueError:
            rate = -1.0
        if rate is not None and not 0 <= rate <= 1:
            raise FaultSpecError(f"{part[:60]!r}: a rate is a number from 0 to 1, as in {name}=0.01")
        for fault in DEFAULTS if name == "all" else (name,):
            rates[fault] = DEFAULTS[fault] if rate is None else rate
    if sum(rates.get(fault, 0) for fault in OF_READINGS) > 1:
        raise FaultSpecError(
            f"the rates of {', '.join(OF_READINGS)} add up to more than 1; a reading has at most one of them"
        )
    return {fault: rate for fault, rate in rates.items() if rate > 0}


class Faults:
    """Puts the faults of one run into its sweeps and tells each to `truth` (lists of rows, in the order of the sweeps).

    A truth row is {"fault", "channel" (null for an area's), "start", "end", "detail"}: the time of the readings it
    changed, before it changed them, `end` exclusive. `counts` says how many rows of each fault there were so far.
    """

    def __init__(
        self,
        city: City,
        rates: dict[str, float],
        start_ms: int,
        end_ms: int,
        every_seconds: int,
        truth: Callable[[list[TruthRow]], object] | None = None,
    ):
        self._city, self._truth, self.counts = city, truth, Counter[str]()
        self._every_ms = every_seconds * 1000
        self._start_ms, self._sweeps = start_ms, -(-(end_ms - start_ms) // self._every_ms)
        self._rates, self._every_seconds, self._end_ms = rates, every_seconds, end_ms
        self._last_end = min(start_ms + self._a_day(), end_ms)
        self._plans = [Plan(city, rates, start_ms, self._last_end, every_seconds)]
        self._key = key_of(city.seed, "faults of readings")
        self._limits = _limits(rates)
        self._held: dict[int, list[Readings]] = defaultdict(list)

    def due(self, at_ms: int) -> Readings:
        """What was held back until the sweep at `at_ms`; begins that sweep."""
        while self._last_end <= at_ms < self._end_ms:
            self._plan_another_day()
        self._tell(self._plans[-1].begun(at_ms))
        return Readings.concat(self._held.pop(self._sweep(at_ms), []))

    def apply(self, sweep: Readings) -> Readings:
        """One part of a sweep (ascending channels, one start for all) as it is delivered now."""
        at_ms, seconds = int(sweep.start[0]), int(sweep.seconds[0])
        episodes = Applied(sweep.quantity, None, None, np.empty(0, np.int64))
        for plan in self._plans:
            episodes = plan.apply(sweep.channel, episodes, at_ms, seconds)
        chosen = self._choose(sweep.channel, at_ms, episodes.touched)
        quantity, keep = episodes.quantity, episodes.keep
        for fault, rows in chosen.items():
            quantity, keep = self._hit(fault, rows, sweep.channel, quantity, keep, at_ms, seconds)
        start = sweep.start if episodes.start is None else episodes.start
        out = Readings(sweep.channel, start, sweep.seconds, quantity, sweep.revision)
        self._hold(out, chosen, at_ms)
        return out if keep is None else out.take(keep)

    def rest(self) -> Readings:
        """All that is still held back; ends the run."""
        held, self._held = self._held, defaultdict(list)
        return Readings.concat([part for sweep in sorted(held) for part in held[sweep]])

    def _plan_another_day(self) -> None:
        """Draw the next day's episodes; of earlier days only what they did to registers goes on."""
        self._plans = [plan for plan in self._plans if len(plan.lasting)]
        taken = np.unique(np.concatenate([np.empty(0, np.int64), *(plan.lasting for plan in self._plans)]))
        rates = {fault: rate for fault, rate in self._rates.items() if fault != "rollover"}
        begin = self._last_end
        end = self._last_end = min(begin + self._a_day(), self._end_ms)
        self._plans.append(Plan(self._city, rates, begin, end, self._every_seconds, taken))

    def _a_day(self) -> int:
        """A day in whole sweeps."""
        return -(-DAY_MS // self._every_ms) * self._every_ms

    def _choose(self, channel: np.ndarray, at_ms: int, touched: np.ndarray) -> dict[str, np.ndarray]:
        """Rows that get a fault of their own, by fault; rows touched by an episode get none."""
        if not self._limits:
            return {}
        bits = hashed(int(hashed(self._key, np.array([at_ms // 1000]))[0]), channel)
        top = max(limit for _, limit in self._limits)
        rows = np.flatnonzero((bits >> np.uint64(11)) < np.uint64(top))
        if len(touched):
            rows = rows[~np.isin(rows, touched)]
        which = np.searchsorted([limit for _, limit in self._limits], bits[rows] >> np.uint64(11), side="right")
        intervals = channel[rows] < self._city.blocks[4]
        chosen = {}
        for i, (fault, _) in enumerate(self._limits):
            mine = rows[(which == i) & (intervals | (fault not in ("spike", "sentinel")))]
            if len(mine):
                chosen[fault] = mine
        return chosen

    def _hit(self, fault, rows, channel, quantity, keep, at_ms, seconds):
        """Apply one fault to its rows and tell the truth; gives the new quantity and keep columns."""
        details: list[dict[str, Any]] = [{}] * len(rows)
        if fault in ("spike", "sentinel"):
            was = quantity[rows]
            quantity = quantity.copy()
            quantity[rows] = was * SPIKE_TIMES + SPIKE_PER_SECOND * seconds if fault == "spike" else ALL_ONES
            details = [{"was": w, "sent": s} for w, s in zip(was.tolist(), quantity[rows].tolist(), strict=True)]
        elif fault != "duplicate":
            keep = np.ones(len(channel), bool) if keep is None else keep
            keep[rows] = False
        if fault in ("late", "out_of_order", "duplicate"):
            delay = (self._due(fault, channel[rows], at_ms) - self._sweep(at_ms)) * self._every_ms // 1000
            details = [{"seconds": d} for d in delay.tolist()]
        if self._truth is not None:
            start, end = iso(at_ms), iso(at_ms + seconds * 1000)
            ids = self._city.ids(channel[rows]).to_pylist()
            self._tell(
                [
                    {"fault": fault, "channel": i, "start": start, "end": end, "detail": d}
                    for i, d in zip(ids, details, strict=True)
                ]
            )
        else:
            self.counts[fault] += len(rows)
        return quantity, keep

    def _hold(self, out: Readings, chosen: dict[str, np.ndarray], at_ms: int) -> None:
        for fault in ("late", "out_of_order", "duplicate"):
            if fault in chosen:
                rows = chosen[fault]
                due = self._due(fault, out.channel[rows], at_ms)
                for sweep in np.unique(due).tolist():
                    self._held[sweep].append(out.take(rows[due == sweep]))

    def _due(self, fault: str, channel: np.ndarray, at_ms: int) -> np.ndarray:
        """The sweep with which a reading comes: up to 3 later (out of order, the copy of a duplicate), or 1 min to 2 h
        later.
        """
        bits = hashed(self._key + at_ms, channel)
        if fault == "late":
            seconds = (60 << (bits >> np.uint64(61)).astype(np.int64)) * (
                128 + (bits & np.uint64(127)).astype(np.int64)
            ) >> 8
            later = np.maximum(seconds * 1000 // self._every_ms, 4)
        else:
            later = 1 + (bits & np.uint64(0xFFFF)).astype(np.int64) % 3
        return np.minimum(self._sweep(at_ms) + later, self._sweeps)

    def _sweep(self, at_ms: int) -> int:
        return (at_ms - self._start_ms) // self._every_ms

    def _tell(self, rows: list[TruthRow]) -> None:
        self.counts.update(row["fault"] for row in rows)
        if rows and self._truth is not None:
            self._truth(rows)


def _limits(rates: dict[str, float]) -> list[tuple[str, int]]:
    """Where each fault of readings ends on the scale of 53 random bits."""
    out, total = [], 0
    for fault in OF_READINGS:
        if fault in rates:
            total += round(rates[fault] * 2**53)
            out.append((fault, total))
    return out
