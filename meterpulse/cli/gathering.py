"""Files for a replay: every reading of them in a scratch folder, by its time, and the channels that they are of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from meterpulse.city import City
from meterpulse.cli.output import Progress, say
from meterpulse.ingest import FileBatch, decode
from meterpulse.ingest.files import detect, format_of
from meterpulse.ingest.mapping import Mapping
from meterpulse.ingest.naming import Names
from meterpulse.ingest.spool import Spool
from meterpulse.ingest.unpack import Content, Unreadable, contents
from meterpulse.model.channel import Channel
from meterpulse.model.problem import Problem
from meterpulse.registry import Registry


@dataclass
class Gathered:
    """`channels` in the order of the numbers in the spool's rows; `low` and `high` are each one's first and last value."""

    spool: Spool
    channels: list[Channel] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    low: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    high: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    _first_ms: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    _last_ms: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def is_interval(self) -> np.ndarray:
        """bool[channels]."""
        return np.array([channel.kind == "interval" for channel in self.channels], np.bool_)

    @property
    def rise(self) -> np.ndarray:
        """int64[channels]: by how much a register has risen from its first value to its last, 0 for what is no register."""
        registers = np.array([channel.kind == "register" for channel in self.channels], np.bool_)
        return np.where(registers, np.maximum(self.high - self.low, 0), 0)

    def note_ends(self, channel: np.ndarray, start: np.ndarray, quantity: np.ndarray) -> None:
        """Keeps the earliest and the latest value of each channel."""
        room = len(self.channels) - len(self.low)
        if room:
            self.low, self.high = (np.concatenate([a, np.zeros(room, np.int64)]) for a in (self.low, self.high))
            self._first_ms = np.concatenate([self._first_ms, np.full(room, 2**62)])
            self._last_ms = np.concatenate([self._last_ms, np.full(room, -(2**62))])
        order = np.lexsort((start, channel))
        channel, start, quantity = channel[order], start[order], quantity[order]
        ends = np.flatnonzero(np.diff(channel, append=2**32))
        begins = np.r_[0, ends[:-1] + 1]
        earlier = start[begins] < self._first_ms[channel[begins]]
        self._first_ms[channel[begins[earlier]]], self.low[channel[begins[earlier]]] = (
            start[begins[earlier]],
            quantity[begins[earlier]],
        )
        later = start[ends] >= self._last_ms[channel[ends]]
        self._last_ms[channel[ends[later]]], self.high[channel[ends[later]]] = start[ends[later]], quantity[ends[later]]


@dataclass
class Gathering:
    """How files are read. `from_ms` and `to_ms` choose readings by their start; `scratch` takes 36 bytes a reading."""

    place: City
    scratch: Path
    bar: Progress
    now_ms: Callable[[], int]
    format: str | None = None
    mapping: Path | None = None
    id_template: str | None = None
    from_ms: int = -(2**62)
    to_ms: int = 2**62

    def __post_init__(self) -> None:
        self._mapping = Mapping.of(self.mapping) if self.mapping else None
        self._asked: set[str] = set()
        self._all_known = False

    def gathered(self, found: list[tuple[str, bool]]) -> Gathered:
        """All of them; raises Problem or OSError where a file that was named cannot be read."""
        out = Gathered(Spool(self.scratch / "days"))
        with Registry.open(self.scratch / "channels") as registry:
            for name, in_folder in found:
                for content in contents(name, in_folder):
                    if isinstance(content, Unreadable):
                        raise content.error
                    try:
                        self._read(content, registry, out)
                    except Problem as problem:
                        if problem.status != 415 or content.found == "named":
                            raise
                        say(f"{content.name} is in no known format and left out")
        return out

    def _read(self, content: Content, registry: Registry, out: Gathered) -> None:
        format = "mapping" if self._mapping else self.format or detect(content.path)
        names = Names(self.id_template, content.path) if self.id_template else None
        done = 0
        for batch in (self._mapping or format_of(format)).read(content.path):
            self._take(names.renamed(batch) if names else batch, registry, out)
            self.bar.advance(batch.position - done, content.name)
            done = batch.position

    def _take(self, batch: FileBatch, registry: Registry, out: Gathered) -> None:
        if batch.channels:
            registry.register(batch.channels)
        out.refused.update(row.reason for row in batch.rejected)
        if not batch.rows:
            return
        decoded = decode(batch.body, batch.media_type, registry.table, self.now_ms())
        if any(row.reason == "unknown_channel" for row in decoded.rejected) and not self._all_known:
            registry.register(self.place.channels().drop_columns(["index"]))  # the rows name channels of the city
            self._all_known = True
            decoded = decode(batch.body, batch.media_type, registry.table, self.now_ms())
        out.refused.update(row.reason for row in decoded.rejected)
        for id in registry.channels(len(out.channels))["id"].to_pylist():
            found = registry.channel(id)
            out.channels.append(Channel.from_dict(found or {}))
        readings = decoded.readings
        starts = readings.full("start")
        readings = readings.take((starts >= self.from_ms) & (starts < self.to_ms))
        starts = readings.full("start")
        if len(readings):
            out.note_ends(readings.channel.astype(np.int64), starts, readings.quantity)
        out.spool.add(readings, due_ms(starts, readings.full("seconds"), out.is_interval[readings.channel]))


def due_ms(start: np.ndarray, seconds: np.ndarray, is_interval: np.ndarray) -> np.ndarray:
    """int64[n]: when a reading is known: at the end of its interval, or at the instant of a register or gauge."""
    return start + np.where(is_interval, seconds.astype(np.int64) * 1_000, 1)
