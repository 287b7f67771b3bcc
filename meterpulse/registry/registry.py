"""The registry of one data directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from meterpulse.model.channel import NOT_FOUND, Channel, ChannelError, ChannelTable, check_name
from meterpulse.model.problem import Problem
from meterpulse.model.window import zone
from meterpulse.registry import listing
from meterpulse.registry.areas import Area, Areas
from meterpulse.registry.intake import batches_of, check, rows_of
from meterpulse.registry.registration import changes, register_batch
from meterpulse.registry.store import Store

_ERRORS = 10_000


@dataclass(frozen=True)
class Registered:
    """What came of a registration. `indices` is uint32, one per row given, NOT_FOUND for the refused; `updated` counts
    accepted rows of channels that were known; `errors` has (position, message) of the first 10,000 refused."""

    created: int
    updated: int
    refused: int
    indices: np.ndarray
    errors: list[tuple[int, str]]


class Registry:
    """Channels, their usage points, customers, meters and areas. Any thread may read while one registers."""

    def __init__(self, store: Store):
        self._store = store

    @classmethod
    def open(cls, directory: Path | str, url: str | None = None) -> Registry:
        """The registry in `directory`, made if there is none. `url` is an SQLAlchemy URL for the small tables (SQLite
        in the directory when None); the arrays are always in the directory. Repairs what a killed process left."""
        return cls(Store(Path(directory), url))

    @property
    def table(self) -> ChannelTable:
        """All channels as of now, for the hot path. It never changes, so ask again for each batch of readings; `areas`,
        asked for after it, has all the areas that are in it."""
        return self._store.table

    @property
    def areas(self) -> Areas:
        """All areas as of now."""
        return self._store.areas

    @property
    def version(self) -> int:
        """Grows with each registration that changed anything."""
        return self._store.version

    def register(
        self,
        channels: Iterable[Channel | dict[str, Any]] | pa.Table | pa.RecordBatch | pa.RecordBatchReader | Path,
        at_ms: int | None = None,
    ) -> Registered:
        """Register new channels and update known ones, by id; durable when it returns.

        `channels` are Channel objects or dicts of the public shape, an Arrow table, or the path of a Parquet file with
        columns of the same names. In tables and dicts, what is absent or null is not told: a new channel gets the
        default, a known one keeps what it has. An area that is not known becomes one of kind "postcode" in the
        channel's time zone. Changes take effect at `at_ms` (ms UTC; None where nobody knows) and are kept as history.
        A row that is wrong, or would change a channel's utility, direction, kind, dimension or time zone, is refused
        alone. Raises Problem where the table's columns are wrong, another process writes, or the disk is full; what
        came before is then registered.
        """
        created = updated = position = refused = 0
        indices, errors = [], []
        with self._store.writing():
            self._store.texts["id"].reserve(self._store.count + (rows_of(channels) or 0))
            for batch, not_channels in batches_of(channels):
                intake = check(batch, not_channels)
                outcome = register_batch(self._store, intake, at_ms)
                indices.append(outcome.indices)
                created, updated = created + outcome.created, updated + outcome.updated
                refused += int(np.count_nonzero(~intake.fine))
                for row, message in intake.refusals.first(_ERRORS - len(errors)):
                    errors.append((position + row, message))
                position += intake.rows
            self._store.save()
        pa.default_memory_pool().release_unused()  # Arrow keeps what the batches took
        return Registered(created, updated, refused, np.concatenate(indices or [np.empty(0, np.uint32)]), errors)

    def channel(self, id: str) -> dict[str, Any] | None:
        """The public shape of a channel and its "index", or None."""
        index = self.table.lookup_one(id)
        if index == NOT_FOUND:
            return None
        row = listing.rows_of(self._store, np.array([index], np.uint32)).to_pylist()[0]
        return listing.public_shape(row, self._store.book.rows[self.table.profile[index]].multiplier)

    def channels(self, after: int = 0, limit: int | None = None, **filters: str | None) -> pa.Table:
        """Channels with an index of at least `after`, ordered by index, in `listing.SCHEMA`.

        Filters: area (the channels in it and in areas inside it), utility, customer, usage_point.
        """
        return pa.Table.from_batches(self.channel_batches(after, limit, **filters), listing.SCHEMA)

    def channel_batches(
        self, after: int = 0, limit: int | None = None, **filters: str | None
    ) -> Iterator[pa.RecordBatch]:
        """The same in batches, for more channels than memory holds as text."""
        return listing.batches(self._store, after, limit, **filters)

    def add_area(
        self,
        name: str,
        kind: str = "postcode",
        parent: str | None = None,
        time_zone: str | None = None,
        title: str | None = None,
    ) -> int:
        """Add an area, or change one that is known; returns its index. `parent` is the name of the area around it.

        What is None stays as it is; a new area without a time zone has that of its parent. Raises Problem for a name or
        zone that is none, an unknown parent, or a circle.
        """
        try:
            check_name("area", name, optional=False)
            check_name("kind", kind, optional=False)
            if time_zone is not None:
                zone(time_zone)
        except (ChannelError, ValueError) as error:
            raise Problem(422, "bad-area", "This is no area", str(error)) from None
        with self._store.writing():
            store = self._store
            known = store.area_number(name)
            area = replace(Area(name) if known is None else store.area_rows[known], kind=kind)
            if parent is not None:
                around = store.area_number(parent)
                if around is None:
                    raise Problem(422, "bad-area", "Unknown parent", f"there is no area {parent!r} yet; add it first")
                if known is not None and known in store.areas.ancestors_or_self(around):
                    raise Problem(422, "bad-area", "Areas in a circle", f"{parent!r} lies in {name!r} already")
                inherited = area.time_zone if known is not None else store.area_rows[around].time_zone
                area = replace(area, parent=around, time_zone=inherited)
            area = replace(area, time_zone=time_zone or area.time_zone, title=area.title if title is None else title)
            if known is None:
                number = store.add_area(area)
                store.commit()
            else:
                number = known
                if area != store.area_rows[known]:
                    store.area_rows[known] = area
                    store.commit(edited_areas=[known])
            return number

    def exchange_meter(self, usage_point: str, old_meter: str, new_meter: str, at_ms: int) -> int:
        """Record that a usage point got a new meter at an instant (ms UTC); returns how many channels it measures.

        Raises Problem 404 for a usage point without channels, 409 where `old_meter` is not the meter there, or where a
        later exchange is known already.
        """
        try:
            check_name("meter", new_meter, optional=False)
        except ChannelError as error:
            raise Problem(422, "bad-meter", "This is no meter", str(error)) from None
        with self._store.writing():
            store = self._store
            channels = store.channels_of("usage_point", usage_point)
            if not len(channels):
                raise Problem(404, "unknown-usage-point", "No such usage point", f"{usage_point!r} has no channels")
            old = store.texts["meter"].view().find_one(old_meter)
            there = store.columns["meter"].view[channels]
            if old == NOT_FOUND or not (there == old).any():
                names = sorted(set(filter(None, store.texts["meter"].view().texts(there).to_pylist())))
                raise Problem(
                    409,
                    "other-meter",
                    "Another meter is there",
                    f"{usage_point!r} has {', '.join(names) or 'no meter'}, not {old_meter!r}",
                )
            last = max((row["at_ms"] or 0 for row in store.ledger.exchanges(usage_point)), default=at_ms)
            if last > at_ms:
                raise Problem(
                    409, "later-exchange", "A later exchange is known", f"at {last} ms; this one is at {at_ms} ms"
                )
            channels = channels[there == old]
            data = np.frombuffer(new_meter.encode(), np.uint8)
            new = store.texts["meter"].add(np.array([0, data.size]), data, np.ones(1, bool))
            values = np.repeat(new, len(channels))
            exchange = {"usage_point": usage_point, "old_meter": old_meter, "new_meter": new_meter, "at_ms": at_ms}
            store.commit(changes(store, "meter", channels, values, at_ms), [exchange], {"meter": (channels, values)})
            return len(channels)

    def meters(self, usage_point: str) -> list[dict[str, Any]]:
        """The meters of a usage point, the oldest first: {"meter", "from_ms", "until_ms"}, None where it is not known
        or still going on."""
        past, since = [], dict[str, int | None]()
        for row in {tuple(row.values()): row for row in self._store.ledger.exchanges(usage_point)}.values():
            past.append(
                {"meter": row["old_meter"], "from_ms": since.pop(row["old_meter"], None), "until_ms": row["at_ms"]}
            )
            since[row["new_meter"]] = row["at_ms"]
        there = self._store.columns["meter"].view[self._store.channels_of("usage_point", usage_point)]
        now = dict.fromkeys(filter(None, self._store.texts["meter"].view().texts(there).to_pylist()))
        return past + [{"meter": meter, "from_ms": since.get(meter), "until_ms": None} for meter in now]

    def history(self, id: str) -> list[dict[str, Any]]:
        """What changed of a channel, in the order it was told: {"at_ms", "field", "old", "new"}."""
        index = self.table.lookup_one(id)
        rows = [] if index == NOT_FOUND else self._store.ledger.history(index)
        return [{name: row[name] for name in ("at_ms", "field", "old", "new")} for row in rows]

    def close(self) -> None:
        """Close the files. Tables that were handed out stay readable."""
        self._store.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
