"""The batch layer recomputes dirty days from the lake, through the same kernels as speed, and replaces their rows in the store.

It writes only windows before a boundary that speed has retired, so a window never has two writers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DayReport:
    """What a rebuild of one UTC day found: all rows in the lake, and those that stand."""

    day: int
    rows: int
    effective: int
    boundary_ms: int
    seconds: float
