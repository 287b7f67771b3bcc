"""The whole VEE catalogue (V01-V21) on 15-minute reads, with 60 days of history for high/low.

python bench/vee.py              200,000 channels, blocks of 4,096 as the rebuild has them, two threads
python bench/vee.py --small      8,192 channels

Every rule judges every channel: the city's context (history, ratings, registers, siblings, the previous record, what the
messages said) is there in full, 1 in 100 channels has something wrong. `day` judges one local day with a day on both sides, as
a nightly rebuild does; `week` judges seven. Only judged reads count. Findings of some channels are compared with the plain
Python loops of tests/vee/vee_oracle.py; DuckDB judges missing and spike only, and must find the same.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from _common import report

from meterpulse.model.channel import Kind, Utility
from meterpulse.model.quality import RAW
from meterpulse.model.quantity import unit_of
from meterpulse.model.window import local_midnight
from meterpulse.vee import MISSING, UNKNOWN, Context, History, Previous, Profile, RegisterSpans, Sibling, Spans, Traits
from meterpulse.vee.catalogue import RuleSet, rules
from meterpulse.vee.runner import judge

sys.path.append(str(Path(__file__).parents[1] / "tests" / "vee"))
import vee_oracle as oracle  # noqa: E402

BLOCK, STEP_MS, A_DAY, HISTORY_DAYS = 4096, 900_000, 96, 60
ZONE, DAY = "Europe/Athens", 20_600
FORMULA = {"V20": {"formula": "max - min > 2 * median and zero_count < 20"}}  # the plain loop's
TRAITS = Traits(Utility.electricity, Kind.interval, unit_of("kWh"), STEP_MS // 1000, zone=ZONE)


@dataclass(frozen=True)
class Block:
    """Of the city, made before the clock runs."""

    profile: Profile
    context: Context


def block_of(seed: int, n: int, days: int) -> Block:
    """Homes with a daily course; 1 in 100 has a gap, a spike, a stuck register or a day five times as high."""
    rng = np.random.default_rng(seed)
    columns = (days + 2) * A_DAY
    shape = 60_000 + 50_000 * np.sin(np.arange(columns) * (2 * np.pi / A_DAY) - 2)
    level = rng.gamma(4, 0.25, (n, 1))
    quantity = (level * shape * rng.uniform(0.5, 1.5, (n, columns))).astype(np.int64)
    quality = np.full((n, columns), RAW, np.int32)
    judged = slice(A_DAY, A_DAY + days * A_DAY)
    for kind, rows in enumerate(np.array_split(rng.choice(n, max(4, n // 100), replace=False), 4)):
        at = int(rng.integers(A_DAY, A_DAY + days * A_DAY - 8))
        if kind == 0:
            quality[rows, at : at + 8] = MISSING
        elif kind == 1:
            quantity[rows, at] = 3_000_000
        elif kind == 2:
            quantity[rows, judged] = 77_000
        else:
            quantity[rows, judged] *= 12
    total = (level * shape[:A_DAY].sum() * rng.uniform(0.8, 1.2, (n, HISTORY_DAYS))).astype(np.int64)
    total[rng.random(total.shape) < 0.01] = UNKNOWN
    day = np.arange(DAY - 1 - HISTORY_DAYS, DAY - 1, dtype=np.int32)
    profile = Profile(
        TRAITS, np.arange(n, dtype=np.uint32), local_midnight(ZONE, DAY - 1), STEP_MS, quantity, quality, A_DAY,
        A_DAY + days * A_DAY,
    )  # fmt: skip
    return Block(profile, _context(rng, profile, History(day, total)))


def _context(rng: np.random.Generator, profile: Profile, history: History) -> Context:
    n, m = profile.quantity.shape
    few = np.sort(rng.choice(n, max(2, n // 500), replace=False))
    spans = Spans.of([(int(r), A_DAY + 10, A_DAY + 20) for r in few])
    known = np.where(profile.quality == MISSING, 0, profile.quantity)
    used = known[:, A_DAY : profile.after].sum(axis=1)
    each = np.arange(n, dtype=np.uint32), np.full(n, A_DAY, np.int32), np.full(n, profile.after, np.int32)
    resolution = np.full(n, 1_000, np.int64)
    siblings = tuple(
        Sibling(role, rng.random(n) < 0.5, profile.quantity // part, profile.quality)
        for role, part in (("reactive", 3), ("received", 50))
    )
    return Context(
        history=history, rating=np.full(n, 48_000_000, np.int64), registers=RegisterSpans(*each, used, resolution),
        outages=spans, inactive=spans, exchanges=spans, siblings=siblings,
        estimated_since=np.where(rng.random(n) < 0.001, profile.start_ms - 20 * 86_400_000, UNKNOWN),
        previous=Previous(profile.quantity, profile.quality, np.zeros((n, m), bool)),
        repeats=np.zeros((n, m), np.int32), seconds=np.full((n, m), STEP_MS // 1000, np.int32),
        clock_ms=np.zeros((n, m), np.int64), unit=np.full(n, TRAITS.unit.code, np.uint8),
        multiplier=np.ones((n, 2), np.int64), meter_matches=np.ones(n, bool),
    )  # fmt: skip


def case_of(block: Block, rows: np.ndarray) -> oracle.Case:
    """Some channels as the plain loops want them."""
    p, c = block.profile, block.context
    place = {int(r): i for i, r in enumerate(rows)}

    def told(quantity: np.ndarray, quality: np.ndarray) -> list[list[int | None]]:
        return [[None if g == MISSING else v for v, g in zip(*pair, strict=True)]
                for pair in zip(quantity[rows].tolist(), quality[rows].tolist(), strict=True)]  # fmt: skip

    def spans(given: Spans) -> list[tuple[int, int, int]]:
        columns = zip(given.row.tolist(), given.first.tolist(), given.after.tolist(), strict=True)
        return [(place[r], a, b) for r, a, b in columns if r in place]

    def some(values: np.ndarray) -> list[int | None]:
        return [None if v == UNKNOWN else v for v in values[rows].tolist()]

    values = told(p.quantity, p.quality)
    case = oracle.Case(
        kind="interval", utility="electricity", zone=ZONE, start_ms=p.start_ms, step_ms=STEP_MS, first=p.first,
        after=p.after, values=values, scale=TRAITS.unit.scale, unit_code=TRAITS.unit.code,
        interval_seconds=STEP_MS // 1000, digits=None, multiplier=Fraction(1), expected=1,
    )  # fmt: skip
    case.quality = p.quality[rows].tolist()
    case.history = {d: some(c.history.total[:, i]) for i, d in enumerate(c.history.day.tolist())}
    case.rating = some(c.rating)
    case.outages, case.inactive, case.exchanges = (spans(s) for s in (c.outages, c.inactive, c.exchanges))
    r = c.registers
    case.registers = [(place[row], p.first, p.after, int(r.quantity[row]), 1_000, None) for row in rows.tolist()]
    case.siblings = {s.role: (s.configured[rows].tolist(), told(s.quantity, s.quality)) for s in c.siblings}
    case.estimated_since = some(c.estimated_since)
    case.previous = [[None if v is None else (v, RAW, False) for v in row] for row in values]
    case.repeats, case.seconds = c.repeats[rows].tolist(), c.seconds[rows].tolist()
    case.clock_ms, case.unit_told = c.clock_ms[rows].tolist(), c.unit[rows].tolist()
    case.multiplier_told, case.meter_matches = [Fraction(1)] * len(rows), [True] * len(rows)
    return case


def wrong(block: Block, sample: int) -> int:
    """Rules that find something else than the plain loop in a sample, half of which has findings."""
    verdict = judge(block.profile, block.context, RULES)
    hit = np.unique(verdict.findings.row)[: sample // 2]
    rows = np.unique(np.concatenate([hit, np.arange(sample // 2)])).astype(np.int64)
    place, case, bad = {int(r): i for i, r in enumerate(rows)}, case_of(block, rows), 0
    for id in rules():
        f = verdict.findings.take(verdict.findings.rule == int(id[1:]))
        columns = zip(
            f.row.tolist(), f.first.tolist(), f.after.tolist(), f.measured.tolist(), f.limit.tolist(), strict=True
        )
        found = sorted((place[r], *rest) for r, *rest in columns if r in place)
        if found != sorted((*t[:3], *t[4:6]) for t in oracle.RULES[id](case)):
            print(f"{id} differs from the plain loop", file=sys.stderr)
            bad += 1
    return bad


RULES = RuleSet.of(FORMULA)


def rates(blocks: list[Block], repeat: int, runs: int, threads: int) -> tuple[list[float], list[float]]:
    """Judged reads a second of each run, all blocks `repeat` times and several side by side; and reads a second of CPU time."""
    out, of_cpu = [], []
    reads = sum(len(b.profile) * (b.profile.after - b.profile.first) for b in blocks) * repeat
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(runs):
            began, cpu = time.perf_counter(), time.process_time()
            list(pool.map(lambda b: len(judge(b.profile, b.context, RULES).findings), blocks * repeat))
            out.append(reads / (time.perf_counter() - began))
            of_cpu.append(reads / (time.process_time() - cpu))
    return out, of_cpu


def by_rule(block: Block, runs: int) -> dict[str, float]:
    """Nanoseconds a judged read on one core, of each rule."""
    out, reads = {}, len(block.profile) * (block.profile.after - block.profile.first)
    for rule, settings in RULES.entries:
        times = []
        for _ in range(runs):
            began = time.thread_time()  # of this thread alone: what else the machine does is not the rule's cost
            rule.check(block.profile, block.context, settings)
            times.append(time.thread_time() - began)
        out[rule.id] = statistics.median(times) / reads * 1e9
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="8,192 channels, one run")
    parser.add_argument("--save", action="store_true", help="write bench/results")
    a = parser.parse_args()
    if a.small:
        a.channels, a.runs = 8_192, 1
    rows: list[tuple[str, str, str]] = [("channels", f"{a.channels:,}", "")]
    result: dict[str, Any] = {"channels": a.channels, "threads": a.threads}
    bad = 0
    for name, days in (("day", 1), ("week", 7)):
        blocks = [block_of(seed, BLOCK, days) for seed in range(2 if a.small else 4)]
        bad += wrong(blocks[0], 40)
        repeat = max(1, a.channels // BLOCK // len(blocks) // days)
        found, of_cpu = rates(blocks, repeat, a.runs, a.threads)
        result[name] = {"per_second": found, "per_cpu_second": of_cpu, "ns_a_read_by_rule": by_rule(blocks[0], 3)}
        spread = f"{statistics.median(found) / 1e6:.1f} M ({min(found) / 1e6:.1f} .. {max(found) / 1e6:.1f})"
        rows.append((f"{name}: judged reads/s, all 21 rules", spread, "must 3 M, aim 10 M"))
        each = statistics.median(of_cpu) / 1e6
        rows.append(("  reads a second of CPU time, and two cores of it", f"{each:.1f} M, {2 * each:.1f} M", ""))
        dear = sorted(result[name]["ns_a_read_by_rule"].items(), key=lambda item: -item[1])[:4]
        rows.append(("  dearest rules, ns a read on one core", ", ".join(f"{id} {ns:.1f}" for id, ns in dear), ""))
        if name == "day":
            differs = peers(blocks[0], rows, result)
            bad += differs
    rows.append(("load of the machine, of others too", f"{os.getloadavg()[0]:.1f}", "quiet: 2"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows.append(("most memory, peers included", f"{peak:.1f} GiB", "must 8, aim 4"))
    rows.append(("rules that differ from the plain loop or a peer", f"{bad}", "must 0"))
    report("vee", rows, result | {"memory_gib": peak, "wrong": bad}, a.save)
    if bad:
        raise SystemExit(1)


def peers(block: Block, rows: list[tuple[str, str, str]], result: dict[str, Any]) -> int:
    """DuckDB doing V07 (missing) and V10 (spike) of a day on the same rows, and our two rules alone; 0 where both agree."""
    p = block.profile
    own = slice(p.first, p.after)
    channel = np.repeat(np.arange(len(p), dtype=np.uint32), A_DAY)
    there = (p.quality[:, own] != MISSING).ravel()
    arrived = pa.table({"channel": channel[there], "q": p.quantity[:, own].ravel()[there]})  # noqa: F841, DuckDB reads it
    db = duckdb.connect()
    db.execute("set threads = 2; create table reads as select * from arrived")
    sql = f"""with day as (select channel, count(*) as known, max(q, 3) as top from reads group by channel)
        select 7 as rule, channel, {A_DAY} - known as evidence from day where known < {A_DAY}
        union all select 10, channel, top[1] from day
        where known >= 12 and top[1] > top[3] + top[3] * 18 // 10 and top[1] >= 125000 order by all"""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        theirs = db.execute(sql).fetchall()
        times.append(time.perf_counter() - began)
    chosen = RuleSet(tuple(e for e in RULES.entries if e[0].id in ("V07", "V10")))
    began = time.perf_counter()
    f = judge(p, block.context, chosen).findings
    ours_seconds = time.perf_counter() - began
    gaps = np.zeros(len(p), np.int64)
    np.add.at(gaps, f.row[f.rule == 7], f.measured[f.rule == 7])
    mine = [(7, int(r), int(gaps[r])) for r in np.flatnonzero(gaps)]
    mine += zip(
        f.rule[f.rule == 10].tolist(), f.row[f.rule == 10].tolist(), f.measured[f.rule == 10].tolist(), strict=True
    )
    result["duckdb"] = {"per_second": len(channel) / statistics.median(times), "same": sorted(mine) == theirs}
    result["two_rules"] = {"per_second": len(channel) / ours_seconds}
    rows.append(("  missing and spike only, one thread", f"{len(channel) / ours_seconds / 1e6:.1f} M", ""))
    rows.append(
        ("  DuckDB, the same two rules, two threads", f"{len(channel) / statistics.median(times) / 1e6:.1f} M", "")
    )
    return int(sorted(mine) != theirs)


if __name__ == "__main__":
    main()
