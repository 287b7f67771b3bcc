"""What the record said before: a Delta table `<data>/lake/intervals_history`, to which rows are only ever added.

A row is one version of an interval's effective value, with the time from which it stood and the time at which another took its
place. It is on disk before the record forgets it; what a crash made be written twice has the same `known_from`, and the later
`known_until` holds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meterpulse.lake import CorruptFile, LakeFile
from meterpulse.lake.actions import add_action, remove_action, rows_of
from meterpulse.lake.commits import Commits
from meterpulse.lake.parts import PartWriter, fsync_directory, full_disk_says_so
from meterpulse.lake.published import published
from meterpulse.model.window import day_of_text, day_text

TABLE = "intervals_history"
_FIELDS = (
    ("channel", "integer", pa.int32()),
    ("start", "timestamp", pa.timestamp("us", "UTC")),
    ("seconds", "integer", pa.int32()),
    ("quantity", "long", pa.int64()),  # thousandths of the base unit; null where there was no effective value
    ("quality", "integer", pa.int32()),  # packed as everywhere; null with it
    ("measured", "long", pa.int64()),
    ("method", "string", pa.string()),
    ("known_from", "timestamp", pa.timestamp("us", "UTC")),
    ("known_until", "timestamp", pa.timestamp("us", "UTC")),
)
_NULLABLE = {"quantity", "quality", "measured"}
SCHEMA = pa.schema([pa.field(name, kind, nullable=name in _NULLABLE) for name, _, kind in _FIELDS])
_SCHEMA_TEXT = json.dumps(
    {
        "type": "struct",
        "fields": [{"name": n, "type": t, "nullable": n in _NULLABLE, "metadata": {}} for n, t, _ in _FIELDS]
        + [{"name": "day", "type": "string", "nullable": False, "metadata": {}}],
    }
)


class IntervalHistory:
    """One writer: the lake's process. `directory` is `<data>/lake`."""

    def __init__(self, directory: Path):
        self._root = Path(directory).absolute() / TABLE
        with full_disk_says_so(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
        self._commits = Commits(self._root, TABLE, _SCHEMA_TEXT)
        known = {*self._commits.state.adds, *self._commits.state.removes}
        for path in self._root.glob("day=*/*"):  # what no commit names was not acknowledged
            if f"{path.parent.name}/{path.name}" not in known:
                path.unlink()

    def add(self, day: int, rows: pa.Table) -> None:
        """Rows of a UTC day, of SCHEMA; durable on return. Raises LakeFull with nothing taken."""
        with full_disk_says_so(self._root):
            writer = PartWriter(self._root, day)
            try:
                writer.write(rows.select(SCHEMA.names).cast(SCHEMA))
                writer.finish()
                version = self._commits.state.version + 1
                part = writer.publish("w", version, version + 1, 0, version)
                fsync_directory(self._root / f"day={day_text(day)}")
                fsync_directory(self._root)
                self._commits.commit([add_action(part)], "WRITE")
            except BaseException:
                writer.abandon()
                raise
        self._commits.checkpoint_when_due()

    def days(self) -> list[int]:
        """The UTC days that have rows, ascending."""
        return sorted({day_of_text(add["partitionValues"]["day"]) for add in self._commits.state.adds.values()})

    def drop(self, day: int) -> int:
        """Forgets a day; how many rows."""
        adds = [a for a in self._commits.state.adds.values() if a["partitionValues"]["day"] == day_text(day)]
        if adds:
            removes = [remove_action(a, a["modificationTime"], "data") for a in adds]
            self._commits.commit_freeing_space(removes, "DELETE", {"day": day_text(day)})
            for add in adds:
                (self._root / add["path"]).unlink(missing_ok=True)
            self._commits.keep_reserve()
        return sum(map(rows_of, adds))


def files_of(directory: Path, days: Sequence[int] | None = None) -> list[LakeFile]:
    """The table's files in `<data>/lake`, of some UTC days or of all, as any process may read them."""
    wanted = None if days is None else set(days)
    return [f for f in published(directory, TABLE) if wanted is None or f.day in wanted]


def versions(files: Sequence[LakeFile], channel: int) -> pa.Table:
    """One channel's rows of some files, each version once: by start and known_from. Raises CorruptFile."""
    parts = []
    for file in files:
        try:
            rows = pq.read_table(file.path, filters=[("channel", "=", channel)], page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise CorruptFile(file.path, str(error)) from None
        parts.append(rows.select(SCHEMA.names).cast(SCHEMA))
    every = pa.concat_tables([SCHEMA.empty_table(), *parts])
    every = every.sort_by([("start", "ascending"), ("known_from", "ascending"), ("known_until", "descending")])
    start, since = (np.asarray(every[name].cast(pa.int64())) for name in ("start", "known_from"))
    first = np.ones(len(every), bool)
    first[1:] = (start[1:] != start[:-1]) | (since[1:] != since[:-1])
    return every.filter(pa.array(first))
