"""The batch layer recomputes dirty days from the lake, through the same kernels as speed, and replaces their rows in the store.

It writes only windows before a boundary that speed has retired, so a window never has two writers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from meterpulse.model.reading import Readings

ReadDay = Callable[
    [int, tuple[int, int]], Iterable[Readings]
]  # (day, channels [low, high)) -> the lake's rows, in log order


@dataclass(frozen=True, slots=True)
class DayReport:
    """What a rebuild of one UTC day found: all rows in the lake, and those that stand."""

    day: int
    rows: int
    effective: int
    boundary_ms: int
    seconds: float


class Batch(ABC):
    """An engine of the batch layer: computes one UTC day from everything the lake has of it."""

    rows: int
    effective: int

    @abstractmethod
    def build(self, day: int, read: ReadDay) -> Iterator[tuple[int, np.ndarray]]:
        """(block, int64[keys, 288, 5]) for every block of channels that has readings that day."""

    @abstractmethod
    def area_rows(self) -> np.ndarray:
        """int64[groups, 1440, 4] of the day just built, areas above included."""
