"""A small table of channels; the decoders need nothing else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from meterpulse.model.channel import NO_AREA, NOT_FOUND, Direction, Kind, Profiles, Utility
from meterpulse.model.quantity import UNITS

NOW_MS = 1_772_841_600_000 + 12 * 3_600_000  # 2026-03-07T12:00:00Z


class SmallTable:
    """A ChannelTable over a dict: (id, utility, unit, kind, interval)."""

    def __init__(self, channels: list[tuple[str, str, str, str, int]]):
        self.count = len(channels)
        self.names = [c[0] for c in channels]
        self.index = {c[0].encode(): i for i, c in enumerate(channels)}
        self.profile = np.arange(len(channels), dtype=np.uint16)
        self.area = np.full(len(channels), NO_AREA, np.uint32)
        scales = [UNITS[c[2]].scale for c in channels]
        self.profiles = Profiles(
            utility=np.array([Utility[c[1]] for c in channels], np.uint8),
            direction=np.array([Direction.delivered] * len(channels), np.uint8),
            kind=np.array([Kind[c[3]] for c in channels], np.uint8),
            unit=np.array([UNITS[c[2]].code for c in channels], np.uint8),
            zone=np.zeros(len(channels), np.uint16),
            interval_seconds=np.array([c[4] for c in channels], np.int32),
            klass=np.zeros(len(channels), np.uint8),
            scale_num=np.array([s.numerator for s in scales], np.int64),
            scale_den=np.array([s.denominator for s in scales], np.int64),
            zones=["UTC"],
        )

    def lookup(self, offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
        raw = data.tobytes()
        return np.array(
            [self.index.get(raw[a:b], NOT_FOUND) for a, b in zip(offsets[:-1], offsets[1:], strict=True)], np.uint32
        )

    def lookup_one(self, id: str) -> int:
        return self.index.get(id.encode(errors="replace"), NOT_FOUND)

    def ids(self, indices: np.ndarray) -> pa.Array:
        return pa.array([self.names[i] for i in indices.tolist()])


CHANNELS = [
    ("E-1", "electricity", "kWh", "interval", 300),
    ("G-1", "gas", "m3", "interval", 900),
    ("W-1", "water", "L", "interval", 1800),
    ("V-1", "electricity", "V", "gauge", 60),
    ("R-1", "electricity", "kWh", "register", 300),
    ("Wg-1", "water", "gal", "interval", 3600),
    ("É-1", "electricity", "Wh", "interval", 300),
    ("P-1", "electricity", "W", "gauge", 5),
]


@pytest.fixture(scope="session")
def table() -> SmallTable:
    return SmallTable(CHANNELS)
