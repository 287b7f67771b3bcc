"""The batch layer recomputes days from the lake, with the same result as speed and as a plain loop, and replaces their rows.

It writes only windows before a boundary that speed has retired, so a window never has two writers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from meterpulse.model.reading import Readings

if TYPE_CHECKING:
    from meterpulse.batch.gather import DaySource

Part = Callable[[], Readings]  # some rows of a day, read when it is called, by any thread


@dataclass(frozen=True, slots=True)
class DayReport:
    """What a rebuild of one UTC day found: all rows in the lake, and those that stand."""

    day: int
    rows: int
    effective: int
    boundary_ms: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DayBlock:
    """A UTC day of the channels [block * BLOCK, ...): rows int64[channels, 288, 5] (count, sum, min, max, last), revised
    uint8[channels, 288] (a revision above 0 stands there), dropped int32[channels, 288] (readings that do not stand), and
    quality int32[channels, 288], packed, of the windows that have readings; None where all of them are raw."""

    block: int
    rows: np.ndarray
    revised: np.ndarray
    dropped: np.ndarray
    quality: np.ndarray | None


class Batch(ABC):
    """An engine of the batch layer: computes one UTC day from everything the lake has of it."""

    rows: int
    effective: int

    @abstractmethod
    def build(self, day: int, source: DaySource, take: Callable[[DayBlock], None]) -> None:
        """Calls `take` with every block of channels that has readings that day, in no order, from several threads."""

    @abstractmethod
    def area_rows(self) -> np.ndarray:
        """int64[groups, 1440, 4] of the day just built, areas above included."""
