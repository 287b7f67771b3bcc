"""What the registry keeps in SQL: everything that is small or dated, and how much of the array files counts.

The bulk (which channel has which profile, area, usage point, customer and meter) is columnar, in files. A row in
`extent` says how long each file is, and is written in the same transaction as the rows that belong to it: that
transaction is the one moment at which a registration happens. Changes in place go through `redo` (see `ledger`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_NAME = String(200)


class Base(DeclarativeBase):
    """The registry's tables."""


class SchemaVersion(Base):
    """One row: the number of migrations that this database has had."""

    __tablename__ = "schema_version"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ExtentRow(Base):
    """How many values of a file are committed; also the registry's version."""

    __tablename__ = "extent"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class AreaRow(Base):
    """A grouping of usage points; `parent` is the number of the area around it."""

    __tablename__ = "area"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(_NAME, unique=True)
    kind: Mapped[str] = mapped_column(String(40))
    parent: Mapped[int | None]
    time_zone: Mapped[str] = mapped_column(String(64))
    title: Mapped[str | None] = mapped_column(Text)


class ProfileRow(Base):
    """A distinct combination of what channels have in common."""

    __tablename__ = "profile"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    utility: Mapped[str] = mapped_column(String(20))
    unit: Mapped[str] = mapped_column(String(20))
    direction: Mapped[str] = mapped_column(String(20))
    kind: Mapped[str] = mapped_column(String(20))
    interval_seconds: Mapped[int]
    multiplier: Mapped[str] = mapped_column(Text)
    digits: Mapped[int | None]
    customer_class: Mapped[str] = mapped_column(String(20))
    time_zone: Mapped[str] = mapped_column(String(64))


class ChannelChangeRow(Base):
    """One field of one channel changed; `at_ms` is when it took effect, null where nobody said."""

    __tablename__ = "channel_change"
    __table_args__ = (Index("channel_change_by_channel", "channel"),)
    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    channel: Mapped[int] = mapped_column(BigInteger)
    at_ms: Mapped[int | None] = mapped_column(BigInteger)
    field: Mapped[str] = mapped_column(String(20))
    old: Mapped[str | None] = mapped_column(Text)
    new: Mapped[str | None] = mapped_column(Text)


class MeterExchangeRow(Base):
    """The meter of a usage point was replaced at an instant; may be told more than once, by each of its channels."""

    __tablename__ = "meter_exchange"
    __table_args__ = (Index("meter_exchange_by_usage_point", "usage_point"),)
    number: Mapped[int] = mapped_column(primary_key=True)
    usage_point: Mapped[str] = mapped_column(_NAME)
    old_meter: Mapped[str] = mapped_column(_NAME)
    new_meter: Mapped[str] = mapped_column(_NAME)
    at_ms: Mapped[int | None] = mapped_column(BigInteger)


class RedoRow(Base):
    """A committed change of a column in place that may not have reached its file yet."""

    __tablename__ = "redo"
    target: Mapped[str] = mapped_column(String(20), primary_key=True)
    channel: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(BigInteger)


def _create(connection: Connection) -> None:
    Base.metadata.create_all(connection)


MIGRATIONS = (_create,)
"""Applied in order, each once; append new ones, never change one that was released."""
