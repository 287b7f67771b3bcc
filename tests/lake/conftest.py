from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from meterpulse.lake.delta import DeltaLake
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS

Row = tuple[int, int, int, int, int]


def _rows(lake: DeltaLake, day: int | None = None, channels: tuple[int, int] | None = None) -> list[Row]:
    days = lake.days() if day is None else [day]
    out: list[Row] = []
    for d in days:
        for batch in lake.read(lake.files(d), channels):
            columns = (batch.full(n).tolist() for n in ("channel", "start", "seconds", "quantity", "revision"))
            out.extend(zip(*columns, strict=True))
    return out


@pytest.fixture
def rows() -> Callable[..., list[Row]]:
    """All rows of a lake (or of one day, or some channels) as tuples, in the order in which it gives them."""
    return _rows


@pytest.fixture
def sweep() -> Callable[..., Readings]:
    """One reading of each of n channels at second `at` of day `day`, with values that tell channel and time."""

    def make(day: int, at: int, n: int = 100) -> Readings:
        return Readings.of(np.arange(n), day * DAY_MS + at * 1000, 5, np.arange(n) * 1000 + at)

    return make


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[DeltaLake]:
    lake = DeltaLake.open(tmp_path / "lake")
    yield lake
    lake.close()


@pytest.fixture
def reopen(tmp_path: Path) -> Callable[[DeltaLake], DeltaLake]:
    def again(lake: DeltaLake) -> DeltaLake:
        lake.close()
        return DeltaLake.open(tmp_path / "lake")

    return again
