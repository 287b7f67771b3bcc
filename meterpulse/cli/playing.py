"""A replay under way: moment by moment of event time, for every home and copy, as bodies for a city."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from meterpulse.cli.gathering import Gathered
from meterpulse.ingest.copies import Copies, period_of, share
from meterpulse.ingest.spool import DAY_MS, ROW
from meterpulse.ingest.tabular import body_of

ROWS_A_BODY = 1 << 18


@dataclass(frozen=True)
class Moment:
    """What is known by event time `at_ms` and was not before. `rows` is ROW[n]; `channel` there is a number of the copies."""

    at_ms: int
    rows: np.ndarray


class Play:
    """The readings of a data set and its copies in event time, moved by `shift_ms`.

    `step_ms` tells how much event time a moment that begins there is to hold. `every_seconds` divides intervals into shorter
    ones of which the sum is the same, 0 leaves them.
    """

    def __init__(
        self, data: Gathered, copies: Copies, shift_ms: int, step_ms: Callable[[int], int], every_seconds: int = 0
    ):
        self._data, self._shift_ms, self._step_ms = data, shift_ms, step_ms
        self._every_ms = every_seconds * 1_000
        self._is_interval, self._rise = data.is_interval, data.rise
        self.days = data.spool.last - data.spool.first + 1
        self.period = period_of(self.days)
        self._groups = {
            int(shift): _Group(copies, copies.shift_days == shift, len(data.channels))
            for shift in np.unique(copies.shift_days)
        }
        self._day = lru_cache(2 * len(self._groups) + 1)(data.spool.day)

    def moments(self, days: Iterable[int]) -> Iterator[Moment]:
        """Those of each day in turn, counted from the data's first; beyond its last it begins again. Empty ones are left out."""
        for day in days:
            begin = (self._data.spool.first + day) * DAY_MS
            parts = [(group, self._rows(day, shift)) for shift, group in self._groups.items()]
            at = begin
            while at < begin + DAY_MS:
                end = min(at + self._step_ms(at + self._shift_ms), begin + DAY_MS)
                found = [group.expanded(_pieces(rows, at, end)) for group, rows in parts]
                rows = np.concatenate([part for part in found if len(part)] or [np.empty(0, ROW)])
                if len(rows):
                    rows["start"] += self._shift_ms
                    # In the order of time, or the second of two bodies would be late.
                    yield Moment(end + self._shift_ms, rows[np.argsort(rows["start"], kind="stable")])
                at = end

    def _rows(self, day: int, shift: int) -> _Due:
        """What homes that are shifted by so many days have on a day, with what is due on the next, where that is divided."""
        parts = []
        for each in (day, day + 1) if self._every_ms else (day,):
            turn, within = divmod(each - shift, self.period)
            rows = self._day(self._data.spool.first + within).copy()
            rows["start"] += (each - within) * DAY_MS
            # A register goes on counting where the data begins again.
            rows["quantity"] += (turn + (shift > 0)) * self._rise[rows["channel"]]
            parts.append(rows)
        rows = np.concatenate(parts)
        rows = rows[np.argsort(rows["start"], kind="stable")]
        piece = np.where(self._is_interval[rows["channel"]], rows["seconds"].astype(np.int64) * 1_000, 1)
        count = np.ones(len(rows), np.int64)
        if self._every_ms:
            divided = (piece > self._every_ms) & (piece % self._every_ms == 0) & (piece <= DAY_MS)
            count[divided] = piece[divided] // self._every_ms
            piece[divided] = self._every_ms
        return _Due(rows, piece, count, int((piece * count).max(initial=0)))


@dataclass(frozen=True)
class _Due:
    """Rows by start, each in `count` pieces of `piece` ms; a piece is due at its end. None is longer than `longest` ms."""

    rows: np.ndarray
    piece: np.ndarray
    count: np.ndarray
    longest: int


def _pieces(due: _Due, after_ms: int, until_ms: int) -> np.ndarray:
    """ROW[n]: the pieces that are due in (after, until]."""
    start = due.rows["start"]
    near = slice(*np.searchsorted(start, [after_ms - due.longest, until_ms]))
    rows, piece, count = due.rows[near], due.piece[near], due.count[near]
    first = np.clip((after_ms - rows["start"]) // piece, 0, count)
    last = np.clip((until_ms - rows["start"]) // piece, 0, count)
    each = last - first
    out = np.repeat(rows, each)
    number = np.arange(len(out)) - np.repeat(np.cumsum(each) - each, each) + np.repeat(first, each)
    piece, count = np.repeat(piece, each), np.repeat(count, each)
    whole, rest = np.divmod(out["quantity"], count)
    divided = count > 1
    out["quantity"] = whole + (rest * (number + 1)) // count - (rest * number) // count
    out["start"] += number * piece * divided
    out["seconds"][divided] = (piece // 1_000)[divided]
    return out


class _Group:
    """The copies of one shift: which they are for each of the data's channels."""

    def __init__(self, copies: Copies, chosen: np.ndarray, channels: int):
        numbers = np.flatnonzero(chosen)
        self._numbers = numbers[np.argsort(copies.source[numbers], kind="stable")]
        self._percent = copies.percent[self._numbers]
        self._count = np.bincount(copies.source[numbers], minlength=channels)
        self._begin = np.cumsum(self._count) - self._count

    def expanded(self, rows: np.ndarray) -> np.ndarray:
        """ROW: each row once for every copy of its channel."""
        channel = rows["channel"]
        each = self._count[channel]
        out = np.repeat(rows, each)
        at = np.arange(len(out)) - np.repeat(np.cumsum(each) - each, each) + np.repeat(self._begin[channel], each)
        out["channel"] = self._numbers[at]
        out["quantity"] = share(out["quantity"], self._percent[at])
        return out


def bodies(rows: np.ndarray, ids: list[str]) -> Iterator[bytes]:
    """Arrow bodies of up to ROWS_A_BODY readings, by the channels' ids."""
    for at in range(0, len(rows), ROWS_A_BODY):
        part = rows[at : at + ROWS_A_BODY]
        used, index = np.unique(part["channel"], return_inverse=True)
        columns = {
            "channel": pa.DictionaryArray.from_arrays(
                pa.array(index.astype(np.int32)), pa.array([ids[u] for u in used.tolist()], pa.string())
            ),
            "start": pa.array(np.ascontiguousarray(part["start"]), pa.timestamp("ms", "UTC")),
            **{
                name: pa.array(np.ascontiguousarray(part[name]))
                for name in ("seconds", "quantity", "revision", "quality")
            },
        }
        yield body_of(pa.record_batch(columns))


class Tempo:
    """Waits until a moment of event time has come: by the speed, and never before the clock on the wall says so.

    `speed` is event seconds per second, 0 for as fast as it goes.
    """

    def __init__(self, now_ms: Callable[[], int], sleep: Callable[[float], object], origin_ms: int, speed: float):
        self._now_ms, self._sleep, self._speed = now_ms, sleep, speed
        self._origin_ms, self._begun_ms = origin_ms, now_ms()

    def wait_until(self, event_ms: int) -> None:
        """Sleeps."""
        now = self._now_ms()
        by_speed = (event_ms - self._origin_ms) / self._speed - (now - self._begun_ms) if self._speed else 0
        left = max(by_speed, event_ms - now)
        if left > 0:
            self._sleep(left / 1_000)
