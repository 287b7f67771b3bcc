"""Formats of files that others read: readings go out as they came in, with qualities and revisions, piece by piece.

A format is a file of this folder with a class that derives from `Export`; its name is the file's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from meterpulse.model.channel import Channel
from meterpulse.model.reading import Readings

__all__ = ["Export", "by_channel"]


class Export(ABC):
    """One file of these channels, by dense index. Raises Problem 422 where the format cannot hold one of them."""

    media_type: str
    ending: str  # of the file's name
    day_begins_ms = 0  # behind midnight in UTC: parts hold whole days that begin then

    def __init__(self, channels: Mapping[int, Channel], made_ms: int):
        self.channels, self.made_ms = channels, made_ms

    @abstractmethod
    def write(self, parts: Iterable[Readings]) -> Iterator[bytes]:
        """The file in pieces. Parts are sorted by channel, then start, each reading once; a channel's parts follow in time."""


def by_channel(readings: Readings) -> Iterator[tuple[int, Readings]]:
    """(dense index, its readings) of a part; every column at full length."""
    columns: Sequence[np.ndarray] = [
        readings.full(name) for name in ("start", "seconds", "quantity", "revision", "quality")
    ]
    channel = readings.channel
    cuts = np.flatnonzero(np.r_[True, channel[1:] != channel[:-1], True]) if len(channel) else np.zeros(1, np.int64)
    for first, after in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        yield int(channel[first]), Readings(channel[first:after], *(column[first:after] for column in columns))
