"""The queue of exceptions: rules that failed, waiting for a person, and what became of them.

Each rebuild of a day offers what it found. An exception is the same one as long as its rule fires on overlapping intervals of
its channel on that day: then it keeps its number, its assignee and its history. One that no longer fires closes by itself; one
that a person resolved stays so until the values change that they decided about.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Select, and_, func, or_, select, update

from meterpulse.database import insert_rows, writing
from meterpulse.model.problem import Problem
from meterpulse.worklist.edits import Edit, record, take_back
from meterpulse.worklist.schema import ExceptionEventRow, ExceptionRow

STATES = ("open", "assigned", "resolved")
SORTS = ("weight", "age", "newest")
GONE = "gone"
_EVERY = (0, 1 << 32)
_AT_ONCE = 500  # numbers in one IN (...)


@dataclass(frozen=True)
class Found:
    """What failed on one UTC day, as columns of equal length.

    channel uint32; rule: texts such as V10; start_ms, end_ms int64, the intervals concerned; step_ms int64, how long each is;
    measured, limit int64: the rule's evidence; quantity int64: thousandths of the base unit at stake; weight int64: what that
    is worth, in thousandths of `worklist.worth_*`; utility and area: texts (area may be None).
    """

    channel: np.ndarray
    rule: Sequence[str]
    start_ms: np.ndarray
    end_ms: np.ndarray
    step_ms: np.ndarray
    measured: np.ndarray
    limit: np.ndarray
    quantity: np.ndarray
    weight: np.ndarray
    utility: Sequence[str]
    area: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.channel)

    def rows(self) -> Iterable[dict[str, Any]]:
        """One dict each, in plain numbers."""
        names = tuple(self.__dataclass_fields__)
        columns = [v.tolist() if isinstance(v, np.ndarray) else v for v in (getattr(self, name) for name in names)]
        return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


@dataclass(frozen=True)
class Offered:
    """What an offer changed."""

    opened: int = 0
    closed: int = 0
    reopened: int = 0
    changed: int = 0


@dataclass(frozen=True)
class Item:
    """One exception; see Found for the columns that came with it."""

    number: int
    day: int
    channel: int
    utility: str
    area: str | None
    rule: str
    start_ms: int
    end_ms: int
    step_ms: int
    measured: int | None
    limit: int | None
    quantity: int
    weight: int
    state: str
    assignee: str | None
    resolution: str | None
    change: int | None
    opened_ms: int
    changed_ms: int


@dataclass(frozen=True)
class Event:
    """Something that happened to an exception; the engine's own doing has no author."""

    at_ms: int
    event: str
    author: str | None
    note: str
    change: int | None


@dataclass(frozen=True)
class Filter:
    """Which exceptions are meant; None is "any". `waiting` is a state too: open or assigned."""

    state: str | None = None
    rule: str | None = None
    utility: str | None = None
    area: str | None = None
    assignee: str | None = None
    channel: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    opened_before_ms: int | None = None

    def __post_init__(self) -> None:
        if self.state not in (None, "waiting", *STATES):
            raise Problem(422, "state", "No such state", f"{self.state!r}; there are waiting, {', '.join(STATES)}")

    def of(self, query: Select[Any]) -> Select[Any]:
        """The query, narrowed."""
        for name in ("rule", "utility", "area", "assignee", "channel"):
            if getattr(self, name) is not None:
                query = query.where(getattr(ExceptionRow, name) == getattr(self, name))
        if self.state == "waiting":
            query = query.where(ExceptionRow.state.in_(STATES[:2]))
        elif self.state is not None:
            query = query.where(ExceptionRow.state == self.state)
        if self.opened_before_ms is not None:
            query = query.where(ExceptionRow.opened_ms < self.opened_before_ms)
        if self.start_ms is not None:
            query = query.where(ExceptionRow.end_ms > self.start_ms)
        return query if self.end_ms is None else query.where(ExceptionRow.start_ms < self.end_ms)


class Worklist:
    """The queue. Any thread may read; writers take turns."""

    def __init__(self, engine: Engine, turn: threading.Lock):
        self._engine, self._turn = engine, turn

    # -- fed by the batch layer ------------------------------------------------------------------------------------------

    def offer(self, day: int, found: Found, at_ms: int, channels: tuple[int, int] = _EVERY) -> Offered:
        """Everything that fails now on a UTC day for channels [low, high). Offering the same again changes nothing."""
        with self._turn, writing(self._engine, "the work list was not updated") as connection:
            own = select(ExceptionRow.__table__).where(ExceptionRow.day == day)
            own = own.where(ExceptionRow.channel >= channels[0], ExceptionRow.channel < channels[1])
            known = _by_rule(connection.execute(own.order_by(ExceptionRow.number)).mappings())
            fresh, again = [], []
            for row in found.rows():
                same = _same(known[row["channel"], row["rule"]], row)
                again.append((same, row)) if same else fresh.append(row)
            seen = {same["number"] for same, _ in again}
            gone = [row["number"] for rows in known.values() for row in rows if row["number"] not in seen]
            done = Offered(opened=_open(connection, day, fresh, at_ms))
            done = replace(done, closed=_close(connection, gone, at_ms))
            for same, row in again:
                done = _seen_again(connection, same, row, at_ms, done)
            return done

    # -- for people ------------------------------------------------------------------------------------------------------

    def page(
        self, which: Filter, *, sort: str = "weight", after: str | None = None, limit: int = 50
    ) -> tuple[list[Item], str | None]:
        """Exceptions and the mark to go on from: the heaviest first, the longest waiting, or the newest."""
        if sort not in SORTS:
            raise Problem(422, "sort", "No such order", f"{sort!r}; there are {', '.join(SORTS)}")
        key, sign = {"weight": ("weight", -1), "age": ("opened_ms", 1), "newest": ("number", -1)}[sort]
        column, number = getattr(ExceptionRow, key), ExceptionRow.number
        query = which.of(select(ExceptionRow.__table__))
        if after is not None:
            value, last = _mark(after)
            beyond = column < value if sign < 0 else column > value
            tie = and_(column == value, number < last if sign < 0 else number > last)
            query = query.where(or_(beyond, tie))
        order = (column.desc(), number.desc()) if sign < 0 else (column, number)
        with self._engine.connect() as connection:
            rows = [Item(**row) for row in connection.execute(query.order_by(*order).limit(limit + 1)).mappings()]
        more = f"{getattr(rows[limit - 1], key)}.{rows[limit - 1].number}" if len(rows) > limit else None
        return rows[:limit], more

    def counts(self, which: Filter) -> list[dict[str, Any]]:
        """How many there are by rule, state, utility and assignee, and their weight."""
        groups = (ExceptionRow.rule, ExceptionRow.state, ExceptionRow.utility, ExceptionRow.assignee)
        columns: tuple[Any, ...] = (*groups, func.count().label("count"), func.sum(ExceptionRow.weight).label("weight"))
        query = which.of(select(*columns))
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query.group_by(*groups).order_by(*groups)).mappings()]

    def get(self, number: int) -> tuple[Item, list[Event]]:
        """One exception and what happened to it. Raises Problem 404."""
        with self._engine.connect() as connection:
            item = _items(connection, [number])[0]
            columns = [getattr(ExceptionEventRow, name) for name in Event.__dataclass_fields__]
            query = select(*columns).where(ExceptionEventRow.exception == number).order_by(ExceptionEventRow.number)
            return item, [Event(**row) for row in connection.execute(query).mappings()]

    def items(self, numbers: Sequence[int]) -> list[Item]:
        """Those, in that order. Raises Problem 404 where one does not exist."""
        with self._engine.connect() as connection:
            return _items(connection, numbers)

    def assign(self, numbers: Sequence[int], assignee: str | None, *, author: str, at_ms: int) -> None:
        """Gives exceptions to somebody, or back to the queue (None). Raises Problem 404, 409 where one is resolved."""
        name = (assignee or "").strip() or None
        with self._turn, writing(self._engine, "nothing was assigned") as connection:
            _check_waiting(_items(connection, numbers))
            state = {"state": "assigned" if name else "open", "assignee": name}
            _set(connection, numbers, state, at_ms)
            _tell(connection, numbers, at_ms, "assigned", author, name or "back to the queue")

    def decide(
        self, numbers: Sequence[int], edits: Sequence[Edit], *, action: str, author: str, reason: str, at_ms: int
    ) -> int:
        """Records the change and resolves the exceptions with it, both or neither; gives the change's number.

        Raises Problem 404, 409 where one is resolved already, 422, 507.
        """
        with self._turn, writing(self._engine, "nothing was decided") as connection:
            _check_waiting(_items(connection, numbers))
            change = record(connection, edits, action=action, author=author, reason=reason, at_ms=at_ms)
            done = {"state": "resolved", "resolution": action, "change": change}
            _set(connection, numbers, done, at_ms)
            _tell(connection, numbers, at_ms, "resolved", author, f"{action}: {reason}", change)
            return change

    def undo(self, change: int, *, author: str, reason: str, at_ms: int) -> list[tuple[int, int, int]]:
        """Takes a change back and reopens what it resolved; gives (channel, start, end) of its spans. Raises Problem."""
        with self._turn, writing(self._engine, "nothing was undone") as connection:
            number, spans = take_back(connection, change, author=author, reason=reason, at_ms=at_ms)
            own = select(ExceptionRow.number).where(ExceptionRow.change == change)
            numbers = list(connection.execute(own).scalars())
            _reopen(connection, numbers, at_ms, author, f"undone: {reason}", number)
            return spans


def _by_rule(rows: Iterable[Any]) -> dict[tuple[int, str], list[Any]]:
    known: dict[tuple[int, str], list[Any]] = defaultdict(list)
    for row in rows:
        known[row["channel"], row["rule"]].append(row)
    return known


def _same(known: list[Any], row: dict[str, Any]) -> Any:
    """The exception that this finding continues: the same intervals, else one that overlaps."""
    overlapping = [k for k in known if k["start_ms"] < row["end_ms"] and row["start_ms"] < k["end_ms"]]
    exact = [k for k in overlapping if (k["start_ms"], k["end_ms"]) == (row["start_ms"], row["end_ms"])]
    return next(iter(exact or overlapping), None)


def _open(connection: Connection, day: int, rows: list[dict[str, Any]], at_ms: int) -> int:
    """New exceptions; their numbers follow the highest there is, so that their events can be written in one go."""
    if not rows:
        return 0
    first = (connection.execute(select(func.max(ExceptionRow.number))).scalar() or 0) + 1
    state = {"day": day, "state": "open", "opened_ms": at_ms, "changed_ms": at_ms}
    insert_rows(connection, ExceptionRow, [row | state | {"number": first + i} for i, row in enumerate(rows)])
    _tell(connection, range(first, first + len(rows)), at_ms, "opened", None, "")
    return len(rows)


def _close(connection: Connection, numbers: list[int], at_ms: int) -> int:
    """What still waited and fires no longer."""
    waiting = [item.number for item in _items(connection, numbers) if item.state != "resolved"]
    _set(connection, waiting, {"state": "resolved", "resolution": GONE}, at_ms)
    _tell(connection, waiting, at_ms, "closed", None, "the rule does not fire any more")
    return len(waiting)


def _seen_again(connection: Connection, same: Any, row: dict[str, Any], at_ms: int, done: Offered) -> Offered:
    names = ("start_ms", "end_ms", "step_ms", "measured", "limit", "quantity", "weight", "utility", "area")
    news = {name: row[name] for name in names if row[name] != same[name]}
    number = [same["number"]]
    if same["state"] == "resolved":
        if same["resolution"] == GONE:
            note = "the rule fires again"
        elif _decided(same, row):
            return done
        else:
            note = "the values changed after it was resolved"
        _set(connection, number, news, at_ms)
        _reopen(connection, number, at_ms, None, note, None)
        return replace(done, reopened=done.reopened + 1)
    if not news:
        return done
    _set(connection, number, news, at_ms)
    if not {"start_ms", "end_ms", "measured"} & set(news):
        return done  # worth more or less than before: no news for whoever works on it
    _tell(connection, number, at_ms, "changed", None, "the rule fires on other values than before")
    return replace(done, changed=done.changed + 1)


def _decided(same: Any, row: dict[str, Any]) -> bool:
    """Whether what a person decided covers what is found now: the same value, or a part of the same intervals."""
    inside = same["start_ms"] <= row["start_ms"] and row["end_ms"] <= same["end_ms"]
    whole = (same["start_ms"], same["end_ms"]) == (row["start_ms"], row["end_ms"])
    return inside and (not whole or same["measured"] == row["measured"])


def _reopen(
    connection: Connection, numbers: Sequence[int], at_ms: int, author: str | None, note: str, change: int | None
) -> None:
    """Back to whoever had them, else to the queue."""
    for item in _items(connection, numbers):
        state = "assigned" if item.assignee else "open"
        _set(connection, [item.number], {"state": state, "resolution": None, "change": None}, at_ms)
    _tell(connection, numbers, at_ms, "reopened", author, note, change)


def _items(connection: Connection, numbers: Sequence[int]) -> list[Item]:
    found: dict[int, Item] = {}
    for at in range(0, len(numbers), _AT_ONCE):
        own = select(ExceptionRow.__table__).where(ExceptionRow.number.in_(numbers[at : at + _AT_ONCE]))
        found |= {row["number"]: Item(**row) for row in connection.execute(own).mappings()}
    missing = [number for number in numbers if number not in found]
    if missing:
        raise Problem(404, "no-exception", "No such exception", f"There is no exception {missing[0]} in the work list.")
    return [found[number] for number in numbers]


def _check_waiting(items: Sequence[Item]) -> None:
    if not items:
        raise Problem(422, "exceptions", "Which exceptions?", "Give the number of at least one.")
    done = [item for item in items if item.state == "resolved"]
    if done:
        raise Problem(
            409,
            "resolved",
            "Already resolved",
            f"Exception {done[0].number} was resolved ({done[0].resolution}); undo change {done[0].change} first.",
        )


def _set(connection: Connection, numbers: Collection[int], values: dict[str, Any], at_ms: int) -> None:
    every = list(numbers)
    for at in range(0, len(every), _AT_ONCE):
        own = update(ExceptionRow).where(ExceptionRow.number.in_(every[at : at + _AT_ONCE]))
        connection.execute(own.values(**values, changed_ms=at_ms))


def _tell(
    connection: Connection,
    numbers: Collection[int],
    at_ms: int,
    event: str,
    author: str | None,
    note: str,
    change: int | None = None,
) -> None:
    facts = {"at_ms": at_ms, "event": event, "author": author, "note": note, "change": change}
    insert_rows(connection, ExceptionEventRow, [facts | {"exception": number} for number in numbers])


def _mark(text: str) -> tuple[int, int]:
    value, _, number = text.partition(".")
    try:
        return int(value), int(number)
    except ValueError:
        raise Problem(422, "after", "Not a mark", "after takes what `next` of the page before was.") from None


__all__ = ["GONE", "SORTS", "STATES", "Event", "Filter", "Found", "Item", "Offered", "Worklist"]
