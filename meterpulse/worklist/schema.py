"""The tables of the work list and the ledger of edits. Rows of `change`, `edit`, `undone` and `exception_event` are
written once and never changed; `exception` holds the present state of what its events tell."""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_SERIAL = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The tables of people's decisions."""


class SchemaVersion(Base):
    """One row: the number of migrations that this database has had."""

    __tablename__ = "worklist_version"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ChangeRow(Base):
    """One decision of one person, about one interval or ten thousand channels; undoing one is another."""

    __tablename__ = "change"
    number: Mapped[int] = mapped_column(_SERIAL, primary_key=True)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    author: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(20))
    undoes: Mapped[int | None] = mapped_column(BigInteger)


class EditRow(Base):
    """Consecutive values of one channel: int64 quantities and int32 packed qualities, little-endian."""

    __tablename__ = "edit"
    __table_args__ = (
        Index("edit_by_time", "end_ms", "start_ms"),
        Index("edit_by_channel", "channel"),
        Index("edit_by_change", "change"),
    )
    number: Mapped[int] = mapped_column(_SERIAL, primary_key=True)
    change: Mapped[int] = mapped_column(BigInteger)
    channel: Mapped[int] = mapped_column(BigInteger)
    start_ms: Mapped[int] = mapped_column(BigInteger)
    end_ms: Mapped[int] = mapped_column(BigInteger)
    step_ms: Mapped[int] = mapped_column(BigInteger)
    mode: Mapped[int]
    quantity: Mapped[bytes] = mapped_column(LargeBinary)
    quality: Mapped[bytes] = mapped_column(LargeBinary)


class UndoneRow(Base):
    """An edit that a later change took back."""

    __tablename__ = "undone"
    edit: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    change: Mapped[int] = mapped_column(BigInteger)


class PendingRow(Base):
    """A UTC day that has to be built again because of a change; `end_ms` is the end of its last interval concerned."""

    __tablename__ = "pending_day"
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    change: Mapped[int] = mapped_column(BigInteger)
    end_ms: Mapped[int] = mapped_column(BigInteger)


class ExceptionRow(Base):
    """A failed rule on consecutive intervals of a channel, and where its handling stands."""

    __tablename__ = "exception"
    __table_args__ = (
        Index("exception_by_day", "day"),
        Index("exception_by_state", "state", "weight"),
        Index("exception_by_channel", "channel"),
    )
    number: Mapped[int] = mapped_column(_SERIAL, primary_key=True)
    day: Mapped[int]
    channel: Mapped[int] = mapped_column(BigInteger)
    utility: Mapped[str] = mapped_column(String(20))
    area: Mapped[str | None] = mapped_column(String(200))
    rule: Mapped[str] = mapped_column(String(20))
    start_ms: Mapped[int] = mapped_column(BigInteger)
    end_ms: Mapped[int] = mapped_column(BigInteger)
    step_ms: Mapped[int] = mapped_column(BigInteger)
    measured: Mapped[int | None] = mapped_column(BigInteger)
    limit: Mapped[int | None] = mapped_column(BigInteger)
    quantity: Mapped[int] = mapped_column(BigInteger)
    weight: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(10))
    assignee: Mapped[str | None] = mapped_column(String(200))
    resolution: Mapped[str | None] = mapped_column(String(20))
    change: Mapped[int | None] = mapped_column(BigInteger)
    opened_ms: Mapped[int] = mapped_column(BigInteger)
    changed_ms: Mapped[int] = mapped_column(BigInteger)


class ExceptionEventRow(Base):
    """What happened to an exception, by whom and why; the engine's own events have no author."""

    __tablename__ = "exception_event"
    __table_args__ = (Index("exception_event_by_exception", "exception"),)
    number: Mapped[int] = mapped_column(_SERIAL, primary_key=True)
    exception: Mapped[int] = mapped_column(BigInteger)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    event: Mapped[str] = mapped_column(String(20))
    author: Mapped[str | None] = mapped_column(String(200))
    note: Mapped[str] = mapped_column(Text)
    change: Mapped[int | None] = mapped_column(BigInteger)


def _create(connection: Connection) -> None:
    Base.metadata.create_all(connection)


MIGRATIONS = (_create,)
"""Applied in order, each once; append new ones, never change one that was released."""
