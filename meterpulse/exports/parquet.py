"""Readings as Parquet: the columns that `meterpulse ingest` takes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meterpulse.exports import Export, tables
from meterpulse.model.reading import Readings


class Parquet(Export):
    """See Export."""

    media_type, ending = tables.MEDIA["parquet"], "parquet"

    def write(self, parts: Iterable[Readings]) -> Iterator[bytes]:
        return tables.stream("parquet", tables.READINGS, (tables.readings_table(part, self.channels) for part in parts))
