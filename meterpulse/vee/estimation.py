"""Runs estimators over the gaps of load profiles: the first that can tell wins, then registers have the last word.

An estimate is a function of what was measured within reach of its gap, and of nothing else: not of which columns are
judged, of the channel's neighbours in the matrix, or of earlier estimates. So days may be built in any order and still
add up to the register that spans them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from meterpulse import plugins
from meterpulse.model.quality import FLAGS, Quality
from meterpulse.vee import MISSING, Context, Estimator, Findings, Profile, RegisterSpans, Spans
from meterpulse.vee.e9_registers import scale
from meterpulse.vee.gaps import NO_DAY, Gaps, Known, Support, covered, gaps_of

# What docs/vee-quality.md found best. `temperature`, `class_profile`, `data_scaling` and `previous_year` pass where
# nobody gives them their data; `zero` is off, since what is not known is not zero.
DEFAULT_ORDER = (
    "outage",
    "check_meter",
    "similar_day",
    "linear",
    "reference_day",
    "temperature",
    "data_scaling",
    "previous_year",
    "class_profile",
    "average_day",
)


class EstimationError(ValueError):
    """The order or a setting of an estimator is wrong; the message says what it takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Filling:
    """What an estimator says of the columns of gaps, laid end to end."""

    value: np.ndarray  # int64[t]
    told: np.ndarray  # bool[t]: which of them it can tell
    quality: int  # packed, as in model/quality.py
    days: np.ndarray | None = None  # int32[k, e], the days a gap's estimate was made from; NO_DAY pads

    @classmethod
    def nothing(cls, gaps: Gaps) -> Filling:
        """It cannot tell any."""
        cells = int(gaps.length.sum())
        return cls(np.zeros(cells, np.int64), np.zeros(cells, bool), int(Quality.OTHER))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Which estimator filled what and from which days, in columns; a span is columns [first, after)."""

    row: np.ndarray  # uint32[k]
    first: np.ndarray  # int32[k]
    after: np.ndarray  # int32[k]
    estimator: np.ndarray  # uint8[k], index into Estimates.estimators
    day_from: np.ndarray  # int64[k + 1]: the days of span i are day[day_from[i]:day_from[i + 1]]
    day: np.ndarray  # int32, days since 1970-01-01 on the wall calendar


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """The judged columns [first, after) with what could be estimated; a known value is as it was."""

    version: int  # of the order
    estimators: tuple[str, ...]
    quantity: np.ndarray  # int64[n, after - first]; whatever where quality is MISSING
    quality: np.ndarray  # int32[n, after - first], packed; MISSING where nothing could be told
    evidence: Evidence
    findings: Findings  # V11 for registers that say less was used than is known: nothing was scaled to them


@lru_cache(maxsize=1)
def estimators() -> dict[str, Estimator]:
    """Every estimator by its name."""
    found = [plugins.implementation("vee", name, "Estimator")() for name in plugins.available("vee", "Estimator")]
    return {estimator.name: estimator for estimator in found}


@dataclass(frozen=True, eq=False)
class Order:
    """Estimators with their settings; the first that can tell a value wins."""

    entries: tuple[tuple[Estimator, BaseModel], ...]

    @classmethod
    def of(cls, names: Sequence[str] = DEFAULT_ORDER, settings: Mapping[str, Mapping[str, Any]] | None = None) -> Order:
        """By name, with the settings that are given (by name) and defaults for the others; raises EstimationError."""
        given, known = settings or {}, estimators()
        for name in (*names, *given):
            if name not in known:
                raise EstimationError(f"estimator {name[:40]!r} is not known; there are {', '.join(known)}")
        if len(set(names)) < len(names):
            raise EstimationError("an estimator stands twice in the order; the second could tell nothing new")
        return cls(tuple((known[name], _settings(known[name], given.get(name, {}))) for name in names))

    @cached_property
    def version(self) -> int:
        """A positive int64 that changes with the order and with any estimator's version or setting."""
        shape = [[e.name, e.version, chosen.model_dump(mode="json")] for e, chosen in self.entries]
        digest = hashlib.blake2b(json.dumps(shape, sort_keys=True).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1


def packed(code: Quality, flag: str, method: int) -> int:
    """A quality of an ESPI code with a flag and method of NEM12's, where NEM12's own code for them says less."""
    return int(code) | method << 8 | FLAGS.index(flag) << 16


def estimate(profile: Profile, context: Context, support: Support, order: Order) -> Estimates:
    """Fills the missing values of the judged columns. A pure function, so threads may estimate side by side.

    Give what was measured: a value that was estimated before counts as known, and would be kept and believed.
    """
    missing = profile.quality == MISSING
    rows = np.flatnonzero(missing[:, profile.first : profile.after].any(axis=1))
    judged = slice(profile.first, profile.after)
    quantity, quality = profile.quantity[:, judged].copy(), profile.quality[:, judged].copy()
    run = _Run(_known(profile, context, support, rows))
    for at, (estimator, settings) in enumerate(order.entries):
        run.fill(at, estimator, settings)
    findings = run.scale()
    quantity[rows], quality[rows] = run.quantity[:, judged], run.quality[:, judged]
    findings = Findings.of(11, rows[findings.row], *(getattr(findings, c) for c in _SPAN_COLUMNS))
    names = tuple(estimator.name for estimator, _ in order.entries)
    return Estimates(order.version, names, quantity, quality, run.evidence(rows), findings)


_SPAN_COLUMNS = ("first", "after", "status", "measured", "limit")


class _Run:
    """The state of one call of `estimate`."""

    def __init__(self, known: Known):
        self._known, profile = known, known.profile
        self.quantity, self.quality = profile.quantity.copy(), profile.quality.copy()
        self._missing = (profile.quality == MISSING) & ~covered(known.context.inactive, profile)
        self._estimated = np.zeros(self._missing.shape, bool)
        self._wanted = _wanted(profile, known.context.registers)
        self._parts: list[tuple[np.ndarray, ...]] = []

    def fill(self, at: int, estimator: Estimator, settings: BaseModel) -> None:
        """Lets one estimator tell what it can of what is still missing."""
        gaps = gaps_of(self._missing, self._wanted)
        if not len(gaps):
            return
        filling = estimator.fill(self._known, gaps, settings)
        row, column = gaps.cells()
        owner = np.repeat(np.arange(len(gaps)), gaps.length)[filling.told]
        row, column = row[filling.told], column[filling.told]
        self.quantity[row, column] = filling.value[filling.told]
        self.quality[row, column] = filling.quality
        self._missing[row, column] = False
        self._estimated[row, column] = scalable(filling.quality)
        self._note(at, row, column, owner, filling.days)

    def scale(self) -> Findings:
        """Makes intervals add up to the registers that span them."""
        registers = self._known.context.registers
        if registers is None:
            return Findings.none()
        return scale(self.quantity, self._missing, self._estimated, registers)

    def _note(self, at: int, row: np.ndarray, column: np.ndarray, owner: np.ndarray, days: np.ndarray | None) -> None:
        if not len(row):
            return
        begins = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(column, prepend=-2) != 1))
        ends = np.append(begins[1:], len(row)) - 1
        shown = np.full((len(begins), 0), NO_DAY, np.int32) if days is None else days[owner[begins]]
        self._parts.append((row[begins], column[begins], column[ends] + 1, np.full(len(begins), at), shown))

    def evidence(self, rows: np.ndarray) -> Evidence:
        """What was filled, with `rows` as the rows' numbers, in the order of estimators, rows and columns."""
        row, first, after, estimator = (
            np.concatenate([part[c] for part in self._parts]) if self._parts else np.zeros(0, np.int64)
            for c in range(4)
        )
        counts = [(part[4] != NO_DAY).sum(axis=1) for part in self._parts]
        day_from = (
            np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))])
            if counts
            else np.zeros(1, np.int64)
        )
        day = np.concatenate([part[4][part[4] != NO_DAY] for part in self._parts]) if counts else np.zeros(0, np.int32)
        return Evidence(
            rows[row.astype(np.int64)].astype(np.uint32), first.astype(np.int32), after.astype(np.int32),
            estimator.astype(np.uint8), day_from, day,
        )  # fmt: skip


def scalable(quality: int) -> bool:
    """Whether a register may change a value of this quality: an outage and another meter's value are facts."""
    return (quality & 0xFF) not in (Quality.VALIDATED, Quality.VERIFIED)


def _wanted(profile: Profile, registers: RegisterSpans | None) -> np.ndarray:
    """bool[n, m]: what is judged, and what a register ties to it."""
    wanted = np.zeros(profile.quantity.shape, bool)
    wanted[:, profile.first : profile.after] = True
    if registers is not None:
        for row, first, after in zip(registers.row, registers.first, registers.after, strict=True):
            if max(first, 0) < profile.after and after > profile.first:
                wanted[row, max(first, 0) : max(after, 0)] = True
    return wanted


def _known(profile: Profile, context: Context, support: Support, rows: np.ndarray) -> Known:
    """Only the rows that have something to estimate."""
    place = np.full(len(profile), -1, np.int64)
    place[rows] = np.arange(len(rows))
    own = Context(
        registers=_registers(context.registers, place),
        outages=_spans(context.outages, place),
        inactive=_spans(context.inactive, place),
    )
    narrowed = Support(
        holidays=support.holidays,
        check=None if support.check is None else support.check.take(rows),
        last_year=None if support.last_year is None else support.last_year.take(rows),
        class_profile=support.class_profile,
        temperature=support.temperature,
    )
    return Known.of(profile.take(rows), own, narrowed)


def _spans(spans: Spans | None, place: np.ndarray) -> Spans | None:
    if spans is None:
        return None
    here = place[spans.row] >= 0
    return Spans(place[spans.row[here]].astype(np.uint32), spans.first[here], spans.after[here])


def _registers(spans: RegisterSpans | None, place: np.ndarray) -> RegisterSpans | None:
    if spans is None:
        return None
    here = place[spans.row] >= 0
    columns = (spans.first[here], spans.after[here], spans.quantity[here], spans.resolution[here])
    return RegisterSpans(place[spans.row[here]].astype(np.uint32), *columns)


def _settings(estimator: Estimator, given: Mapping[str, Any]) -> BaseModel:
    try:
        return estimator.settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EstimationError(f"estimator {estimator.name}, setting {where}: {first['msg'].lower()}") from None
