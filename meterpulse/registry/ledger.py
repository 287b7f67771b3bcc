"""The SQL side of the registry: loads it, and commits every change of it in one transaction.

Files that only grow are written and synced before the commit that lengthens their extent; what lies beyond the extent
does not count. Values that change in place are committed as `redo` first, then written and synced, then cleared:
whenever the process ends, opening finishes the work.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import OperationalError

from meterpulse.database import connect, insert_rows, migrate, writing
from meterpulse.model.channel import NO_AREA
from meterpulse.registry.areas import Area
from meterpulse.registry.profiles import Profile
from meterpulse.registry.schema import (
    MIGRATIONS,
    AreaRow,
    ChannelChangeRow,
    ExtentRow,
    MeterExchangeRow,
    ProfileRow,
    RedoRow,
    SchemaVersion,
)


@dataclass
class Change:
    """What one transaction commits. Rows are dicts of the table's columns."""

    extents: dict[str, int]
    profiles: list[tuple[int, Profile]] = field(default_factory=list)
    areas: list[tuple[int, Area]] = field(default_factory=list)  # new ones
    edited_areas: list[tuple[int, Area]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    exchanges: list[dict[str, Any]] = field(default_factory=list)
    redo: list[dict[str, Any]] = field(default_factory=list)


class Ledger:
    """The registry's database; `url` is SQLAlchemy's, SQLite in `directory` when None."""

    def __init__(self, directory: Path, url: str | None):
        self._engine = connect(url, directory / "registry.sqlite")
        with self._engine.begin() as connection:
            migrate(connection, SchemaVersion.__table__, MIGRATIONS, "registry")

    def extents(self) -> dict[str, int]:
        """What is committed: lengths by name, and the version."""
        with self._engine.connect() as connection:
            return {name: value for name, value in connection.execute(select(ExtentRow.name, ExtentRow.value))}

    def profiles(self) -> list[Profile]:
        """All profiles by number."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(ProfileRow.__table__).order_by(ProfileRow.number))
            return [Profile(*row[1:]) for row in rows]

    def areas(self) -> list[Area]:
        """All areas by number."""
        with self._engine.connect() as connection:
            columns = (AreaRow.name, AreaRow.kind, AreaRow.parent, AreaRow.time_zone, AreaRow.title)
            rows = connection.execute(select(*columns).order_by(AreaRow.number))
            return [
                Area(name, kind, NO_AREA if parent is None else parent, zone, title)
                for name, kind, parent, zone, title in rows
            ]

    def redo(self) -> list[tuple[str, int, int]]:
        """Changes in place that may be unfinished: (target column, channel, value)."""
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(select(RedoRow.target, RedoRow.channel, RedoRow.value))]

    def commit(self, change: Change) -> None:
        """All of it or nothing, on disk when it returns. Raises Problem 507 when the disk is full."""
        with writing(self._engine, "nothing was registered") as connection:
            for name, value in change.extents.items():
                if not connection.execute(update(ExtentRow).where(ExtentRow.name == name).values(value=value)).rowcount:
                    connection.execute(insert(ExtentRow).values(name=name, value=value))
            profiles = [dict(zip(_PROFILE, (number, *profile), strict=True)) for number, profile in change.profiles]
            insert_rows(connection, ProfileRow, profiles)
            insert_rows(connection, AreaRow, [{"number": number} | _area_row(area) for number, area in change.areas])
            for number, area in change.edited_areas:
                connection.execute(update(AreaRow).where(AreaRow.number == number).values(**_area_row(area)))
            insert_rows(connection, ChannelChangeRow, change.history)
            insert_rows(connection, MeterExchangeRow, change.exchanges)
            connection.execute(delete(RedoRow))  # earlier changes in place are in their files
            insert_rows(connection, RedoRow, change.redo)

    def clear_redo(self) -> None:
        """The changes in place are on disk in their files. If this fails, the next commit does it; doing them again at
        an opening in between does no harm."""
        with suppress(OperationalError), self._engine.begin() as connection:
            connection.execute(delete(RedoRow))

    def exchanges(self, usage_point: str | None = None) -> list[dict[str, Any]]:
        """Meter exchanges in the order they were told: usage_point, old_meter, new_meter, at_ms."""
        columns = (
            MeterExchangeRow.usage_point,
            MeterExchangeRow.old_meter,
            MeterExchangeRow.new_meter,
            MeterExchangeRow.at_ms,
        )
        query = select(*columns).order_by(MeterExchangeRow.number)
        if usage_point is not None:
            query = query.where(MeterExchangeRow.usage_point == usage_point)
        return self._rows(query)

    def history(self, channel: int | None = None) -> list[dict[str, Any]]:
        """Changes of channels in the order they were told: channel (index), at_ms, field, old, new."""
        columns = (
            ChannelChangeRow.channel,
            ChannelChangeRow.at_ms,
            ChannelChangeRow.field,
            ChannelChangeRow.old,
            ChannelChangeRow.new,
        )
        query = select(*columns).order_by(ChannelChangeRow.number)
        return self._rows(query if channel is None else query.where(ChannelChangeRow.channel == channel))

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


_PROFILE = [column.name for column in ProfileRow.__table__.columns]


def _area_row(area: Area) -> dict[str, Any]:
    parent = None if area.parent == NO_AREA else int(area.parent)
    return {"name": area.name, "kind": area.kind, "parent": parent, "time_zone": area.time_zone, "title": area.title}
