"""Eight channels in a registry, a body in every form, and the time that is now."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from meterpulse.ingest import ARROW, CSV, JSON, NDJSON, Decoded, decode, files
from meterpulse.model.channel import Channel, ChannelTable
from meterpulse.model.quality import text_of
from meterpulse.registry import Registry

MIDNIGHT_MS = 1_772_841_600_000  # 2026-03-07T00:00:00Z
CHANNELS = [
    Channel("E-1", "electricity", "kWh"),
    Channel("G-1", "gas", "m3", interval_seconds=900),
    Channel("W-1", "water", "L", interval_seconds=1800),
    Channel("V-1", "electricity", "V", kind="gauge", interval_seconds=60),
    Channel("R-1", "electricity", "kWh", kind="register"),
    Channel("Wg-1", "water", "gal", interval_seconds=3600),
    Channel("É-1", "electricity", "Wh", direction="received"),
    Channel("P-1", "electricity", "W", kind="gauge", interval_seconds=5),
]


@dataclass(frozen=True)
class Bench:
    """What the tests of the decoders share."""

    table: ChannelTable
    now_ms: int = MIDNIGHT_MS + 12 * 3_600_000

    def decode(self, body: bytes, media_type: str = NDJSON, **options: Any) -> Decoded:
        """At noon."""
        return decode(body, media_type, self.table, self.now_ms, **options)

    def rows(self, decoded: Decoded) -> list[tuple[int, ...]]:
        """(channel, start, seconds, quantity, revision) of every reading, as Python numbers."""
        names = ("channel", "start", "seconds", "quantity", "revision")
        return list(zip(*(decoded.readings.full(name).tolist() for name in names), strict=True))

    def both(self, record: bytes, media_type: str = NDJSON) -> Decoded:
        """One record by itself and the same among two hundred good ones: the same outcome, which is returned."""
        bodies = {CSV: CSV_HEADER + record, JSON: b"[" + record + b"]", NDJSON: record}
        alone = self.decode(bodies[media_type], media_type)
        good = {"channel": "E-1", "start": "2026-03-07T00:00:00Z", "seconds": 300, "quantity": "1.5"}
        if media_type == CSV:
            line = b"E-1,2026-03-07T00:00:00Z,300,1.5,,\n"
            among = self.decode(CSV_HEADER + line * 100 + record + b"\n" + line * 100, CSV)
        elif media_type == JSON:
            one = json.dumps(good).encode()
            among = self.decode(b"[" + b", ".join([one] * 100 + [record] + [one] * 100) + b"]", JSON)
        else:
            one = json.dumps(good).encode() + b"\n"
            among = self.decode(one * 100 + record + b"\n" + one * 100, NDJSON)
        rows = self.rows(among)
        assert rows[:100] == rows[-100:] == [(0, MIDNIGHT_MS, 300, 1_500_000, 0)] * 100
        assert rows[100:-100] == self.rows(alone)
        assert [(r.reason, r.original) for r in among.rejected] == [(r.reason, r.original) for r in alone.rejected]
        return alone


CSV_HEADER = b"channel,start,seconds,quantity,unit,revision\n"


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    registry = Registry.open(tmp_path_factory.mktemp("registry"))
    assert registry.register(CHANNELS).created == len(CHANNELS)
    return Bench(registry.table)


@pytest.fixture(scope="session")
def record() -> Callable[..., bytes]:
    """A good record as JSON text, with the fields that are given changed."""

    def make(**fields: Any) -> bytes:
        good = {"channel": "E-1", "start": "2026-03-07T00:00:00Z", "seconds": 300, "quantity": "1.5"}
        return json.dumps({k: v for k, v in (good | fields).items() if v != ...}).encode()

    return make


@pytest.fixture(scope="session")
def stream() -> Callable[..., bytes]:
    """An Arrow IPC stream of these columns."""

    def make(columns: dict[str, Any], cuts: Sequence[int] = (), **options: Any) -> bytes:
        batch, sink = pa.record_batch(columns), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
            edges = [0, *cuts, batch.num_rows]
            for a, b in zip(edges[:-1], edges[1:], strict=True):
                writer.write_batch(batch.slice(a, b - a))
        return sink.getvalue().to_pybytes()

    return make


__all__ = ["ARROW"]


def table_rows(batches: list[Any]) -> list[tuple[Any, ...]]:
    """(id, start ms, seconds, quantity, revision, quality as text) of the Arrow bodies of a file."""
    rows: list[tuple[Any, ...]] = []
    for batch in batches:
        table = batch.table
        assert table.num_rows == batch.rows
        names = ("channel", "start", "seconds", "quantity", "revision", "quality")
        columns = [table[name].cast(pa.int64()) if name == "start" else table[name] for name in names]
        rows += zip(*(column.to_pylist() for column in columns), strict=True)
    return [(*row[:5], text_of(row[5])) for row in rows]


@pytest.fixture(scope="session")
def rows_in() -> Callable[[Path, str], tuple[list[Any], list[tuple[Any, ...]]]]:
    """The batches of a file that must be detected as that format, and their rows."""

    def read(path: Path, format: str, after: int = 0) -> tuple[list[Any], list[tuple[Any, ...]]]:
        assert files.detect(path) == format
        batches = list(files.read(path, after=after))
        return batches, table_rows(batches)

    return read
