"""Every rule once more, in plain Python over lists: no arrays, no compiled loop, no code of the package.

A rule here takes a Case and gives findings as tuples (row, first, after, status, measured, limit, decision). Where one is
told, amounts are thousandths; statuses and decisions are words.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

Finding = tuple[int, int, int, str, int, int, str]
HOUR = 3_600_000
LINEAR, EDITED, REVENUE, RAW, VALIDATED = 9, 7, 19, 14, 17


@dataclass
class Case:
    """None is a value that is missing, or something that is not known."""

    kind: str
    utility: str
    zone: str
    start_ms: int
    step_ms: int
    first: int
    after: int
    values: list[list[int | None]]
    scale: Fraction
    unit_code: int = 0
    digits: int | None = None
    multiplier: Fraction = Fraction(1)
    interval_seconds: int = 3600
    quality: list[list[int]] = field(default_factory=list)
    readings: list[list[int]] | None = None
    expected: int = 1
    history: dict[int, list[int | None]] | None = None  # day -> totals
    rating: list[int | None] | None = None
    registers: list[tuple[int, int, int, int, int, int | None]] | None = None
    outages: list[tuple[int, int, int]] | None = None
    inactive: list[tuple[int, int, int]] | None = None
    exchanges: list[tuple[int, int, int]] | None = None
    siblings: dict[str, tuple[list[bool], list[list[int | None]]]] | None = None
    estimated_since: list[int | None] | None = None
    previous: list[list[tuple[int, int, bool] | None]] | None = None  # value, quality, billed
    repeats: list[list[int]] | None = None
    seconds: list[list[int]] | None = None
    clock_ms: list[list[int | None]] | None = None
    unit_told: list[int | None] | None = None
    multiplier_told: list[Fraction | None] | None = None
    meter_matches: list[bool] | None = None

    def cells(self) -> Iterator[tuple[int, int, int]]:
        """(row, column, value) of the judged values that are there."""
        for r, row in enumerate(self.values):
            for c in range(self.first, self.after):
                if row[c] is not None:
                    yield r, c, row[c]

    def local(self, column: int) -> date:
        """The local date at a column's start."""
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=self.start_ms + column * self.step_ms)
        return at.astimezone(ZoneInfo(self.zone)).date()

    def days(self) -> list[tuple[int, list[int]]]:
        """(day, columns) of every local day that is there in full and has a judged column."""
        columns = range(len(self.values[0]))
        dates = [self.local(c) for c in columns]
        cut = {self.local(-1), self.local(len(columns))}  # days that go on outside
        out = []
        for day in sorted(set(dates) - cut):
            mine = [c for c in columns if dates[c] == day]
            if any(self.first <= c < self.after for c in mine):
                out.append(((day - date(1970, 1, 1)).days, mine))
        return out

    def totals(self, row: int) -> dict[int, int]:
        """Known totals by day: of the history, and of the whole judged days."""
        known = {day: t[row] for day, t in (self.history or {}).items() if t[row] is not None}
        for day, columns in self.days():
            values = [self.values[row][c] for c in columns]
            known.pop(day, None)
            if None not in values:
                known[day] = sum(values)
        return known


def spans(flags: list[bool], offset: int) -> Iterator[tuple[int, int]]:
    begin = None
    for i, flag in enumerate([*flags, False]):
        if flag and begin is None:
            begin = i
        if not flag and begin is not None:
            yield begin + offset, i + offset
            begin = None


def v01(case: Case) -> Iterator[Finding]:
    for r, c, _ in case.cells() if case.repeats else ():
        if case.repeats[r][c] > 0:
            yield r, c, c + 1, "warn", case.repeats[r][c], 0, "none"


def v02(case: Case) -> Iterator[Finding]:
    for r, told in enumerate(case.unit_told or ()):
        if told is not None and told != case.unit_code:
            yield r, case.first, case.after, "fail", told, case.unit_code, "none"


def v03(case: Case) -> Iterator[Finding]:
    if case.seconds and case.kind == "interval":
        for r, c, _ in case.cells():
            if case.seconds[r][c] != case.interval_seconds:
                yield r, c, c + 1, "fail", case.seconds[r][c], case.interval_seconds, "none"


def v04(case: Case) -> Iterator[Finding]:
    for r, told in enumerate(case.multiplier_told or ()):
        if told is not None and told != case.multiplier:
            yield r, case.first, case.after, "fail", int(told * 10**6), int(case.multiplier * 10**6), "none"


def v05(case: Case) -> Iterator[Finding]:
    for r, c, _ in case.cells() if case.clock_ms else ():
        ahead = case.clock_ms[r][c]
        if ahead is None:
            continue
        if ahead > 300_000:
            yield r, c, c + 1, "fail", ahead, 300_000, "none"
        elif abs(ahead) > 180_000:
            yield r, c, c + 1, "warn", ahead, 180_000 if ahead > 0 else -180_000, "none"


def v06(case: Case) -> Iterator[Finding]:
    if case.expected > 1 and case.readings is not None:
        return
    for r, c, value in case.cells():
        in_unit = Fraction(value) / case.scale
        ones = [2**b - 1 for b in (16, 24, 32, 40, 48)]
        if in_unit in ones or value in ones[1:]:
            yield r, c, c + 1, "fail", value, value, "none"


def v07(case: Case) -> Iterator[Finding]:
    if case.kind == "register":
        return
    judged = range(case.first, case.after)
    for r, row in enumerate(case.values):
        for a, b in spans([row[c] is None for c in judged], case.first):
            yield r, a, b, "fail", b - a, 0, "none"
    for r, row in enumerate(case.values if case.readings else ()):
        single = [row[c] is not None and case.readings[r][c] == 1 for c in range(len(row))]
        long = {c for a, b in spans(single, 0) if (b - a) * case.step_ms >= 3_600_000 for c in range(a, b)}
        short = [row[c] is not None and case.readings[r][c] < case.expected and c not in long for c in judged]
        for a, b in spans(short, case.first):
            yield r, a, b, "fail", min(case.readings[r][a:b]), case.expected, "none"


def v08(case: Case) -> Iterator[Finding]:
    if case.inactive is None or case.kind != "interval":
        return
    for r, low, high in case.inactive:
        inside = range(max(low, case.first), min(high, case.after))
        used = [(case.values[r][c] or 0) > 0 for c in inside]
        for a, b in spans(used, inside.start):
            yield r, a, b, "fail", sum(case.values[r][a:b]), 0, "none"


def v09(case: Case) -> Iterator[Finding]:
    usual = {"electricity": 48_000_000, "gas": 10_000_000, "water": 5_000_000}[case.utility]
    if case.kind != "interval":
        return
    for r, c, value in case.cells():
        rating = usual if case.rating is None or case.rating[r] is None else case.rating[r]
        limit = math.floor(rating * Fraction(case.step_ms, HOUR) * Fraction(11, 10))
        if value > limit:
            yield r, c, c + 1, "fail", value, limit, "none"


def v10(case: Case) -> Iterator[Finding]:
    floor = {"electricity": 500_000, "gas": 2_000_000, "water": 1_000_000}[case.utility] * case.step_ms // HOUR
    if case.kind != "interval":
        return
    for r, row in enumerate(case.values):
        for _, columns in case.days():
            known = [(row[c], -c) for c in columns if row[c] is not None]
            if len(known) < 12:
                continue
            ordered = sorted(known, reverse=True)
            (top, at), third = ordered[0], max(ordered[2][0], 0)
            if top * 10 > third * 28 and top >= floor and case.first <= -at < case.after:
                yield r, -at, -at + 1, "fail", top, third * 28 // 10, "none"


def v11(case: Case) -> Iterator[Finding]:
    if case.registers is None or case.kind != "interval":
        return
    for r, low, high, delta, step, tariffs in case.registers:
        if low < 0 or high > len(case.values[0]) or high <= case.first or low >= case.after:
            continue
        values = case.values[r][low:high]
        total = sum(v for v in values if v is not None)
        if total > delta + 2 * step or (None not in values and total < delta - 2 * step):
            yield r, low, high, "fail", total, delta, "none"
        if tariffs is not None and abs(tariffs - delta) > 2 * step:
            yield r, low, high, "fail", tariffs, delta, "none"


def v12(case: Case) -> Iterator[Finding]:
    if case.history is None or case.kind != "interval":
        return
    floor = {"electricity": 1_000_000, "gas": 1_000_000, "water": 100_000}[case.utility]
    for r in range(len(case.values)):
        known = case.totals(r)
        for day, columns in case.days():
            season = [known[d] for d in range(day - 372, day - 357) if d in known]
            prior = [known[d] for d in range(day - 66, day - 6) if d in known]
            base = season if len(season) >= 2 else prior if len(prior) >= 6 else None
            if base is None or day not in known:
                continue
            own = [known[d] for d in range(day - 6, day + 1) if d in known]
            mean, usual = sum(own) // len(own), sum(base) // len(base)
            low, high = max(usual, 0) * 2 // 10, max(usual, 0) * 3
            if mean < low and usual >= floor:
                yield r, columns[0], columns[-1] + 1, "fail", mean, low, "none"
            elif mean > high and mean >= floor:
                yield r, columns[0], columns[-1] + 1, "fail", mean, high, "none"


def v13(case: Case) -> Iterator[Finding]:
    limit = {"electricity": 3, "gas": 30, "water": 14}[case.utility]
    if case.kind != "interval":
        return
    for r in range(len(case.values)):
        known = case.totals(r)
        excused = set()
        for row, low, high in (case.outages or []) + (case.inactive or []):
            for c in range(low, high) if row == r else ():
                excused.add((case.local(c) - date(1970, 1, 1)).days)
        for day, columns in case.days():
            count = 0
            while known.get(day - count) == 0 and day - count not in excused:
                count += 1
            if count >= limit:
                yield r, columns[0], columns[-1] + 1, "warn", count, limit, "none"


def v14(case: Case) -> Iterator[Finding]:
    for r, c, value in case.cells() if case.kind == "interval" else ():
        if value < 0:
            yield r, c, c + 1, "fail", value, 0, "none"


def v15(case: Case) -> Iterator[Finding]:
    minutes = case.step_ms // 60_000
    needed = -(-24 * 60 // minutes)
    if case.kind == "register":
        return
    for r, row in enumerate(case.values):
        begin = 0
        for c in range(1, len(row) + 1):
            if c == len(row) or row[c] != row[begin]:
                if row[begin] and c - begin >= needed and begin < case.after and c > case.first:
                    yield r, begin, c, "fail", (c - begin) * minutes, needed * minutes, "none"
                begin = c


def v16(case: Case) -> Iterator[Finding]:
    if case.kind != "register":
        return
    full = None if case.digits is None else int(10**case.digits * case.scale)
    for r, row in enumerate(case.values):
        before, since, event = None, 0, False
        for c in range(case.after):
            event = event or any(row_ == r and low <= c < high for row_, low, high in case.exchanges or ())
            now = row[c]
            if now is None:
                continue
            decision = "none"
            if before is not None:
                rating = None if case.rating is None else case.rating[r]
                share = Fraction(11, 10) * Fraction(case.step_ms, HOUR) / case.multiplier
                most = None if rating is None else (math.floor(rating * share) + 1) * (c - since)
                if event:
                    decision = "exchange"
                elif now < before:
                    rolled = full is not None and before * 10 > full * 9 and now * 10 < full
                    if rolled and (most is None or now + full - before <= most):
                        decision = "rollover"
                    else:
                        decision = "hold" if now * 10 >= before * 9 else "reset"
            if decision != "none" and c >= case.first:
                status = "fail" if decision in ("hold", "reset") else "pass"
                told = (now + full - before, full) if decision == "rollover" else (now, before)
                yield r, c, c + 1, status, *told, decision
            if decision != "hold":
                before, since, event = now, c, False


def v17(case: Case) -> Iterator[Finding]:
    if not case.siblings or case.kind != "interval":
        return
    hours = Fraction(case.step_ms, HOUR)
    for role, (configured, values) in case.siblings.items():
        for r, row in enumerate(case.values):
            if not configured[r]:
                continue
            judged = range(case.first, case.after)
            for a, b in spans([row[c] is not None and values[r][c] is None for c in judged], case.first):
                yield r, a, b, "fail", b - a, 0, "none"
            for c in judged:
                mine, other = row[c], values[r][c]
                if mine is None or other is None:
                    continue
                if role == "reactive" and mine >= 500_000 * hours:
                    limit = mine * 1_732_051 // 10**6  # tan(acos(0.5)) is the root of 3
                    if abs(other) > limit:
                        yield r, c, c + 1, "fail", abs(other), limit, "none"
                if role in ("apparent", "demand"):
                    limit = math.floor(max(other, 0) * Fraction(102, 100) * (hours if role == "demand" else 1))
                    if mine > limit:
                        yield r, c, c + 1, "fail", mine, limit, "none"


def v18(case: Case) -> Iterator[Finding]:
    end = case.start_ms + case.after * case.step_ms
    for r, since in enumerate(case.estimated_since or ()):
        if since is not None and (end - since) // (24 * HOUR) >= 14:
            yield r, case.first, case.after, "fail", (end - since) // (24 * HOUR), 14, "none"


def v19(case: Case) -> Iterator[Finding]:
    def rank(quality: int) -> int:
        order = {REVENUE: 5, 18: 4, 0: 3, VALIDATED: 3, EDITED: 3, 11: 3, 8: 1, LINEAR: 1, 12: 1, 15: 1}
        return order.get(quality & 0xFF, 2)

    for r, c, new in case.cells() if case.previous else ():
        if case.previous[r][c] is None:
            continue
        old, old_quality, billed = case.previous[r][c]
        if old == new:
            continue
        before, now = rank(old_quality), rank(case.quality[r][c])
        if now < before:
            decision = "keep"
        elif billed:
            decision = "adjust"
        elif now > before or abs(new - old) <= 1_000_000 or 2 * abs(new - old) <= abs(old):
            decision = "replace"
        else:
            decision = "hold"
        yield r, c, c + 1, "pass" if decision == "replace" else "warn", new, old, decision


def v20(case: Case) -> Iterator[Finding]:
    """Of the formula `max - min > 2 * median and zero_count < 20`."""
    for r, row in enumerate(case.values if case.kind != "register" else ()):
        for _, columns in case.days():
            known = [row[c] for c in columns if row[c] is not None]
            wide = known and max(known) - min(known) > 2 * statistics.median(known)
            if wide and known.count(0) < 20:
                yield r, columns[0], columns[-1] + 1, "fail", 1, 0, "none"


def v21(case: Case) -> Iterator[Finding]:
    for r, c, value in case.cells() if case.kind == "register" and case.digits else ():
        largest = int(10**case.digits * case.scale) - 1
        if value > largest:
            yield r, c, c + 1, "fail", value, largest, "none"
    for r, matches in enumerate(case.meter_matches or ()):
        if not matches:
            yield r, case.first, case.after, "fail", 0, 1, "none"


RULES = {f"V{n:02d}": globals()[f"v{n:02d}"] for n in range(1, 22)}
