"""A block of channels of a day's record: what was measured is judged, estimated where it is missing, and edited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pyarrow as pa

from meterpulse.batch.exceptions import Worth, found_of
from meterpulse.batch.loadprofiles import (
    PAST_DAYS,
    Past,
    Windows,
    channel_windows,
    days_before,
    is_judged,
    past_of,
    readings_expected,
    step_ms,
    windows_of,
)
from meterpulse.model.channel import ChannelTable
from meterpulse.model.quality import RAW, Quality
from meterpulse.model.window import DAY_MS, WINDOW_MS, local_day
from meterpulse.stores import BLOCK, CorruptChunk, Store
from meterpulse.stores.overlay import STEPS, Overlay, Recorded, overlay_of
from meterpulse.vee import MISSING, UNKNOWN, Context, Findings, Profile, Spans, Status, Traits
from meterpulse.vee.catalogue import RuleSet
from meterpulse.vee.estimation import Order, estimate
from meterpulse.vee.gaps import Support
from meterpulse.vee.runner import judge
from meterpulse.worklist import Found, InForce

_CELLS_AT_ONCE = (
    1 << 19
)  # intervals of the last months of channels with gaps: a hundred bytes each while they are estimated
_NO_VALUE = (6,)  # rules whose finding says that there is no value: a number of all ones
EDIT = "edit"

# Of `count` channels with the same traits, whose ids can be asked for, on a local day: (rows, rules, estimators).
Rules = Callable[[Traits, int, Callable[[], pa.Array], int], list[tuple[np.ndarray, RuleSet, Order]]]


@dataclass(frozen=True)
class City:
    """What a record is made of besides the store: the registry as of now, the edits in force that day, and how to judge.

    `area_names` by index; `group_of` uint32[channels] and `parents` uint32[areas] as in model/groups.
    """

    table: ChannelTable
    area_names: list[str]
    group_of: np.ndarray
    parents: np.ndarray
    edits: InForce
    rules: Rules
    worth: Worth
    threads: int = 2


@dataclass
class Made:
    """Of one block."""

    before: Overlay
    is_sound: bool  # `before` could be read
    overlay: Overlay
    found: list[Found] = field(default_factory=list)
    versions: dict[int, int] = field(default_factory=dict)


class Maker:
    """Makes blocks of one day, several at a time."""

    def __init__(self, day: int, city: City, store: Store, recorded: Recorded, now_s: int):
        self._day, self._city, self._store, self._recorded, self._now_s = day, city, store, recorded, now_s

    def concerns(self, block: int) -> bool:
        """Whether there is anything to say of a block: it was heard of, or the record has told of it."""
        day, store = self._day, self._store
        return bool(
            store.starts("usage_5m", block, (day - 1) * DAY_MS, (day + 2) * DAY_MS)
            or any(days_before(store, block, day - 1))
            or store.starts("record", block, day * DAY_MS, (day + 1) * DAY_MS)
            or len(self._city.edits.of_channels(block * BLOCK, (block + 1) * BLOCK))
        )

    def block(self, block: int) -> Made:
        city, day = self._city, self._day
        keys = min(BLOCK, city.table.count - block * BLOCK)
        made = Made(*self._before(block), Overlay.none())
        base_ms = (day - 1) * DAY_MS
        windows = windows_of(self._store, block, keys, base_ms, base_ms + 3 * DAY_MS)
        past = past_of(self._store, block, keys, day - 1)
        newest = past.newest()
        known = (newest != UNKNOWN) | windows.count[:, : 2 * STEPS].any(axis=1)
        profile_of = np.asarray(city.table.profile[block * BLOCK : block * BLOCK + keys])
        parts = []
        for number in np.unique(profile_of[known]).tolist():
            rows = np.flatnonzero(known & (profile_of == number))
            if not is_judged(city.table.profiles, number):
                parts.append(self._edited(block, number, rows, windows, made))
                continue
            traits = Traits.of(city.table.profiles, number)
            local = local_day(traits.zone, day * DAY_MS + DAY_MS // 2)
            ids = partial(city.table.ids, (block * BLOCK + rows).astype(np.uint32))
            for which, rule_set, order in city.rules(traits, len(rows), ids, local):
                own = rows[which]
                parts.append(
                    self._judged(block, number, traits, (rule_set, order), own, windows, past, newest[own], made)
                )
        made.overlay = Overlay.concat(parts)
        return made

    def _before(self, block: int) -> tuple[Overlay, bool]:
        """What the record said of the block until now, and whether that could be read: if not, it is simply made again."""
        try:
            return overlay_of(self._store, block, self._day), True
        except CorruptChunk:
            return Overlay.none(), False

    def _judged(
        self,
        block: int,
        number: int,
        traits: Traits,
        judged_by: tuple[RuleSet, Order],
        rows: np.ndarray,
        windows: Windows,
        past: Past,
        newest: np.ndarray,
        made: Made,
    ) -> Overlay:
        city, profiles = self._city, self._city.table.profiles
        rule_set, order = judged_by
        made.versions[number] = rule_set.version ^ order.version
        step = step_ms(profiles, number)
        quantity, quality, readings = windows.folded(rows, step)
        a_day = DAY_MS // step
        profile = Profile(
            traits, (block * BLOCK + rows).astype(np.uint32), (self._day - 1) * DAY_MS, step, quantity, quality, a_day,
            2 * a_day, readings, readings_expected(profiles, number),
        )  # fmt: skip
        inactive = _before_the_first(profile, newest)
        history = past.in_days_of(traits.zone, rows, int(profiles.interval_seconds[number]) * 1000)
        context = Context(history=history, inactive=inactive, estimated_since=_silent_since(profile, newest))
        verdict = judge(profile, context, rule_set)
        findings = _outside_of(inactive, verdict.findings)
        own = slice(a_day, 2 * a_day)
        measured = quality[:, own] != MISSING
        value, grade = quantity[:, own].copy(), verdict.quality.copy()
        method = np.zeros(value.shape, np.int16)
        _without_value(profile, findings, grade)
        self._estimate(block, profile, inactive, order, value, grade, method)
        self._edit(block, rows, step, value, grade, method, measured, quantity[:, own])
        made.found.append(
            found_of(profile, findings, _in_place(profile, value, grade), city.table, city.area_names, city.worth)
        )
        plain = measured & (grade == int(Quality.VALIDATED)) & (value == quantity[:, own]) & (method == 0)
        return self._overlay(made, rows, step, value, grade, quantity[:, own], measured, method, plain)

    def _edited(self, block: int, number: int, rows: np.ndarray, windows: Windows, made: Made) -> Overlay:
        """Channels that no rule judges: registers, gauges, intervals that fit no day. What people decided stands all the same."""
        step = step_ms(self._city.table.profiles, number)
        quantity, quality, _ = windows.folded(rows, step)
        own = slice(DAY_MS // step, 2 * DAY_MS // step)
        measured = quality[:, own] != MISSING
        value, grade = quantity[:, own].copy(), quality[:, own].copy()
        method = np.zeros(value.shape, np.int16)
        self._edit(block, rows, step, value, grade, method, measured, quantity[:, own])
        plain = measured & (grade == RAW) & (method == 0)
        return self._overlay(made, rows, step, value, grade, quantity[:, own], measured, method, plain)

    def _estimate(
        self,
        block: int,
        profile: Profile,
        inactive: Spans | None,
        order: Order,
        value: np.ndarray,
        grade: np.ndarray,
        method: np.ndarray,
    ) -> None:
        """Fills what is missing, in place; a few channels at a time, since each needs its last two months."""
        missing = grade == MISSING
        if inactive is not None:
            for row, first, after in zip(inactive.row, inactive.first, inactive.after, strict=True):
                missing[row, max(first - profile.first, 0) : max(after - profile.first, 0)] = False
        gaps = np.flatnonzero(missing.any(axis=1))
        names = [self._recorded.methods.index(estimator.name) for estimator, _ in order.entries]
        at_once = max(1, _CELLS_AT_ONCE // ((PAST_DAYS + 2) * DAY_MS // WINDOW_MS))
        for at in range(0, len(gaps), at_once):
            rows = gaps[at : at + at_once]
            wide = self._last_months(block, profile, rows, grade)
            context = Context(inactive=_moved(inactive, rows, wide.first - profile.first))
            told = estimate(wide, context, Support(), order)
            filled = (told.quality != MISSING) & missing[rows]
            by = np.zeros(filled.shape, np.int16)
            e = told.evidence
            for row, first, after, which in zip(e.row, e.first, e.after, e.estimator, strict=True):
                by[row, max(first - wide.first, 0) : max(after - wide.first, 0)] = names[which]
            value[rows] = np.where(filled, told.quantity, value[rows])
            grade[rows] = np.where(filled, told.quality, grade[rows])
            method[rows] = np.where(filled, by, method[rows])

    def _last_months(self, block: int, profile: Profile, rows: np.ndarray, grade: np.ndarray) -> Profile:
        """What was measured of some channels from 60 days before the judged day to the day after it."""
        start, end = (self._day - PAST_DAYS) * DAY_MS, (self._day + 2) * DAY_MS
        keys = profile.channel[rows].astype(np.int64) - block * BLOCK
        windows = channel_windows(self._store, block, keys, start, end)
        quantity, quality, readings = windows.folded(np.arange(len(rows)), profile.step_ms)
        first = PAST_DAYS * DAY_MS // profile.step_ms
        after = first + DAY_MS // profile.step_ms
        quality[:, first:after][grade[rows] == MISSING] = MISSING
        # A value made of too few readings is no evidence for others.
        short = readings < profile.readings_expected
        short[:, first:after] = False
        quality[short] = MISSING
        return Profile(
            profile.traits, profile.channel[rows], start, profile.step_ms, quantity, quality, first, after, readings,
            profile.readings_expected,
        )  # fmt: skip

    def _edit(
        self,
        block: int,
        rows: np.ndarray,
        step: int,
        value: np.ndarray,
        grade: np.ndarray,
        method: np.ndarray,
        measured: np.ndarray,
        was: np.ndarray,
    ) -> None:
        """Puts the edits in force into the matrices, in place."""
        edits = self._city.edits.of_channels(block * BLOCK, block * BLOCK + BLOCK)
        if not len(edits):
            return
        row_of = np.full(BLOCK, -1, np.int64)
        row_of[rows] = np.arange(len(rows))
        row = row_of[edits.channel.astype(np.int64) - block * BLOCK]
        column, odd = np.divmod(edits.start_ms - self._day * DAY_MS, step)
        fits = (edits.seconds.astype(np.int64) * 1000 == step) & (odd == 0) & (column >= 0) & (column < value.shape[1])
        row = np.where(fits, row, -1)
        # Modes compare with what was measured, not with what was estimated.
        before, values = value.copy(), np.where(measured, was, value)
        stands = edits.apply(values, grade, measured, (row, column))
        value[:] = before
        r, c = row[stands], column[stands]
        value[r, c] = values[r, c]
        method[r, c] = self._recorded.methods.index(EDIT)

    def _overlay(
        self,
        made: Made,
        rows: np.ndarray,
        step: int,
        value: np.ndarray,
        grade: np.ndarray,
        was: np.ndarray,
        measured: np.ndarray,
        method: np.ndarray,
        plain: np.ndarray,
    ) -> Overlay:
        """What is not plain, and what once was not and has changed since: its time of learning is its own."""
        told = ~plain & (measured | (grade != MISSING))
        a_step = step // WINDOW_MS
        if len(made.before):
            row_of = np.full(BLOCK, -1, np.int64)
            row_of[rows] = np.arange(len(rows))
            row, column = row_of[made.before.key], made.before.step // a_step
            row, column = row[row >= 0], column[row >= 0]
            told[row, column] |= measured[row, column] | (grade[row, column] != MISSING)
        r, c = np.nonzero(told)
        has_value, has_measured = grade[r, c] != MISSING, measured[r, c]
        return Overlay(
            (rows[r] * STEPS + c * a_step).astype(np.uint32),
            np.full(len(r), step // 1000, np.int64),
            np.where(has_value, value[r, c], 0),
            grade[r, c],
            np.where(has_measured, was[r, c], 0),
            has_measured,
            method[r, c].astype(np.int64),
            np.full(len(r), self._now_s, np.int64),
        )


def _before_the_first(profile: Profile, newest: np.ndarray) -> Spans | None:
    """A channel that has never been heard of is not missed before its first value."""
    fresh = np.flatnonzero(newest == UNKNOWN)
    if not len(fresh):
        return None
    heard = profile.quality[fresh] != MISSING
    first = np.where(heard.any(axis=1), heard.argmax(axis=1), heard.shape[1])
    own = first > 0
    zeros = np.zeros(int(own.sum()), np.int32)
    return Spans(fresh[own].astype(np.uint32), zeros, first[own].astype(np.int32))


def _silent_since(profile: Profile, newest: np.ndarray) -> np.ndarray:
    """int64[n], ms: since when a channel that has no value at the end of the judged day has had none; UNKNOWN."""
    heard = profile.quality[:, : profile.after] != MISSING
    last = heard.shape[1] - heard[:, ::-1].argmax(axis=1)  # behind the last value
    since = np.where(heard.any(axis=1), profile.start_ms + last * profile.step_ms, newest)
    return np.where(last == heard.shape[1], np.where(heard[:, -1], UNKNOWN, since), since)


def _outside_of(inactive: Spans | None, findings: Findings) -> Findings:
    """Without the gaps of times when the channel was not there yet."""
    if inactive is None or not len(findings):
        return findings
    until = dict(zip(inactive.row.tolist(), inactive.after.tolist(), strict=True))
    after = np.array([until.get(row, 0) for row in findings.row.tolist()])
    gap = (findings.rule == 7) & (findings.first < after)
    kept = findings.take(~(gap & (findings.after <= after)))
    cut = np.array([until.get(row, 0) for row in kept.row.tolist()])
    first = np.where(kept.rule == 7, np.maximum(kept.first, cut), kept.first).astype(np.int32)
    gap = (kept.rule == 7) & (first != kept.first) & (kept.limit == 0)
    return replace(kept, first=first, measured=np.where(gap, kept.after - first, kept.measured))


def _without_value(profile: Profile, findings: Findings, grade: np.ndarray) -> None:
    """Values that are none: what the meter says when it has nothing to say."""
    none = findings.take(np.isin(findings.rule, _NO_VALUE) & (findings.status == Status.FAIL))
    for row, first, after in zip(none.row, none.first, none.after, strict=True):
        grade[row, max(first - profile.first, 0) : max(after - profile.first, 0)] = MISSING


def _moved(spans: Spans | None, rows: np.ndarray, by: int) -> Spans | None:
    """Of some rows, in a profile that begins `by` columns earlier."""
    if spans is None:
        return None
    place = {row: i for i, row in enumerate(rows.tolist())}
    kept = [
        (place[r], 0, int(a) + by) for r, a in zip(spans.row.tolist(), spans.after.tolist(), strict=True) if r in place
    ]
    return Spans.of(kept)


def _in_place(profile: Profile, value: np.ndarray, grade: np.ndarray) -> np.ndarray:
    """int64[n, m]: the profile's values with the judged columns as they stand, 0 where there is none."""
    out = np.where(profile.quality == MISSING, 0, profile.quantity)
    out[:, profile.first : profile.after] = np.where(grade == MISSING, 0, value)
    return out
