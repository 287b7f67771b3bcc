"""What the hot path needs of the registry, kept as arrays and made anew when the registry has changed."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from meterpulse.model.channel import NO_AREA, NOT_FOUND
from meterpulse.model.groups import A_GROUP, groups_of
from meterpulse.registry import Registry

_REMEMBERED = 65_536


@dataclass(frozen=True)
class _Now:
    version: int
    group_of: np.ndarray
    parents: np.ndarray
    channel_zone: np.ndarray
    zones: list[str]
    group_zone: np.ndarray
    area_zones: list[str]


class Keys:
    """Groups, zones and nesting as of the registry's newest version."""

    def __init__(self, registry: Registry):
        self._registry, self._lock = registry, threading.Lock()
        self._now: _Now | None = None
        self._indices: dict[str, int] = {}

    def group_of(self) -> np.ndarray:
        """uint32[channels]: each channel's group."""
        return self._current().group_of

    def group_count(self) -> int:
        """All groups and the one that is nobody's."""
        return 1 + A_GROUP * len(self._current().parents)

    def parents(self) -> np.ndarray:
        """uint32[areas]."""
        return self._current().parents

    def zones(self, view: str) -> tuple[np.ndarray, list[str]]:
        """Each key's zone as an index into the names: of channels for usage views, of groups for area views."""
        now = self._current()
        return (now.channel_zone, now.zones) if view.startswith("usage") else (now.group_zone, now.area_zones)

    def index_of(self, channel: str) -> int:
        """The dense index of an id, or NOT_FOUND. Indices are never given anew, so those that pages ask for are remembered."""
        known = self._indices.get(channel)
        if known is not None:
            return known
        index = self._registry.table.lookup_one(channel)
        if index != NOT_FOUND:
            if len(self._indices) >= _REMEMBERED:
                self._indices.clear()
            self._indices[channel] = index
        return index

    def descendants(self, area: int) -> np.ndarray:
        """The area and all below it."""
        parents = self._current().parents
        inside = np.zeros(len(parents), bool)
        inside[area] = True
        while True:
            known = parents != NO_AREA
            more = inside.copy()
            more[known] |= inside[parents[known]]
            if (more == inside).all():
                return np.flatnonzero(inside)
            inside = more

    def _current(self) -> _Now:
        now = self._now
        if now is not None and now.version == self._registry.version:
            return now
        with self._lock:
            version, table, areas = self._registry.version, self._registry.table, self._registry.areas
            names = sorted(set(areas.time_zone))
            place = {name: i for i, name in enumerate(names)}
            of_area = np.array([place[z] for z in areas.time_zone], np.uint16)
            self._now = _Now(
                version,
                groups_of(table),
                np.asarray(areas.parent),
                table.profiles.zone[np.asarray(table.profile[: table.count])].astype(np.uint16),
                list(table.profiles.zones),
                np.concatenate([np.zeros(1, np.uint16), np.repeat(of_area, A_GROUP)]),
                names or ["UTC"],
            )
            return self._now
