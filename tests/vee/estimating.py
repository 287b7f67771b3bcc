"""Small load profiles with gaps, and each way of estimating told again in plain Python, from its description."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import isqrt
from zoneinfo import ZoneInfo

import numpy as np

from meterpulse.model.channel import Kind, Utility
from meterpulse.model.quality import RAW
from meterpulse.model.quantity import unit_of
from meterpulse.vee import MISSING, Context, Profile, RegisterSpans, Spans, Traits
from meterpulse.vee.estimation import Estimates, Order, estimate
from meterpulse.vee.gaps import Support

HOUR_MS = 3_600_000


def traits(zone="UTC", seconds=3600):
    return Traits(Utility.electricity, Kind.interval, unit_of("kWh"), seconds, zone=zone)


def profile(values, *, zone="UTC", start="2026-01-05T00:00", first=0, after=-1, hours=1):
    """Of rows of numbers, None where nothing is known; the start is local."""
    ms = int(datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)
    quantity = np.array([[0 if v is None else v for v in row] for row in values], np.int64)
    quality = np.array([[MISSING if v is None else RAW for v in row] for row in values], np.int32)
    channel = np.arange(len(values), dtype=np.uint32)
    return Profile(traits(zone, 3600 * hours), channel, ms, hours * HOUR_MS, quantity, quality, first, after)


def filled(given: Profile, *order: str, context=None, support=None, settings=None) -> Estimates:
    return estimate(given, context or Context(), support or Support(), Order.of(order, settings))


def rows(estimates: Estimates) -> list[list[int | None]]:
    """The judged values, None where nothing could be told."""
    pairs = zip(estimates.quantity.tolist(), estimates.quality.tolist(), strict=True)
    return [[None if g == MISSING else v for v, g in zip(*pair, strict=True)] for pair in pairs]


def registers(*spans):
    """Of (row, first, after, quantity)."""
    row, first, after, quantity = np.array(sorted(spans), np.int64).T
    ones = np.ones(len(row), np.int64)
    return RegisterSpans(
        row.astype(np.uint32), first.astype(np.int32), after.astype(np.int32), quantity, resolution=ones
    )


def outage(*spans):
    return Context(outages=Spans.of(spans))


class Oracle:
    """One channel's values by local (date, hour); a second 01:00 in autumn only answers for itself."""

    def __init__(self, given: Profile, holidays=(), off=()):
        zone = ZoneInfo(given.traits.zone)
        known = given.quality[0] != MISSING
        self.values = [int(v) if k else None for v, k in zip(given.quantity[0], known, strict=True)]
        self.off = set(off)
        self.clock = []
        for c in range(len(self.values)):
            at = datetime.fromtimestamp((given.start_ms + c * given.step_ms) / 1000, zone)
            self.clock.append((at.date(), at.hour))
        self.at = {}
        for c, key in enumerate(self.clock):
            self.at.setdefault(key, c)
        self.days = sorted({day for day, _ in self.clock})
        self.holidays = set(holidays)
        end = datetime.fromtimestamp((given.start_ms + len(known) * given.step_ms) / 1000, zone)
        begin = datetime.fromtimestamp(given.start_ms / 1000, zone)
        whole = [d for d in self.days if (d > begin.date() or begin.hour == 0) and d < end.date()]
        self.references = [d for d in whole if d not in self.holidays and self.sound_day(d)]

    def sound(self, c):
        return 0 <= c < len(self.values) and self.values[c] is not None and c not in self.off

    def sound_day(self, day):
        return all(self.sound(c) for c, (d, _) in enumerate(self.clock) if d == day)

    def kind(self, day):
        return 2 if day in self.holidays else max(day.weekday() - 4, 0)

    def reference_day(self, a, b, count=3):
        out = []
        for c in range(a, b):
            day, hour = self.clock[c]
            part = [h for d, h in self.clock[a:b] if d == day]
            fits = [
                d
                for d in self.references
                if d != day and self.kind(d) == self.kind(day) and all((d, h) in self.at for h in part)
            ]
            best = sorted(fits, key=lambda d: (abs(d - day), d))[:count]
            total = sum(self.values[self.at[d, hour]] for d in best)
            out.append((2 * total + count) // (2 * count) if len(best) == count else None)
        return out

    def similar_day(self, a, b, days_max=30):
        """As e4_similar_day.py describes it, with its defaults."""
        first, last = self.clock[a][0], self.clock[b - 1][0]
        size = {c: (1 if v >= 0 else -1) * isqrt(abs(v) * 65536) for c, v in enumerate(self.values) if self.sound(c)}
        level = max(sum(map(abs, size.values())) // len(size), 1)
        scored = []
        for k in range(-60, 61):
            away = timedelta(days=k)
            taken = [first + away + timedelta(days=i) for i in range((last - first).days + 1)]
            if any(d not in self.references for d in taken) or (taken[0] <= last and taken[-1] >= first):
                continue
            points = abs(k) * 64 // 30 + 37 * (first.weekday() != taken[0].weekday())
            points += 64 * ((self.kind(first) != self.kind(taken[0])) + (self.kind(last) != self.kind(taken[-1]))) // 2
            points += self._unlike(a, b, away, size, level)
            scored.append((points, k))
        scored = sorted(scored)[:days_max]
        if len(scored) < 3:
            return None
        weights = [(timedelta(days=k), self._weight(points - scored[0][0])) for points, k in scored]
        mixes = [self._mix(c, weights) for c in range(a - 1, b + 1)]
        if not all(mixes[1:-1]):
            return None
        total = sum(sum(v * w for v, w in mix) // sum(w for _, w in mix) for mix in mixes[1:-1])
        at = max(q for q in range(4096) if q == 0 or sum(self._quantile(m, q) for m in mixes[1:-1]) <= total)
        out = [self._quantile(mix, at) for mix in mixes[1:-1]]
        for mix, c, steps in ((mixes[0], a - 1, range(b - a)), (mixes[-1], b, reversed(range(b - a)))):
            if self.sound(c) and mix:
                off = self.values[c] - self._quantile(mix, at)
                for nth, i in enumerate(steps):
                    if abs(off) < 4 << nth:
                        break
                    out[i] = max(out[i] + off // (4 << nth), 0)
        return out

    def _unlike(self, a, b, away, size, level):
        differs = weights = 0
        for j in range(24):
            for c in (a - 1 - j, b + j):
                if c in size:
                    e = self.at.get((self.clock[c][0] + away, self.clock[c][1]))
                    if e in size:
                        differs += (24 - j) * abs(size[c] - size[e])
                        weights += 24 - j
        return 1500 * (differs // weights) // level if weights else 375

    def _weight(self, points):
        return (1024 * (128 - points % 64) // 128) >> (points // 64) if points < 11 * 64 else 0

    def _mix(self, c, weights):
        """Sorted (value, weight) of the reference days at column c's time of day."""
        if not 0 <= c < len(self.values):
            return []
        day, hour = self.clock[c]
        out = []
        for away, weight in weights:
            e = self.at.get((day + away, hour))
            if e is None:
                continue
            for side, share in ((-1, weight * 5 // 8), (0, weight), (1, weight * 5 // 8)):
                if self.sound(e + side) and share:
                    out.append((self.values[e + side], share))
        return sorted(out, key=lambda pair: pair[0])

    @staticmethod
    def _quantile(mix, at):
        wanted = 2 * sum(w for _, w in mix) * at // 4096
        passed, before = 0, None
        for value, weight in mix:
            middle = 2 * passed + weight
            passed += weight
            if middle >= wanted:
                if before is None:
                    return value
                share = ((wanted - before[1]) << 10) // (middle - before[1])
                return before[0] + ((value - before[0]) * share >> 10)
            before = value, middle
        return before[0]
