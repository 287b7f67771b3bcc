"""A believable New York: a city whose every reading is a function of seed, channel and time, and its labelled faults.

>>> from meterpulse.simulator import City, sweeps
>>> city = City(households=20, businesses=1, seed=7)
>>> [len(batch) for batch in sweeps(city, 1_767_225_600_000, 1_767_225_610_000)] == [city.count] * 2
True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from meterpulse.model.reading import Readings
from meterpulse.simulator.city import CHUNK, HEARTBEAT_SECONDS, City, businesses_for
from meterpulse.simulator.faults import DEFAULTS as FAULTS
from meterpulse.simulator.faults import Faults, FaultSpecError, TruthRow, parse
from meterpulse.simulator.load import quantities

__all__ = [
    "FAULTS",
    "City",
    "FaultSpecError",
    "Faults",
    "Progress",
    "Target",
    "businesses_for",
    "demo_history",
    "heartbeats",
    "parse",
    "quantities",
    "simulate",
    "sweeps",
]

HISTORY_SECONDS = 300


class Target(Protocol):
    """Where a simulated city's readings go; see `deliver`."""

    def prepare(self, city: City) -> None:
        """Make the city's channels known there."""

    def send(self, readings: Readings) -> None:
        """Deliver readings (channels are the city's dense indices); returns when the other side has them."""

    def close(self) -> None:
        """Finish what is open."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: the start of the newest sweep, and what was sent so far."""

    at_ms: int
    sweeps: int
    readings: int
    faults: dict[str, int]


def heartbeats(
    city: City, at_ms: int, seconds: int = HEARTBEAT_SECONDS, channels: np.ndarray | None = None
) -> Readings:
    """One sweep: a reading of [at_ms, at_ms + seconds) from every channel, or from `channels` (uint32[n])."""
    channels = np.arange(city.count, dtype=np.uint32) if channels is None else channels
    return Readings.of(channels, at_ms, seconds, quantities(city, channels, at_ms, seconds))


def demo_history(city: City, end_ms: int, hours: int = 24, seconds: int = HISTORY_SECONDS) -> Iterator[Readings]:
    """The hours before `end_ms`, sweep by sweep, in readings of `seconds`; the last one ends at `end_ms` rounded down
    to them.
    """
    end_ms -= end_ms % (seconds * 1000)
    for at_ms in range(end_ms - hours * 3_600_000, end_ms, seconds * 1000):
        yield heartbeats(city, at_ms, seconds)


def sweeps(
    city: City,
    start_ms: int,
    end_ms: int,
    every_seconds: int = HEARTBEAT_SECONDS,
    faults: Faults | None = None,
    rows: int = CHUNK,
) -> Iterator[Readings]:
    """Every reading of [start_ms, end_ms) in the order of delivery, in batches of up to about `rows`."""
    return (batch for _, batch in _steps(city, start_ms, end_ms, every_seconds, faults, rows))


def simulate(
    city: City,
    start_ms: int,
    end_ms: int,
    every_seconds: int = HEARTBEAT_SECONDS,
    faults: dict[str, float] | None = None,
    target: Target | None = None,
    truth: Callable[[list[TruthRow]], object] | None = None,
    wait_until: Callable[[int], object] | None = None,
    rows: int = CHUNK,
) -> Iterator[Progress]:
    """Run the city and deliver it, a step of the iterator for each batch sent: the caller's loop drives it, and may
    stop.

    `faults` are rates (see `parse`), told to `truth` in lists of rows. `wait_until` paces the run: before a sweep goes
    out it is called with the end of the sweep (ms since 1970) and may sleep; None is as fast as the target takes it.
    The target is prepared here and closed by whoever opened it.
    """
    labelled = Faults(city, faults, start_ms, end_ms, every_seconds, truth) if faults else None
    if target is not None:
        target.prepare(city)
    newest, count, sent = None, 0, 0
    for at_ms, batch in _steps(city, start_ms, end_ms, every_seconds, labelled, rows):
        if at_ms != newest:
            newest, count = at_ms, count + 1
            if wait_until is not None:
                wait_until(at_ms + every_seconds * 1000)
        if target is not None:
            target.send(batch)
        sent += len(batch)
        yield Progress(at_ms, count, sent, dict(labelled.counts) if labelled else {})


def _steps(city, start_ms, end_ms, every_seconds, faults, rows) -> Iterator[tuple[int, Readings]]:
    """(start of the sweep, batch): what is due, the sweep, and after the last one what was held back."""
    at_ms = start_ms
    for at_ms in range(start_ms, end_ms, every_seconds * 1000):
        if faults is not None and len(due := faults.due(at_ms)):
            yield at_ms, due
        for first in range(0, city.count, rows):
            part = np.arange(first, min(first + rows, city.count), dtype=np.uint32)
            batch = heartbeats(city, at_ms, every_seconds, part)
            yield at_ms, batch if faults is None else faults.apply(batch)
    if faults is not None and len(rest := faults.rest()):
        yield at_ms, rest
