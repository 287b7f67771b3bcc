"""Views are declared once. Speed, batch and clusters are different ways of keeping the same view, with the same numbers.

A declaration says what is grouped (`by`), into windows of which length (`every`), into which measures, and how long finished
windows are kept. Files of this folder are found by their name: `views/usage_5m.py` declares `usage_5m`.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass

CHANNEL, AREA = "channel", "area"
ROW_MEASURES = {CHANNEL: ("count", "sum", "min", "max", "last"), AREA: ("count", "sum", "min", "max")}


@dataclass(frozen=True, slots=True)
class View:
    """`every` is 1m, 5m, 1h or 1d (a local day). `rolled_from` names the finer view it is folded from; None: from readings."""

    name: str
    by: str
    every: str
    rolled_from: str | None = None
    keep: str = "forever"

    @property
    def measures(self) -> tuple[str, ...]:
        """What a row of this view holds, in the order of its columns."""
        return ROW_MEASURES[self.by]


def declared() -> dict[str, View]:
    """Every view of this folder by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").VIEW for name in names}
