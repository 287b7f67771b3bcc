"""Random load profiles with everything that a rule may need, in two forms: arrays for the rules, lists for the oracle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from vee_oracle import Case

from meterpulse import vee
from meterpulse.model.channel import Kind, Utility
from meterpulse.model.quality import Quality
from meterpulse.model.quantity import unit_of
from meterpulse.model.window import local_midnight

UNITS = {"electricity": "kWh", "gas": "m3", "water": "L"}
# Days that gain and lose an hour, and ordinary ones.
PLACES = [("America/New_York", 20_519), ("Europe/Athens", 20_750), ("Australia/Lord_Howe", 20_545), ("UTC", 20_600)]
LEVELS = [0, 0, 1, 5, 150_000, 400_000, 500_000, 499_999, 900_000, 52_800_000, 52_800_001, 5_500_001, 70_000_000]
ODD = [-1, -400_000, 0xFFFFFF, 0xFFFFFFFF, 65_535 * 10**6, 65_535]


def random_case(seed: int, kind: str = "interval") -> Case:
    """One to three channels, two to four days around a place's day, of which a part is judged."""
    rng = np.random.default_rng(seed)
    zone, day = PLACES[rng.integers(len(PLACES))]
    utility = str(rng.choice(list(UNITS)))
    step = int(rng.choice([15, 30, 60])) * 60_000
    n = int(rng.integers(1, 4))
    start = local_midnight(zone, day - 1)
    start -= start % step + int(rng.integers(0, 3)) * step
    columns = int(rng.integers(2, 5)) * 24 * 3_600_000 // step + int(rng.integers(0, 8))
    first = int(rng.integers(0, columns // 2))
    after = int(rng.integers(first, columns + 1))
    values = [_row(rng, columns, kind) for _ in range(n)]
    unit = unit_of(UNITS[utility])
    case = Case(
        kind=kind, utility=utility, zone=zone, start_ms=start, step_ms=step, first=first, after=after, values=values,
        scale=unit.scale, unit_code=unit.code, interval_seconds=step // 1000,
        digits=int(rng.integers(3, 6)) if kind == "register" and rng.random() < 0.8 else None,
        multiplier=Fraction(int(rng.choice([1, 40]))), expected=60,
    )  # fmt: skip
    draw = Draw(rng, n, columns)
    case.quality = draw.all([0, 7, 9, 14, 14, 17, 19])
    case.readings = draw.all([60, 60, 60, 59, 1]) if rng.random() < 0.4 else None
    for counts in case.readings or ():  # history in reads of a longer interval
        a, b = sorted(int(c) for c in rng.integers(0, columns, 2))
        counts[a:b] = [1] * (b - a)
    case.history = draw.maybe(_totals(draw, values, day))
    case.rating = draw.maybe(draw.some([100_000, 900_000, 10**9]))
    case.outages, case.inactive, case.exchanges = (draw.maybe(draw.spans(2)) for _ in range(3))
    case.registers = draw.maybe(_register_spans(draw, values))
    case.siblings = draw.maybe(
        {
            role: ([bool(b) for b in rng.random(n) < 0.8], draw.gappy(LEVELS))
            for role in ("reactive", "apparent", "demand", "received")
        }
    )
    case.estimated_since = draw.maybe(draw.some([start - d * 86_400_000 for d in (0, 5, 11, 12, 13, 14, 20)]))
    old, grade, billed = draw.gappy(LEVELS), draw.all([9, 14, 17, 19]), rng.random((n, columns)) < 0.2
    case.previous = draw.maybe(
        [[None if v is None else (v, grade[r][c], bool(billed[r, c])) for c, v in enumerate(old[r])] for r in range(n)]
    )
    case.repeats = draw.maybe(draw.all([0, 0, 0, 2]))
    case.seconds = draw.maybe(draw.all([step // 1000, 5]))
    case.clock_ms = draw.maybe(draw.gappy([0, 180_000, 180_001, -180_001, 300_000, 300_001]))
    case.unit_told = draw.maybe(draw.some([unit.code, 1]))
    fractions = [Fraction(1), Fraction(40), Fraction(7, 3)]
    case.multiplier_told = draw.maybe([None if i is None else fractions[i] for i in draw.some([0, 1, 2])])
    case.meter_matches = draw.maybe([bool(b) for b in rng.random(n) < 0.7])
    return case


class Draw:
    """Random columns and matrices of n channels; `maybe` leaves one in seven out."""

    def __init__(self, rng: np.random.Generator, n: int, columns: int):
        self.rng, self.n, self.columns = rng, n, columns

    def maybe(self, made):
        return made if self.rng.random() < 0.85 else None

    def all(self, choices):
        return self.rng.choice(choices, (self.n, self.columns)).tolist()

    def gappy(self, choices):
        there = self.rng.random((self.n, self.columns)) < 0.9
        rows = zip(self.all(choices), there, strict=True)
        return [[v if t else None for v, t in zip(*row, strict=True)] for row in rows]

    def some(self, choices):
        there = self.rng.random(self.n) < 0.7
        return [v if t else None for v, t in zip(self.rng.choice(choices, self.n).tolist(), there, strict=True)]

    def spans(self, most):
        rows = self.rng.integers(0, self.n, int(self.rng.integers(0, most + 1)))
        lows = self.rng.integers(-90, self.columns, len(rows))
        return [(int(r), int(a), int(a + self.rng.integers(1, 60))) for r, a in zip(rows, lows, strict=True)]


def _totals(draw: Draw, values: list[list[int | None]], day: int) -> dict[int, list[int | None]]:
    """Of the days around and before, and a year ago; a channel that uses nothing used nothing then."""
    near, far = day - draw.rng.integers(-1, 75, 60), day - draw.rng.integers(350, 380, 20)
    base = int(draw.rng.choice([10_000_000, 40_000_000, 200_000_000]))
    days = sorted({int(d) for d in near} | {int(d) for d in far} | {day - d for d in range(1, 40)})
    times = draw.rng.choice([0, 10, 10, 15, 50], (len(days), draw.n))
    known = draw.rng.random((len(days), draw.n)) < 0.8
    idle = [not any(row) for row in values]
    return {
        d: [
            (0 if idle[r] else base * int(times[i, r]) // 10) if idle[r] or known[i, r] else None for r in range(draw.n)
        ]
        for i, d in enumerate(days)
    }


def _register_spans(draw: Draw, values: list[list[int | None]]) -> list[tuple[int, int, int, int, int, int | None]]:
    """Mostly right, or wrong by a little."""
    out = []
    for row, low, high in draw.spans(6):
        total = sum(v or 0 for v in values[row][max(low, 0) : high])
        tariffs = total + int(draw.rng.integers(-3, 4)) if draw.rng.random() < 0.5 else None
        out.append((row, low, high, total + int(draw.rng.integers(-3, 4)), 1, tariffs))
    return sorted(out, key=lambda s: s[:3])


def _row(rng: np.random.Generator, columns: int, kind: str) -> list[int | None]:
    """Stretches of one level, of noise, of nothing; single odd values. A register goes up, mostly."""
    row: list[int | None] = []
    quiet = rng.random() < 0.3
    while len(row) < columns:
        length, style = int(rng.integers(1, 100 if rng.random() < 0.3 else 12)), rng.random()
        level = 0 if quiet else int(rng.choice(LEVELS))
        if style < 0.1 and not quiet:
            row += [None] * min(length, 5)
        elif style < 0.6:
            row += [level] * length
        else:
            row += rng.integers(0, level + 1, length).tolist()
        if rng.random() < 0.2 and not quiet:
            row.append(int(rng.choice(ODD)))
    if kind == "interval":
        return row[:columns]
    index, out = int(rng.choice([0, 890_000, 9_990_000, 99_500_000])), []
    for value, odd in zip(row[:columns], rng.random(columns), strict=True):
        index += min(abs(value or 0), 900_000)
        if odd < 0.03:
            index = int(index * rng.choice([0.0, 0.05, 0.5, 0.95]))
        out.append(None if value is None else index - (index // 20 if odd > 0.97 else 0))
    return out


def arrays(case: Case) -> tuple[vee.Profile, vee.Context]:
    """The same for the rules. What is missing is garbage there, so that nobody looks at it."""
    n, m = len(case.values), len(case.values[0])
    unit = unit_of(UNITS[case.utility])
    traits = vee.Traits(
        Utility[case.utility], Kind[case.kind], unit, case.interval_seconds, zone=case.zone, digits=case.digits,
        multiplier=case.multiplier,
    )  # fmt: skip
    quantity, quality = _filled(case.values)
    quality = np.where(quality == vee.MISSING, quality, np.array(case.quality, np.int32)).astype(np.int32)
    readings = None if case.readings is None else np.array(case.readings, np.int32)
    profile = vee.Profile(
        traits, np.arange(n, dtype=np.uint32), case.start_ms, case.step_ms, quantity, quality, case.first, case.after,
        readings, case.expected if readings is not None else 1,
    )  # fmt: skip

    def spans(given):
        return None if given is None else vee.Spans.of(given)

    def column(given, dtype, absent):
        return None if given is None else np.array([absent if v is None else v for v in given], dtype)

    context = vee.Context(
        rating=column(case.rating, np.int64, vee.UNKNOWN),
        outages=spans(case.outages), inactive=spans(case.inactive), exchanges=spans(case.exchanges),
        estimated_since=column(case.estimated_since, np.int64, vee.UNKNOWN),
        unit=column(case.unit_told, np.uint8, vee.NOT_TOLD), meter_matches=column(case.meter_matches, bool, None),
        repeats=column(case.repeats, np.int32, None), seconds=column(case.seconds, np.int32, None),
        **_history(case), **_registers(case), **_siblings(case), **_previous(case, (n, m)), **_told(case),
    )  # fmt: skip
    return profile, context


def _filled(values: list[list[int | None]]) -> tuple[np.ndarray, np.ndarray]:
    quantity = np.array([[70_000_000_000 if v is None else v for v in row] for row in values], np.int64)
    known = np.array([[v is not None for v in row] for row in values])
    return quantity, np.where(known, int(Quality.RAW), vee.MISSING).astype(np.int32)


def _history(case: Case) -> dict:
    if case.history is None:
        return {}
    day = np.array(sorted(case.history), np.int32)
    total = [[vee.UNKNOWN if v is None else v for v in case.history[int(d)]] for d in day]
    return {"history": vee.History(day, np.ascontiguousarray(np.array(total, np.int64).T))}


def _registers(case: Case) -> dict:
    if case.registers is None:
        return {}
    rows = [[vee.UNKNOWN if v is None else v for v in span] for span in case.registers]
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    types = (np.uint32, np.int32, np.int32, np.int64, np.int64, np.int64)
    return {"registers": vee.RegisterSpans(*(c.astype(t) for c, t in zip(columns, types, strict=True)))}


def _siblings(case: Case) -> dict:
    if case.siblings is None:
        return {}
    made = [vee.Sibling(role, np.array(on), *_filled(values)) for role, (on, values) in case.siblings.items()]
    return {"siblings": tuple(made)}


def _previous(case: Case, shape: tuple[int, int]) -> dict:
    if case.previous is None:
        return {}
    quantity, quality, billed = np.zeros(shape, np.int64), np.full(shape, vee.MISSING, np.int32), np.zeros(shape, bool)
    for r, row in enumerate(case.previous):
        for c, told in enumerate(row):
            if told is not None:
                quantity[r, c], quality[r, c], billed[r, c] = told
    return {"previous": vee.Previous(quantity, quality, billed)}


def _told(case: Case) -> dict:
    out = {}
    if case.clock_ms is not None:
        out["clock_ms"] = np.array([[vee.UNKNOWN if v is None else v for v in row] for row in case.clock_ms], np.int64)
    if case.multiplier_told is not None:
        pairs = [(0, 0) if f is None else (f.numerator, f.denominator) for f in case.multiplier_told]
        out["multiplier"] = np.array(pairs, np.int64)
    return out
