"""Areas: groupings of usage points that nest, such as postcode, borough, city."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from meterpulse.model.channel import NO_AREA


@dataclass(frozen=True)
class Area:
    """One area; `parent` is the index of the area around it, NO_AREA at the top."""

    name: str
    kind: str = "postcode"
    parent: int = NO_AREA
    time_zone: str = "UTC"
    title: str | None = None


@dataclass(frozen=True)
class Areas:
    """All areas as columns by dense index, as of one moment. A channel refers to its innermost area.

    >>> areas = Areas.of([Area("city", "city"), Area("Queens", "borough", 0), Area("11101", "postcode", 1)])
    >>> areas.ancestors_or_self(2), areas.leaves_under(0).tolist()
    ([2, 1, 0], [2])
    """

    names: list[str]
    kind: list[str]
    parent: np.ndarray  # uint32, NO_AREA at the top
    time_zone: list[str]
    title: list[str | None]
    _numbers: dict[str, int] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, rows: list[Area]) -> Areas:
        """The columns of areas in order of their index."""
        return cls(
            [area.name for area in rows],
            [area.kind for area in rows],
            np.array([area.parent for area in rows], np.uint32),
            [area.time_zone for area in rows],
            [area.title for area in rows],
            {area.name: number for number, area in enumerate(rows)},
        )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int | None:
        """The index of an area, or None."""
        return self._numbers.get(name)

    def ancestors_or_self(self, area: int) -> list[int]:
        """The area and all around it, the innermost first."""
        path = []
        while area != NO_AREA:
            path.append(int(area))
            area = int(self.parent[area])
        return path

    def under(self, area: int) -> np.ndarray:
        """bool[areas]: which areas are `area` or lie in it."""
        inside = np.zeros(len(self.names), bool)
        inside[area] = True
        while True:  # one level deeper each time
            has_parent = self.parent != NO_AREA
            deeper = inside.copy()
            deeper[has_parent] |= inside[self.parent[has_parent]]
            if (deeper == inside).all():
                return inside
            inside = deeper

    def leaves_under(self, area: int) -> np.ndarray:
        """uint32[]: the areas in `area` that have none in them; the area itself if it has none."""
        leaf = np.ones(len(self.names), bool)
        leaf[self.parent[self.parent != NO_AREA]] = False
        return np.flatnonzero(self.under(area) & leaf).astype(np.uint32)
