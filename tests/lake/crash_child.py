"""Writes ranges into a lake, compacts and drops, until it is killed; prints each range once `write` has returned."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from meterpulse.lake.delta import DeltaLake
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS


def batch(offset: int) -> Readings:
    """The rows of one log offset: eight on each of two days, told apart by their quantity."""
    start = np.repeat([20_520, 20_521], 8) * DAY_MS + offset * 1000
    return Readings.of(np.tile(np.arange(8), 2), start, 5, offset * 16 + np.arange(16))


def main(directory: Path, rounds: int) -> None:
    lake = DeltaLake.open(directory)
    for number in range(rounds):
        first = lake.position
        after = first + 1 + number % 3
        lake.write([batch(o) for o in range(first, after)], first, after)
        print(after, flush=True)
        if number % 7 == 6:
            lake.compact(20_520 + number % 2, after - 2)
            lake.vacuum(0, 1 << 60)
        if number % 5 == 4:
            lake._commits.checkpoint()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
