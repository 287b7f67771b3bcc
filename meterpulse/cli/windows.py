"""The store's finished windows and the record of all channels as one table each, read beside whoever writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from meterpulse import plugins
from meterpulse.batch.differences import CAUSES, of_day
from meterpulse.batch.record import methods_of
from meterpulse.model.window import DAY_MS, HOUR_MS, WINDOW_MS, day_splits, local_midnight
from meterpulse.stores import BLOCK, Chunk, Store
from meterpulse.stores.overlay import MISSING, Overlay, Recorded, overlay_of
from meterpulse.stores.rollup import day_rows, longer

if TYPE_CHECKING:
    from meterpulse.config import Config
    from meterpulse.registry import Registry

VIEWS = ("usage_5m", "usage_1h", "usage_1d")
# A million channels have 288 million windows of 5 minutes a day: so much of the newest is taken unless told otherwise.
DAYS = {"usage_5m": 2, "usage_1h": 31, "usage_1d": None, "intervals": 31}
SCHEMA = pa.schema(
    [
        ("channel", pa.uint32()),
        ("start", pa.timestamp("ms", "UTC")),
        ("part", pa.int32()),  # UTC day: of a local day there are up to three
        *((measure, pa.int64()) for measure in ("count", "sum", "min", "max", "last")),
        ("batch", pa.bool_()),
    ]
)
_LONG_AGO, _FAR_AHEAD = -(10**15), 10**15
DIFFERENCES = pa.schema(
    [
        ("channel", pa.uint32()),
        ("start", pa.timestamp("ms", "UTC")),
        ("minutes", pa.int32()),
        ("cause", pa.string()),
        ("readings", pa.int64()),
        ("speed", pa.int64()),
        ("batch", pa.int64()),
        ("found", pa.timestamp("ms", "UTC")),
    ]
)
INTERVALS = pa.schema(
    [
        ("channel", pa.uint32()),
        ("start", pa.timestamp("ms", "UTC")),
        ("seconds", pa.int32()),
        ("quantity", pa.int64()),  # null where there is no effective value
        ("quality", pa.int32()),  # packed; null with it
        ("measured", pa.int64()),
        ("method", pa.string()),
        ("known_from", pa.timestamp("s", "UTC")),
    ]
)


def differing(config: Config) -> pa.Table:
    """Every window that batch answers otherwise than speed did, in DIFFERENCES; quantities in thousandths."""
    tables = [DIFFERENCES.empty_table()]
    with _opened(config) as store:
        if store is not None:
            days = [int(name.split("/")[1]) for name in store.notes("differing/")]
            tables += [_differing(day, of_day(store, day)) for day in sorted(days)]
    return pa.concat_tables(tables)


def _differing(day: int, rows: np.ndarray) -> pa.Table:
    columns = [
        rows["channel"],
        day * DAY_MS + rows["window"].astype(np.int64) * WINDOW_MS,
        rows["minutes"].astype(np.int32),
        [CAUSES[cause] for cause in rows["cause"].tolist()],
        rows["count"].astype(np.int64),
        rows["batch"] - rows["delta"],
        rows["batch"],
        rows["found_ms"],
    ]
    return pa.table([pa.array(c).cast(f.type) for c, f in zip(columns, DIFFERENCES, strict=True)], schema=DIFFERENCES)


def windows(config: Config, registry: Registry, view: str, days: int | None) -> pa.Table:
    """A view's windows in the newest `days` UTC days of the store (None: all), in SCHEMA; quantities in thousandths."""
    with _opened(config) as store:
        return pa.Table.from_batches([] if store is None else _batches(store, registry, view, days), SCHEMA)


def told(config: Config, registry: Registry, days: int | None) -> pa.Table:
    """What the record says of the newest `days` UTC days that have one (None: all), in INTERVALS; quantities in thousandths."""
    with _opened(config) as store:
        return pa.Table.from_batches([] if store is None else _told(store, registry.table.count, days), INTERVALS)


def _told(store: Store, count: int, days: int | None) -> Iterator[pa.RecordBatch]:
    noted = {int(name.split("/")[1]): Recorded.of(text) for name, text in store.notes("record/").items()}
    for day in sorted(noted):
        if days is None or day > max(noted) - days:
            for block in range(-(-count // BLOCK)):
                yield _interval_batch(day, block, overlay_of(store, block, day), methods_of(noted[day]).methods)


def _interval_batch(day: int, block: int, rows: Overlay, methods: list[str]) -> pa.RecordBatch:
    missing = rows.quality == MISSING
    columns = [
        pa.array((block * BLOCK + rows.key).astype(np.uint32)),
        pa.array(day * DAY_MS + rows.step * WINDOW_MS).cast(INTERVALS.field("start").type),
        pa.array(rows.seconds.astype(np.int32)),
        pa.array(rows.quantity, mask=missing),
        pa.array(rows.quality, mask=missing),
        pa.array(rows.measured, mask=~rows.has_measured),
        pa.array(methods, pa.string()).take(pa.array(rows.method)),
        pa.array(rows.known_s).cast(INTERVALS.field("known_from").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=INTERVALS)


@contextmanager
def _opened(config: Config) -> Iterator[Store | None]:
    """The store as a reader sees it; None where there is none yet."""
    directory = config.data / "store"
    if not directory.is_dir():
        yield None
        return
    store: Store = plugins.implementation("stores", config.stores.engine)(
        directory, config.stores.max_bytes, readonly=True
    )
    try:
        yield store
    finally:
        store.close()


def _batches(store: Store, registry: Registry, view: str, days: int | None) -> Iterator[pa.RecordBatch]:
    table = registry.table
    zone = table.profiles.zone[np.asarray(table.profile[: table.count])].astype(np.int64)
    rolled = {int(name.split("/")[1]) for name in store.notes("rolled/")}
    blocks = [(block, zone[block * BLOCK : (block + 1) * BLOCK]) for block in range(-(-table.count // BLOCK))]
    found = {block: _days(store, view, block) for block, _ in blocks}
    oldest = max((day for own in found.values() for day in own), default=0) - days + 1 if days else _LONG_AGO
    for block, zones_of in blocks:
        for day in sorted(found[block]):
            if day >= oldest:
                chunk = _chunk(store, view, block, day, zones_of, table.profiles.zones, day in rolled)
                if chunk is not None:
                    yield _batch(chunk, day, _starts(view, day, zones_of, table.profiles.zones))


def _days(store: Store, view: str, block: int) -> set[int]:
    starts = [start for name in {view, "usage_5m"} for start in store.starts(name, block, _LONG_AGO, _FAR_AHEAD)]
    return {start // DAY_MS for start in starts}


def _chunk(
    store: Store, view: str, block: int, day: int, zone: np.ndarray, zones: list[str], rolled: bool
) -> Chunk | None:
    """A block's whole day of a view; hours and local days of a day that is not complete are made from its windows."""
    if view != "usage_5m" and rolled:
        return store.chunk(view, block, day * DAY_MS)
    rows, hours = day_rows(store, "usage_5m", block, day, len(zone), 5)
    if rows is None:
        return None
    if view == "usage_5m":
        bits = sum(((1 << 12) - 1) << hour * 12 for hour in range(24) if hours >> hour & 1)
        return Chunk(view, block, day * DAY_MS, rows, bits)
    by_hour, by_day = longer("usage_5m", block, day, rows, hours, zone, zones)
    return by_hour if view == "usage_1h" else by_day


def _starts(view: str, day: int, zone: np.ndarray, zones: list[str]) -> np.ndarray:
    """int64[keys or 1, steps]: when each step begins; local days begin at the midnight of the channel's zone."""
    if view == "usage_1d":
        parts = [[local_midnight(name, local) for local, _, _ in day_splits(name, day)] for name in zones]
        return np.array([part + [0] * (3 - len(part)) for part in parts], np.int64)[zone]
    step = WINDOW_MS if view == "usage_5m" else HOUR_MS
    return (day * DAY_MS + np.arange(DAY_MS // step, dtype=np.int64) * step)[None, :]


def _batch(chunk: Chunk, day: int, starts: np.ndarray) -> pa.RecordBatch:
    key, step = np.nonzero(chunk.rows[:, :, 0])
    rows = chunk.rows[key, step]
    from_batch = np.array([chunk.batch >> at & 1 for at in range(chunk.rows.shape[1])], bool)
    columns = [
        pa.array((chunk.block * BLOCK + key).astype(np.uint32)),
        pa.array(np.broadcast_to(starts, chunk.rows.shape[:2] if len(starts) == 1 else starts.shape)[key, step]).cast(
            SCHEMA.field("start").type
        ),
        pa.array(np.full(len(key), day, np.int32)),
        *(pa.array(np.ascontiguousarray(rows[:, measure])) for measure in range(5)),
        pa.array(from_batch[step]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
