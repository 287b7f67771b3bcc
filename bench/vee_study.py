"""How good validation and estimation are: estimates of values that are known but hidden, and rules against faults that are known.

python bench/vee_study.py --homes FOLDER --gaps SWM.zip [--strangers FILE.csv.gz ...]    writes docs/vee-quality.md
python bench/vee_study.py --small                                                         the simulated part, a small city

FOLDER holds half-hourly London files of one meter each (`LCLid,tstp,energy(kWh/hh)`, stamps in GMT); SWM.zip is the DAIAD
trial of water meters (`user key;datetime;meter reading;diff`), whose real gaps, clustered as they were, are laid over the
complete London homes; FILEs are other homes (`start,value`, gzip), which had no part in choosing a setting.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from _common import report

from meterpulse.model.channel import CustomerClass, Direction, Kind, Utility
from meterpulse.model.quality import RAW
from meterpulse.model.quantity import UNITS
from meterpulse.model.window import DAY_MS, instant_ms, local_day, local_midnight
from meterpulse.simulator import City, Faults, heartbeats, parse, places
from meterpulse.simulator.city import BLOCKS
from meterpulse.simulator.episodes import Applied, Plan
from meterpulse.vee import MISSING, UNKNOWN, Context, Decision, Findings, History, Profile, RegisterSpans, Traits
from meterpulse.vee.catalogue import RuleSet
from meterpulse.vee.estimation import DEFAULT_ORDER, Order, estimate
from meterpulse.vee.gaps import Support
from meterpulse.vee.runner import judge

HALF_HOUR_MS = 1_800_000
DOCUMENT = Path(__file__).parents[1] / "docs" / "vee-quality.md"
HOLIDAYS = [date(2013, *day) for day in ((1, 1), (3, 29), (4, 1), (5, 6), (5, 27), (8, 26), (12, 25), (12, 26))]
# (name, from hours, to hours): of gaps
LENGTHS = (
    ("to 2 h", 0, 2),
    ("2 to 6 h", 2, 6),
    ("6 to 24 h", 6, 24),
    ("1 to 3 days", 24, 72),
    ("3 to 14 days", 72, 336),
)
JUDGED = 3, 72  # hours, what the order is judged by
ORDERS: dict[str, Order] = {
    "default order": Order.of(DEFAULT_ORDER),
    "like day (1 day)": Order.of(("reference_day",), {"reference_day": {"days": 1}}),
    "average like day (3 days)": Order.of(("reference_day",)),
    "straight line": Order.of(("linear",), {"linear": {"minutes_max": 100_000}}),
    "similar day": Order.of(("similar_day",)),
    "average day": Order.of(("average_day",)),
    "class profile": Order.of(("class_profile",)),
}
PLAIN = "like day (1 day)", "average like day (3 days)"


# -- estimation ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Homes:
    """Values int64[n, m] in mWh where `known`, from `start_ms` on."""

    names: list[str]
    quantity: np.ndarray
    known: np.ndarray  # bool[n, m]
    start_ms: int
    step_ms: int


def london(folder: Path) -> Homes:
    """The homes with all but a few of the half hours of 2013."""
    start = instant_ms("2013-01-01T00:00:00Z")
    slots = 365 * 48
    names, rows, known = [], [], []
    for file in sorted(folder.glob("*.csv")):
        values, there = np.zeros(slots, np.int64), np.zeros(slots, bool)
        with file.open(newline="") as lines:
            for row in list(csv.reader(lines))[1:]:
                at = (
                    int(datetime.fromisoformat(row[1]).replace(tzinfo=UTC).timestamp() * 1000) - start
                ) // HALF_HOUR_MS
                if 0 <= at < slots:
                    values[at], there[at] = round(float(row[2]) * 1e6), True
        if there.sum() >= slots - 24 and values.sum() > 100_000_000:  # 100 kWh a year: somebody lives there
            names.append(file.stem)
            rows.append(values)
            known.append(there)
    return Homes(names, np.array(rows), np.array(known), start, HALF_HOUR_MS)


def stranger(file: Path) -> Homes:
    """One home of `start,value`, its longest 364 days."""
    with gzip.open(file, "rt", newline="") as lines:
        rows = [row for row in list(csv.reader(lines))[1:] if row[1]]
    at = [int(datetime.fromisoformat(row[0]).replace(tzinfo=UTC).timestamp() * 1000) for row in rows]
    step = int(np.median(np.diff(at)))
    first = -(-at[0] // DAY_MS) * DAY_MS
    slots = 364 * DAY_MS // step
    values, there = np.zeros(slots, np.int64), np.zeros(slots, bool)
    for ms, row in zip(at, rows, strict=True):
        if first <= ms < first + slots * step and (ms - first) % step == 0:
            values[(ms - first) // step], there[(ms - first) // step] = round(float(row[1]) * 1e6), True
    return Homes([file.name.split(".")[0]], values[None], there[None], first, step)


def real_gaps(file: Path) -> list[list[tuple[int, int]]]:
    """Of every water meter the gaps of its first year: (start, length) in hours, the start counted from a Monday."""
    reads: dict[str, list[float]] = defaultdict(list)
    with zipfile.ZipFile(file) as archive:
        text = archive.read(archive.namelist()[0]).decode()
    for row in list(csv.reader(io.StringIO(text), delimiter=";"))[1:]:
        reads[row[0]].append(datetime.strptime(row[1], "%d/%m/%Y %H:%M:%S").replace(tzinfo=UTC).timestamp() / 3600)
    patterns = []
    monday = datetime(2016, 2, 29, tzinfo=UTC).timestamp() / 3600
    for _, hours in sorted(reads.items()):
        at = np.unique(np.array(sorted(hours)))
        between = np.diff(at)
        gaps = [(int(a - monday), int(g)) for a, g in zip(at[:-1], between, strict=True) if 1.9 < g <= 336]
        share = sum(g for _, g in gaps) / max(1.0, at[-1] - at[0])
        if len(gaps) >= 10 and at[-1] - at[0] > 24 * 200 and share < 0.25:
            patterns.append(gaps)
    return patterns


def masked(
    homes: Homes, patterns: Sequence[list[tuple[int, int]]], times: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(home of each row int64[r], hidden bool[r, m]): each home under the gaps of `times` water meters, whole weeks shifted."""
    random = np.random.default_rng(seed)
    slots, an_hour = homes.quantity.shape[1], 3_600_000 // homes.step_ms
    home = np.repeat(np.arange(len(homes.names)), times)
    hidden = np.zeros((len(home), slots), bool)
    first_monday = (7 - (homes.start_ms // DAY_MS + 3) % 7) % 7 * 24
    for r in range(len(home)):
        shift = int(random.integers(0, 52)) * 168
        for start, length in patterns[int(random.integers(len(patterns)))]:
            a = (start + first_monday + shift) % (364 * 24) * an_hour
            hidden[r, a : a + length * an_hour] = True
    return home, hidden & homes.known[home]


@dataclass
class Score:
    """What an order made of the hidden values of some gaps."""

    error: int = 0
    used: int = 0
    told: int = 0
    hidden: int = 0

    @property
    def wape(self) -> float:
        """Σ|estimate - true| / Σ true, over what it told."""
        return self.error / max(1, self.used)


def runs_of(hidden: np.ndarray) -> list[tuple[int, int, int]]:
    """(row, first, after) of every gap."""
    steps = np.diff(np.pad(hidden, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(steps == 1)
    return list(zip(row.tolist(), first.tolist(), np.nonzero(steps == -1)[1].tolist(), strict=True))


def study_estimation(homes: Homes, patterns: Sequence[list[tuple[int, int]]], times: int) -> dict[str, Any]:
    """WAPE by order and length of gap, and what registers make of it."""
    home, hidden = masked(homes, patterns, times, 1)
    quality = np.where(hidden | ~homes.known[home], MISSING, RAW).astype(np.int32)
    traits = Traits(Utility.electricity, Kind.interval, UNITS["kWh"], homes.step_ms // 1000)
    given = np.where(quality == MISSING, 0, homes.quantity[home])
    profile = Profile(traits, np.arange(len(home), dtype=np.uint32), homes.start_ms, homes.step_ms, given, quality)
    holidays = np.array([day.toordinal() - date(1970, 1, 1).toordinal() for day in HOLIDAYS], np.int32)
    gaps = runs_of(hidden)
    scores: dict[str, dict[str, Score]] = {}
    made: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, order in ORDERS.items():
        support = Support(holidays=holidays)
        if name == "class profile":  # of the other homes
            quantity, told = np.zeros_like(given), np.zeros(given.shape, bool)
            for h in range(len(homes.names)):
                rows = np.flatnonzero(home == h)
                others = np.delete(np.arange(len(homes.names)), h)
                if not len(others):
                    continue
                shape = homes.quantity[others].sum(axis=0)
                one = estimate(profile.take(rows), Context(), replace(support, class_profile=shape), order)
                quantity[rows], told[rows] = one.quantity, one.quality != MISSING
        else:
            found = estimate(profile, Context(), support, order)
            quantity, told = found.quantity, found.quality != MISSING
        made[name] = quantity, told
        scores[name] = {label: Score() for label, *_ in LENGTHS} | {"judged": Score(), "judged, both": Score()}
    both = np.logical_and.reduce([made[name][1] for name in ("default order", *PLAIN)])
    true = homes.quantity[home]
    for r, a, b in gaps:
        hours = (b - a) * homes.step_ms / 3_600_000
        labels = [label for label, low, high in LENGTHS if low < hours <= high]
        if JUDGED[0] <= hours <= JUDGED[1]:
            labels.append("judged")
        for name, (quantity, told) in made.items():
            for label in labels:
                _count(scores[name][label], quantity[r, a:b], true[r, a:b], told[r, a:b])
            if "judged" in labels:
                _count(scores[name]["judged, both"], quantity[r, a:b], true[r, a:b], told[r, a:b] & both[r, a:b])
    by_registers = _closed(profile, true, hidden, homes.known[home], Support(holidays=holidays))
    return {
        "homes": len(homes.names), "rows": len(home), "gaps": len(gaps), "hidden": int(hidden.sum()),
        "scores": {n: {label: vars(s) | {"wape": s.wape} for label, s in own.items()} for n, own in scores.items()},
        "registers": by_registers,
    }  # fmt: skip


def _count(score: Score, estimates: np.ndarray, true: np.ndarray, told: np.ndarray) -> None:
    score.error += int(np.abs(estimates - true)[told].sum())
    score.used += int(true[told].sum())
    score.told += int(told.sum())
    score.hidden += len(true)


def _closed(
    profile: Profile, true: np.ndarray, hidden: np.ndarray, known: np.ndarray, support: Support
) -> dict[str, Any]:
    """A register that is read every Monday: what the estimates then say, and what is billed."""
    week = 7 * DAY_MS // profile.step_ms
    spans = [
        (r, w, w + week, int(true[r, w : w + week].sum()))
        for r in range(len(true))
        for w in range(0, true.shape[1] - week + 1, week)
        if hidden[r, w : w + week].any() and known[r, w : w + week].all()
    ]
    columns = np.array(spans, np.int64).reshape(-1, 4).T
    registers = RegisterSpans(columns[0].astype(np.uint32), columns[1].astype(np.int32), columns[2].astype(np.int32),
                              columns[3], np.ones(columns.shape[1], np.int64))  # fmt: skip
    found = estimate(profile, Context(registers=registers), support, ORDERS["default order"])
    told = found.quality != MISSING
    billed, score = 0, Score()
    closed = 0
    for r, a, b, total in spans:
        if told[r, a:b].all():
            closed += 1
            billed += abs(int(found.quantity[r, a:b].sum()) - total)
            inside = hidden[r, a:b]
            _count(score, found.quantity[r, a:b][inside], true[r, a:b][inside], told[r, a:b][inside])
    return {"weeks": len(spans), "closed": closed, "billed_error": billed, "wape": score.wape}


# -- rules ---------------------------------------------------------------------------------------------------------------

STEP_SECONDS, BEFORE_DAYS, DAYS = 900, 60, 14
RATES = "missing=0.003,spike=0.0002,sentinel=0.0002"
EPISODES = {
    "stuck": 0.02, "scale_div10": 0.02, "clock_drift": 0.02, "rollover": 0.15, "meter_exchange": 0.03, "water_leak": 0.03,
    "theft": 0.03, "area_outage": 0.03,
}  # fmt: skip
# Which faults a rule is there for.
MEANT = {
    "V05": ("clock_drift",), "V06": ("sentinel",), "V07": ("missing", "area_outage", "meter_exchange"), "V09": ("spike", "sentinel"),
    "V10": ("spike", "sentinel"), "V11": ("stuck", "scale_div10", "spike", "sentinel"),
    "V12": ("scale_div10", "theft", "water_leak", "stuck", "sentinel"), "V13": (), "V15": ("stuck",), "V16": ("rollover", "meter_exchange"),
}  # fmt: skip


@dataclass
class Tally:
    """Of a rule: findings and how many of them touch a fault it is meant for, or any; and of each fault those it found."""

    findings: int = 0
    right: int = 0
    any_fault: int = 0
    faults: dict[str, list[int]] | None = None


def study_rules(households: int, seed: int) -> dict[str, Any]:
    """A city of which the truth is known, quarter of an hour by quarter of an hour."""
    city = City(households, seed=seed, registers=0.3, solar=0.05)
    zone = "America/New_York"
    start_ms = local_midnight(zone, local_day(zone, instant_ms("2026-01-05T12:00:00Z")))
    step_ms = STEP_SECONDS * 1000
    from_ms = local_midnight(zone, local_day(zone, start_ms + DAY_MS // 2) + BEFORE_DAYS)
    until_ms = local_midnight(zone, local_day(zone, start_ms + DAY_MS // 2) + BEFORE_DAYS + DAYS)
    columns, first = (until_ms - start_ms) // step_ms, (from_ms - start_ms) // step_ms
    quantity = np.zeros((city.count, columns), np.int64)
    quality = np.full((city.count, columns), RAW, np.int32)
    drift = np.zeros((city.count, columns), np.int64)
    truth: list[dict[str, Any]] = []
    plan = Plan(city, EPISODES, from_ms, until_ms, STEP_SECONDS)
    singles = Faults(city, parse(RATES), from_ms, until_ms, STEP_SECONDS, truth.extend)
    for c in range(columns):
        at_ms = start_ms + c * step_ms
        sweep = heartbeats(city, at_ms, STEP_SECONDS)
        values, keep, start = np.array(sweep.quantity), None, None
        if at_ms >= from_ms:
            singles.due(at_ms)
            begun = len(truth)
            faulty = singles.apply(sweep)
            truth[begun:] = [row for row in truth[begun:] if not _has_episode(city, plan, row["channel"])]
            own = np.full(city.count, -1, np.int64)
            own[faulty.channel] = faulty.quantity
            values, keep = np.where(own < 0, values, own), own >= 0
            episodic = np.zeros(city.count, bool)
            episodic[plan.channel] = True
            values[episodic], keep[episodic] = sweep.quantity[episodic], True
            done = plan.apply(sweep.channel, Applied(values, None, None, np.empty(0, np.int64)), at_ms, STEP_SECONDS)
            truth.extend(plan.begun(at_ms))
            values, start = done.quantity, done.start
            keep = keep if done.keep is None else keep & done.keep
        quantity[:, c] = values
        if keep is not None:
            quality[~keep, c] = MISSING
        if start is not None:
            drift[:, c] = start - at_ms
    faults = _instances(city, truth, start_ms, step_ms, columns)
    tallies: dict[str, Tally] = defaultdict(lambda: Tally(faults=defaultdict(lambda: [0, 0])))
    for block, (low, high) in enumerate(zip(city.blocks[:-1].tolist(), city.blocks[1:].tolist(), strict=True)):
        shape = BLOCKS[block]
        for klass in CustomerClass:
            is_business = city.customer_of(np.arange(low, high)) >= city.households
            rows = np.arange(low, high)[is_business == (klass is CustomerClass.business)]
            if not len(rows):
                continue
            traits = Traits(
                Utility[shape.utility], Kind[shape.kind], UNITS[shape.unit], STEP_SECONDS, Direction[shape.direction], klass, zone,
                shape.digits,
            )  # fmt: skip
            profile = Profile(traits, rows.astype(np.uint32), start_ms, step_ms, quantity[rows], quality[rows], first)
            registers = _registers(city, rows, quantity, quality, plan, profile) if block == 0 else None
            context = Context(clock_ms=drift[rows], history=_history(profile), registers=registers)
            verdict = judge(profile, context, RuleSet.of())
            _tally(
                tallies,
                verdict.findings,
                rows,
                faults,
                {int(r) for r in registers.row} if registers else set(),
                traits.kind,
                drift[rows],
            )
    return {
        "households": households, "channels": city.count, "values": int((quality[:, first:] != MISSING).sum()),
        "faults": {name: len(own) for name, own in _by_fault(faults).items()},
        "rules": {
            id: {"findings": t.findings, "right": t.right, "any": t.any_fault, "faults": {n: list(v) for n, v in (t.faults or {}).items()}}
            for id, t in sorted(tallies.items())
        },
    }  # fmt: skip


def _has_episode(city: City, plan: Plan, channel: str | None) -> bool:
    global _episodic
    if channel is None:
        return False
    key = id(plan)
    if _episodic is None or _episodic[0] != key:
        _episodic = key, set(city.ids(plan.channel).to_pylist())
    return channel in _episodic[1]


_episodic: tuple[int, set[str]] | None = None
Instance = tuple[str, int, int, int]  # fault, channel, first column, column after


def _instances(city: City, truth: list[dict[str, Any]], start_ms: int, step_ms: int, columns: int) -> list[Instance]:
    index = {id: i for i, id in enumerate(city.ids(np.arange(city.count)).to_pylist())}
    area = city.area_of(np.arange(city.count))
    electric = np.concatenate(
        [np.arange(city.blocks[b], city.blocks[b + 1]) for b, s in enumerate(BLOCKS) if s.utility == "electricity"]
    )
    number = {place.name: i for i, place in enumerate(places.postcodes())}
    out: list[Instance] = []
    for row in truth:
        first = (instant_ms(row["start"]) - start_ms) // step_ms
        after = max(first + 1, -(-(instant_ms(row["end"]) - start_ms) // step_ms))
        if row["fault"] == "area_outage":
            dark = electric[area[electric] == number[row["detail"]["area"]]]
            out += [("area_outage", int(c), first, min(after, columns)) for c in dark]
        else:
            out.append((row["fault"], index[row["channel"]], first, min(after, columns)))
    return out


def _by_fault(faults: list[Instance]) -> dict[str, list[Instance]]:
    out: dict[str, list[Instance]] = defaultdict(list)
    for fault in faults:
        out[fault[0]].append(fault)
    return dict(sorted(out.items()))


def _history(profile: Profile) -> History:
    """Totals of the whole days before the judged ones, from the profile's own columns."""
    zone = profile.traits.zone
    days, totals = [], []
    day = local_day(zone, profile.start_ms)
    while True:
        a, b = ((local_midnight(zone, d) - profile.start_ms) // profile.step_ms for d in (day, day + 1))
        if b > profile.first:
            break
        totals.append(
            np.where((profile.quality[:, a:b] == MISSING).any(axis=1), UNKNOWN, profile.quantity[:, a:b].sum(axis=1))
        )
        days.append(day)
        day += 1
    return History(np.array(days, np.int32), np.stack(totals, axis=1))


def _registers(
    city: City, rows: np.ndarray, quantity: np.ndarray, quality: np.ndarray, plan: Plan, profile: Profile
) -> RegisterSpans:
    """What the electricity registers say of each local day, where nothing happened to the register itself."""
    low, high = int(city.blocks[4]), int(city.blocks[5])
    of_customer = {int(c): low + i for i, c in enumerate(city.customer_of(np.arange(low, high)))}
    zone, spans = profile.traits.zone, []
    troubled = set(plan.channel.tolist())
    for r, customer in enumerate(city.customer_of(rows)):
        register = of_customer.get(int(customer))
        if register is None or register in troubled:
            continue
        day = local_day(zone, profile.start_ms + profile.first * profile.step_ms)
        while True:
            a, b = ((local_midnight(zone, d) - profile.start_ms) // profile.step_ms for d in (day, day + 1))
            if b >= quantity.shape[1]:
                break
            if quality[register, a] != MISSING and quality[register, b] != MISSING:
                spans.append((r, a, b, int(quantity[register, b] - quantity[register, a])))
            day += 1
    columns = np.array(spans, np.int64).reshape(-1, 4).T
    return RegisterSpans(columns[0].astype(np.uint32), columns[1].astype(np.int32), columns[2].astype(np.int32),
                         columns[3], np.full(columns.shape[1], 1, np.int64))  # fmt: skip


def _can_see(id: str, fault: str, kind: Kind, has_register: bool, drift_ms: np.ndarray) -> bool:
    """Whether the rule is for such channels at all, and the fault is large enough to be one."""
    if fault == "clock_drift":
        return len(drift_ms) > 0 and int(np.abs(drift_ms).max()) > 180_000
    if id == "V11":
        return has_register
    return kind is Kind.register if id == "V16" else id != "V07" or kind is not Kind.register


def _tally(
    tallies: dict[str, Tally],
    findings: Findings,
    rows: np.ndarray,
    faults: list[Instance],
    with_register: set[int],
    kind: Kind,
    late_by: np.ndarray,
) -> None:
    place = {int(c): r for r, c in enumerate(rows)}
    looks_back = {"V12": 6 * DAY_MS // (STEP_SECONDS * 1000)}  # it judges the mean of seven days
    here = [(name, place[c], a, b) for name, c, a, b in faults if c in place]
    by_row: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for name, r, a, b in here:
        by_row[r].append((name, a, b))
    found: dict[str, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for rule, r, a, b, decision in zip(
        findings.rule.tolist(), findings.row.tolist(), findings.first.tolist(), findings.after.tolist(), findings.decision.tolist(),
        strict=True,
    ):  # fmt: skip
        id = f"V{rule:02d}"
        tally = tallies[id]
        if id == "V16" and decision == Decision.NONE:
            continue
        a -= looks_back.get(id, 0)
        touched = {name for name, fa, fb in by_row[r] if fa < b and a <= fb}
        tally.findings += 1
        tally.right += bool(touched & set(MEANT.get(id, ())))
        tally.any_fault += bool(touched)
        found[id][r].append((a, b))
    for id, meant in MEANT.items():
        for name, r, a, b in here:
            if name in meant and _can_see(id, name, kind, r in with_register, late_by[r, a:b]):
                seen = tallies[id].faults
                assert seen is not None
                seen[name][1] += 1
                seen[name][0] += any(fa <= b and a < fb for fa, fb in found[id][r])


# -- the document --------------------------------------------------------------------------------------------------------


def document(estimation: dict[str, dict[str, Any]], rules: dict[str, Any]) -> str:
    """docs/vee-quality.md."""
    london_ = estimation["London"]
    default, plains = london_["scores"]["default order"], [london_["scores"][name] for name in PLAIN]
    labels = [label for label, *_ in LENGTHS if default[label]["hidden"]]
    gain = [1 - default["judged, both"]["wape"] / plain["judged, both"]["wape"] for plain in plains]
    lines = [
        "# How good validation and estimation are",
        "",
        "Made by `python bench/vee_study.py`; run it on your own homes. What a rule does is in [validate](how-to/validate.md).",
        "",
        "## Estimates",
        "",
        f"{london_['homes']} London homes that have (nearly) every half hour of 2013, each {london_['rows'] // london_['homes']} "
        "times under the gaps that a real water meter in Alicante had in a year, as clustered as they were there: "
        f"{london_['gaps']:,} gaps, {london_['hidden']:,} hidden values. The error is Σ|estimate − true| / Σ true over the "
        "hidden values (WAPE), in per cent, and in brackets the share of values that a method could tell.",
        "",
        "| method | " + " | ".join(labels) + " |",
        "|---|" + "---|" * len(labels),
    ]
    for name, own in london_["scores"].items():
        cells = [
            f"{own[label]['wape']:.1%} ({own[label]['told'] / max(1, own[label]['hidden']):.0%})" for label in labels
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Gaps of {JUDGED[0]} to {JUDGED[1]} hours, values that all three could tell: default order "
        f"**{default['judged, both']['wape']:.1%}**, like day {plains[0]['judged, both']['wape']:.1%}, average like day "
        f"{plains[1]['judged, both']['wape']:.1%}: the default errs **{gain[0]:.0%}** less than one like day and **{gain[1]:.0%}** less "
        "than the average of three.",
        "",
    ]
    others = {name: found for name, found in estimation.items() if name != "London"}
    if others:
        lines += [
            "The settings were chosen while looking at London. Homes that had no part in it, same gaps, 3 to 72 hours:",
            "",
            "| home | default order | like day | average like day |",
            "|---|---|---|---|",
        ]
        for name, found in others.items():
            s = found["scores"]
            lines.append(
                f"| {name} | "
                + " | ".join(f"{s[n]['judged, both']['wape']:.1%}" for n in ("default order", *PLAIN))
                + " |"
            )
        lines.append("")
    r = london_["registers"]
    lines += [
        "**With a register** that is read once a week, the estimates of a week are scaled to what it says was used: "
        f"{r['closed']:,} weeks with gaps, error of what is billed for them: **{r['billed_error']}** mWh. A "
        "single hidden half hour then errs by "
        f"{r['wape']:.1%} then.",
        "",
        "## Rules",
        "",
        f"A simulated city of {rules['households']:,} households and its businesses: {rules['channels']:,} channels every quarter of an "
        f"hour, {BEFORE_DAYS} days of history, {DAYS} days with faults on purpose ({rules['values']:,} values judged). Default settings. "
        "*Precision* is the share of a rule's findings that touch a fault it is there for (in brackets: any fault); *recall* the share "
        "of the faults that it found.",
        "",
        "| rule | findings | precision | recall by fault |",
        "|---|---|---|---|",
    ]
    for id, own in rules["rules"].items():
        if id not in MEANT:
            continue
        precision = (
            f"{own['right'] / own['findings']:.1%} ({own['any'] / own['findings']:.1%})"
            if own["findings"] and MEANT[id]
            else "–"
        )
        recall = ", ".join(
            f"{name} {hit} of {all_} ({hit / all_:.0%})" for name, (hit, all_) in own["faults"].items() if all_
        )
        lines.append(f"| {id} | {own['findings']:,} | {precision} | {recall or '–'} |")
    lines += [
        "",
        "How to read it. V10 compares a value with the third highest of its day, so a spike beside two others, or on a day of hardly any "
        "use, passes; V09 sees only what no service can carry. V12 looks at the mean of seven days, and asks whether it is "
        "below a fifth or above three times the usual: two days at a tenth, a theft of a third of the use or a small leak stay inside "
        "that and are for detection over weeks. V11 needs a register beside the intervals. V05 needs a "
        "meter that "
        "tells its clock, and sees drifts of more than three minutes. V13 has no fault of its own here: its findings are homes that "
        "used nothing.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--homes", type=Path, help="folder of half-hourly London files, one meter each")
    parser.add_argument("--gaps", type=Path, help="DAIAD's swm_trialA.zip")
    parser.add_argument("--strangers", type=Path, nargs="*", default=[], help="start,value files (gzip) of other homes")
    parser.add_argument("--times", type=int, default=12, help="how many gap patterns each home is put under")
    parser.add_argument("--households", type=int, default=1_000, help="of the simulated city")
    parser.add_argument("--small", action="store_true", help="the simulated part only, 100 households")
    parser.add_argument("--save", action="store_true", help="write bench/results and docs/vee-quality.md")
    arguments = parser.parse_args()
    rules = study_rules(100 if arguments.small else arguments.households, 7)
    estimation: dict[str, dict[str, Any]] = {}
    if arguments.homes and arguments.gaps and not arguments.small:
        patterns = real_gaps(arguments.gaps)
        estimation["London"] = study_estimation(london(arguments.homes), patterns, arguments.times)
        for file in arguments.strangers:
            estimation[file.name.split(".")[0]] = study_estimation(stranger(file), patterns, arguments.times * 4)
    rows = [
        (f"{id}: findings, right", f"{own['findings']:,}, {own['right']:,}", "") for id, own in rules["rules"].items()
    ]
    for name, found in estimation.items():
        s = found["scores"]
        rows.append(
            (
                f"{name}: WAPE of 3 to 72 h, default / like day / average",
                " / ".join(f"{s[n]['judged, both']['wape']:.1%}" for n in ("default order", *PLAIN)),
                "15 % less",
            )
        )
        rows.append((f"{name}: billed error with a register", f"{found['registers']['billed_error']} mWh", "must 0"))
    report("vee_study", rows, {"rules": rules, "estimation": estimation}, arguments.save)
    if estimation and arguments.save:
        DOCUMENT.write_text(document(estimation, rules))
    if any(found["registers"]["billed_error"] for found in estimation.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
