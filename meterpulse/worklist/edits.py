"""The ledger of edits: values that people put in the place of measured or estimated ones, each with author, reason and time.

A change is what one person committed at once; it holds an edit for each span of a channel. An edit keeps the very values
that its author saw, so that building a day again cannot change them. How it stands against later readings is its mode:

ALWAYS      the value stands whatever is measured (set, interpolate, copy week)
IF_SAME     the measured value was confirmed; where another is measured later, the confirmation has lapsed (accept raw)
IF_MISSING  the estimate was confirmed; a measured value that arrives after all goes before it (accept estimate)
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Select, and_, delete, func, insert, select, update
from sqlalchemy.orm import aliased

from meterpulse.database import insert_rows, writing
from meterpulse.model.problem import Problem
from meterpulse.model.quality import is_packed
from meterpulse.model.quantity import QUANTITY_MAX
from meterpulse.model.window import DAY_MS
from meterpulse.worklist.schema import ChangeRow, EditRow, PendingRow, UndoneRow

ACTIONS = ("set", "interpolate", "copy week", "accept raw", "accept estimate", "leave")
_SPAN_MS = 400 * DAY_MS  # an edit is no longer than lateness can reach


class Mode(IntEnum):
    """How an edit stands against what is measured."""

    ALWAYS = 0
    IF_SAME = 1
    IF_MISSING = 2


MODE_OF = {"accept raw": Mode.IF_SAME, "accept estimate": Mode.IF_MISSING}


class EditError(ValueError):
    """An edit that cannot be; the message says why."""


@dataclass(frozen=True)
class Edit:
    """Values of consecutive intervals of a channel (by dense index), from `start_ms`, each `step_ms` long.

    quantity int64[n] in thousandths of the base unit; quality int32[n], packed (see model/quality).
    """

    channel: int
    start_ms: int
    step_ms: int
    quantity: np.ndarray
    quality: np.ndarray
    mode: Mode | None = None  # None: as its action says

    def __post_init__(self) -> None:
        n = len(self.quantity)
        if not n or len(self.quality) != n:
            raise EditError(f"an edit has a quality for each of its values, and at least one; it has {n}")
        if self.step_ms <= 0 or DAY_MS % self.step_ms or self.start_ms % self.step_ms:
            raise EditError(f"intervals of {self.step_ms} ms from {self.start_ms} are not on the record's grid")
        if self.step_ms * n > _SPAN_MS:
            raise EditError("an edit covers at most 400 days")
        if np.abs(self.quantity.astype(object)).max() > QUANTITY_MAX or not is_packed(self.quality).all():
            raise EditError("a value or quality of the edit is out of range")

    @property
    def end_ms(self) -> int:
        """The end of its last interval."""
        return self.start_ms + self.step_ms * len(self.quantity)


@dataclass(frozen=True)
class InForce:
    """What edits say, as columns sorted by (channel, start), one row for each interval of a channel: the newest edit's.

    channel uint32[n]; start_ms int64[n]; seconds int32[n]; quantity int64[n], thousandths of the base unit; quality
    int32[n], packed; mode uint8[n], see Mode; edit int64[n], the number of the edit.
    """

    channel: np.ndarray
    start_ms: np.ndarray
    seconds: np.ndarray
    quantity: np.ndarray
    quality: np.ndarray
    mode: np.ndarray
    edit: np.ndarray

    def __len__(self) -> int:
        return len(self.channel)

    def of_channels(self, low: int, high: int) -> InForce:
        """The rows of channels [low, high), without a copy."""
        own = slice(*np.searchsorted(self.channel, np.array([low, high], np.int64)).tolist())
        return InForce(*(getattr(self, name)[own] for name in self.__dataclass_fields__))

    def apply(
        self, quantity: np.ndarray, quality: np.ndarray, measured: np.ndarray, at: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Puts the edits into matrices [channel, interval] in place and says which rows did so (bool[n]).

        `measured` bool[channel, interval]: where `quantity` is a measured value; `at` is (row, column) of each edit row in the
        matrices, (-1, -1) where it has no place there.
        """
        row, column = at
        inside = (row >= 0) & (column >= 0)
        r, c = np.where(inside, row, 0), np.where(inside, column, 0)
        same = measured[r, c] & (quantity[r, c] == self.quantity)
        stands = inside & np.choose(self.mode, [np.ones(len(self), bool), same, ~measured[r, c]])
        quantity[r[stands], c[stands]] = self.quantity[stands]
        quality[r[stands], c[stands]] = self.quality[stands]
        return stands


@dataclass(frozen=True)
class Change:
    """What one person decided at once. `edits` counts its spans; `undone` is the change that took it back, None where it
    stands; `start_ms` and `end_ms` are the first and the last instant that it touches (None where it has no values)."""

    number: int
    at_ms: int
    author: str
    reason: str
    action: str
    undoes: int | None
    edits: int
    undone: int | None
    values: int
    channels: list[int] = field(default_factory=list)  # the first few
    start_ms: int | None = None
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """An edit of a channel's interval span [start_ms, end_ms): who made it and why, and when it was taken back."""

    start_ms: int
    end_ms: int
    at_ms: int
    undone_ms: int | None
    author: str
    reason: str


class Edits:
    """The ledger. Any thread may read; writers take turns."""

    def __init__(self, engine: Engine, turn: threading.Lock):
        self._engine, self._turn = engine, turn

    def commit(self, edits: Sequence[Edit], *, action: str, author: str, reason: str, at_ms: int) -> int:
        """Records a change and gives its number. Raises Problem 422 where author or reason is missing, 507."""
        with self._turn, writing(self._engine, "no edit was recorded") as connection:
            return record(connection, edits, action=action, author=author, reason=reason, at_ms=at_ms)

    def undo(self, change: int, *, author: str, reason: str, at_ms: int) -> list[tuple[int, int, int]]:
        """Takes back what is still in force of a change; gives (channel, start, end) of each of its spans.

        Raises Problem 404 where there is no such change, 409 where nothing of it is in force.
        """
        with self._turn, writing(self._engine, "nothing was undone") as connection:
            return take_back(connection, change, author=author, reason=reason, at_ms=at_ms)[1]

    def edits_for(self, channels: tuple[int, int], start_ms: int, end_ms: int, as_of_ms: int | None = None) -> InForce:
        """What is in force for intervals that start in [start_ms, end_ms) of channels [low, high), as columns.

        `as_of_ms`: what was in force then; None, now. One query: ask for all channels of a day at once and take the
        buckets with `of_channels`.
        """
        query = (
            select(EditRow.number, EditRow.channel, EditRow.start_ms, EditRow.step_ms, EditRow.mode)
            .add_columns(EditRow.quantity, EditRow.quality)
            .where(EditRow.end_ms > start_ms, EditRow.start_ms < end_ms)
            .where(EditRow.channel >= channels[0], EditRow.channel < channels[1])
            .order_by(EditRow.number)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(_in_force(query, as_of_ms)).all()
        return _columns(rows, start_ms, end_ms)

    def decisions(self, channel: int, start_ms: int, end_ms: int) -> list[Decision]:
        """All edits of a channel that touch [start_ms, end_ms), those taken back included; the oldest first."""
        undoing = aliased(ChangeRow)
        query = (
            select(EditRow.start_ms, EditRow.end_ms, ChangeRow.at_ms, undoing.at_ms, ChangeRow.author, ChangeRow.reason)
            .join(ChangeRow, ChangeRow.number == EditRow.change)
            .outerjoin(UndoneRow, UndoneRow.edit == EditRow.number)
            .outerjoin(undoing, undoing.number == UndoneRow.change)
            .where(EditRow.channel == channel, EditRow.end_ms > start_ms, EditRow.start_ms < end_ms)
            .order_by(EditRow.number)
        )
        with self._engine.connect() as connection:
            return [Decision(*row) for row in connection.execute(query)]

    def newest(self) -> int:
        """The number of the newest change, 0 where there is none."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.max(ChangeRow.number))).scalar() or 0

    def pending(self) -> dict[int, int]:
        """UTC days that changes have made dirty, each with the end of its last interval concerned. Survives a crash."""
        with self._engine.connect() as connection:
            return {day: end for day, end in connection.execute(select(PendingRow.day, PendingRow.end_ms))}

    def built(self, day: int, newest: int, until_ms: int) -> bool:
        """A day was built up to `until_ms` with all changes up to `newest`; whether it has to be built again."""
        if day not in self.pending():
            return False
        own = PendingRow.day == day
        with self._turn, writing(self._engine, "the day stays dirty") as connection:
            done = delete(PendingRow).where(own, PendingRow.change <= newest, PendingRow.end_ms <= until_ms)
            return not connection.execute(done).rowcount

    def changes(
        self, *, before: int | None = None, limit: int = 50, channel: int | None = None, author: str | None = None
    ) -> list[Change]:
        """Changes, the newest first; `before` is the number of the last one seen."""
        query = select(ChangeRow.__table__).order_by(ChangeRow.number.desc()).limit(limit)
        if before is not None:
            query = query.where(ChangeRow.number < before)
        if author is not None:
            query = query.where(ChangeRow.author == author)
        if channel is not None:
            own = select(EditRow.change).where(EditRow.channel == channel)
            undone = select(UndoneRow.change).join(EditRow, EditRow.number == UndoneRow.edit)
            undone = undone.where(EditRow.channel == channel)
            query = query.where(ChangeRow.number.in_(own) | ChangeRow.number.in_(undone))
        with self._engine.connect() as connection:
            return [_change(connection, row) for row in connection.execute(query).mappings().all()]

    def change(self, number: int) -> Change | None:
        """One change, None where there is none."""
        with self._engine.connect() as connection:
            row = connection.execute(select(ChangeRow.__table__).where(ChangeRow.number == number)).mappings().first()
            return None if row is None else _change(connection, row)

    def spans(self, change: int) -> list[tuple[int, int, int]]:
        """(channel, start, end) of each span of a change."""
        with self._engine.connect() as connection:
            return _spans(connection, select(EditRow.number).where(EditRow.change == change))


def record(connection: Connection, edits: Sequence[Edit], *, action: str, author: str, reason: str, at_ms: int) -> int:
    """`Edits.commit` inside of a transaction that does more."""
    _check_words(author, reason)
    if action not in ACTIONS:
        raise Problem(422, "action", "No such action", f"{action!r}; there are {', '.join(ACTIONS)}")
    change = _new_change(connection, at_ms, author, reason, action, None)
    mode = int(MODE_OF.get(action, Mode.ALWAYS))
    rows = [
        {
            "change": change,
            "channel": edit.channel,
            "start_ms": edit.start_ms,
            "end_ms": edit.end_ms,
            "step_ms": edit.step_ms,
            "mode": mode if edit.mode is None else int(edit.mode),
            "quantity": edit.quantity.astype("<i8").tobytes(),
            "quality": edit.quality.astype("<i4").tobytes(),
        }
        for edit in edits
    ]
    insert_rows(connection, EditRow, rows)
    _make_dirty(connection, change, [(edit.start_ms, edit.end_ms) for edit in edits])
    return change


def take_back(
    connection: Connection, change: int, *, author: str, reason: str, at_ms: int
) -> tuple[int, list[tuple[int, int, int]]]:
    """`Edits.undo` inside of a transaction that does more; gives (number of the undo, spans)."""
    _check_words(author, reason)
    found = connection.execute(select(ChangeRow.action, ChangeRow.undoes).where(ChangeRow.number == change)).first()
    if found is None:
        raise Problem(404, "no-change", "No such change", f"There is no change {change}; `edits list` shows what is.")
    if found.undoes is not None:
        raise Problem(409, "is-undo", "Cannot be undone", f"Change {change} is an undo; decide anew instead.")
    taken = select(ChangeRow.number).where(ChangeRow.undoes == change)
    if connection.execute(taken).first() is not None:
        raise Problem(409, "undone", "Already undone", f"Nothing of change {change} is in force any more.")
    number = _new_change(connection, at_ms, author, reason, "undo", change)
    edits = list(connection.execute(select(EditRow.number).where(EditRow.change == change)).scalars())
    insert_rows(connection, UndoneRow, [{"edit": edit, "change": number} for edit in edits])
    spans = _spans(connection, select(EditRow.number).where(EditRow.change == change))
    _make_dirty(connection, number, [(start, end) for _, start, end in spans])
    return number, spans


def _make_dirty(connection: Connection, change: int, spans: Sequence[tuple[int, int]]) -> None:
    ends: dict[int, int] = {}
    for start, end in spans:
        for day in range(start // DAY_MS, -(-end // DAY_MS)):
            ends[day] = max(ends.get(day, 0), min(end, (day + 1) * DAY_MS))
    for day, end in ends.items():
        before = connection.execute(select(PendingRow.end_ms).where(PendingRow.day == day)).scalar()
        if before is None:
            connection.execute(insert(PendingRow).values(day=day, change=change, end_ms=end))
        else:
            own = update(PendingRow).where(PendingRow.day == day)
            connection.execute(own.values(change=change, end_ms=max(before, end)))


def _new_change(connection: Connection, at_ms: int, author: str, reason: str, action: str, undoes: int | None) -> int:
    row = {"at_ms": at_ms, "author": author, "reason": reason, "action": action, "undoes": undoes}
    return int(connection.execute(insert(ChangeRow).values(**row)).inserted_primary_key[0])  # type: ignore[index]


def _check_words(author: str, reason: str) -> None:
    if not author.strip() or len(author) > 200:
        raise Problem(422, "author", "Who decides?", "author takes a name of up to 200 letters.")
    if not reason.strip() or len(reason) > 4000:
        raise Problem(422, "reason", "Why?", "reason takes a sentence of up to 4000 letters; others will read it.")


def _in_force(query: Select[Any], as_of_ms: int | None) -> Select[Any]:
    """Only edits that were committed by then and not undone by then."""
    undo = select(UndoneRow.edit)
    if as_of_ms is not None:
        undo = undo.join(ChangeRow, ChangeRow.number == UndoneRow.change).where(ChangeRow.at_ms <= as_of_ms)
        query = query.join(ChangeRow, and_(ChangeRow.number == EditRow.change, ChangeRow.at_ms <= as_of_ms))
    return query.where(EditRow.number.not_in(undo))


def _columns(rows: Sequence[Any], start_ms: int, end_ms: int) -> InForce:
    count = np.array([len(row.quantity) // 8 for row in rows], np.int64)
    per_row = {
        name: np.repeat(np.array([getattr(row, name) for row in rows], np.int64), count)
        for name in ("channel", "start_ms", "step_ms", "mode", "number")
    }
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    start = per_row["start_ms"] + place * per_row["step_ms"]
    quantity = np.frombuffer(b"".join(row.quantity for row in rows), "<i8").astype(np.int64)
    quality = np.frombuffer(b"".join(row.quality for row in rows), "<i4").astype(np.int32)
    order = np.lexsort((per_row["number"], start, per_row["channel"]))
    order = order[(start[order] >= start_ms) & (start[order] < end_ms)]
    channel, at = per_row["channel"][order], start[order]
    newest = np.ones(len(order), bool)  # of several edits of an interval the last committed stands
    newest[:-1] = (channel[1:] != channel[:-1]) | (at[1:] != at[:-1])
    order = order[newest]
    return InForce(
        per_row["channel"][order].astype(np.uint32),
        start[order],
        (per_row["step_ms"][order] // 1000).astype(np.int32),
        quantity[order],
        quality[order],
        per_row["mode"][order].astype(np.uint8),
        per_row["number"][order],
    )


def _spans(connection: Connection, edits: Select[Any]) -> list[tuple[int, int, int]]:
    query = select(EditRow.channel, EditRow.start_ms, EditRow.end_ms).where(EditRow.number.in_(edits))
    return [tuple(row) for row in connection.execute(query.order_by(EditRow.number))]  # type: ignore[misc]


def _change(connection: Connection, row: Any) -> Change:
    """With what it touches; an undo touches what its change did."""
    own = EditRow.change == (row["undoes"] or row["number"])
    counted = connection.execute(
        select(func.count(), func.min(EditRow.start_ms), func.max(EditRow.end_ms))
        .add_columns(func.sum((EditRow.end_ms - EditRow.start_ms) / EditRow.step_ms))
        .where(own)
    ).one()
    channels = connection.execute(select(EditRow.channel).where(own).distinct().limit(20)).scalars()
    undone = connection.execute(select(ChangeRow.number).where(ChangeRow.undoes == row["number"])).scalar()
    facts = {name: row[name] for name in ("number", "at_ms", "author", "reason", "action", "undoes")}
    edits, start, end, values = counted
    return Change(**facts, edits=edits, undone=undone, values=int(values or 0), channels=list(channels),
                  start_ms=start, end_ms=end)  # fmt: skip
