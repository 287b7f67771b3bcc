"""SQL databases for what is small, dated and said by people: opened durably, brought to this version's schema.

SQLite in a file of the data folder unless a URL names another database. What comes by the million is kept in arrays and
Parquet instead (registry, lake).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert, inspect, select, update
from sqlalchemy.exc import OperationalError

from meterpulse.model.problem import Problem

SLICE = 10_000  # rows in one statement


def connect(url: str | None, file: Path) -> Engine:
    """The database at SQLAlchemy's `url`, or SQLite in `file`."""
    engine = create_engine(url or f"sqlite:///{file}")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _durable_sqlite)
    return engine


def migrate(connection: Connection, version: Table, steps: Sequence[Callable[[Connection], None]], what: str) -> None:
    """Bring a schema of any earlier version to this one: `steps` in order, each once. `version` is a table of one row.

    Raises Problem where a later meterpulse wrote it.
    """
    found = None
    if inspect(connection).has_table(version.name):
        found = connection.execute(select(version.c.version)).scalar_one_or_none()
    if (found or 0) > len(steps):
        raise Problem(
            500,
            f"{what}-newer",
            f"The {what} was written by a newer meterpulse",
            f"its schema has version {found}, this program knows {len(steps)}; install the newer version",
        )
    for step in steps[found or 0 :]:
        step(connection)
    if found is None:
        connection.execute(insert(version).values(version=len(steps)))
    elif found < len(steps):
        connection.execute(update(version).values(version=len(steps)))


@contextmanager
def writing(engine: Engine, nothing_happened: str) -> Iterator[Connection]:
    """One transaction, on disk when it ends. Raises Problem 507 where the disk is full; `nothing_happened` says so in
    the words of what was tried."""
    try:
        with engine.begin() as connection:
            yield connection
    except OperationalError as error:
        if "full" in str(error.orig):
            raise Problem(507, "disk-full", "The disk is full", f"{nothing_happened}; free some space") from error
        raise


def insert_rows(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    """Rows as dicts of the table's columns, a slice at a time."""
    for at in range(0, len(rows), SLICE):
        connection.execute(insert(table), rows[at : at + SLICE])


def _durable_sqlite(connection: Any, _: Any) -> None:
    """Readers do not wait for writers, and a commit is on disk when it returns."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
