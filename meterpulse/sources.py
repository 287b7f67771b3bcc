"""Sources run while the city is served: what they deliver goes to the log, and is acknowledged to its origin when it is there."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meterpulse import plugins
from meterpulse.ingest import Delivery, Source
from meterpulse.log.commit import Lane
from meterpulse.model.channel import Channel, ChannelTable
from meterpulse.model.problem import Problem
from meterpulse.model.window import iso

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_log = logging.getLogger("meterpulse.sources")
_IN_FLIGHT = 4  # deliveries that wait for the disk, of one source
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 30.0
_AGAIN_SECONDS = 1.0  # between two tries to write what the disk has refused


class Sources:
    """Those whose section of the configuration is on."""

    def __init__(self, pipeline: Pipeline):
        settings = pipeline.config.ingest
        names = [name for name in plugins.available("ingest", "Source") if getattr(settings, name).is_on]
        self._running = [
            Running(
                name,
                plugins.implementation("ingest", name, "Source")(getattr(settings, name), _House(pipeline)),
                pipeline,
            )
            for name in names
        ]

    def start(self) -> None:
        """Each in a thread of its own."""
        for running in self._running:
            running.start()

    def stop(self) -> None:
        """What is not on disk yet stays with its origin, and comes again."""
        for running in self._running:
            running.source.stop()
        for running in self._running:
            running.stop()

    def status(self) -> list[dict[str, Any]]:
        """The element `sources` of /v1/status."""
        return [running.status() for running in self._running]


class _House:
    """See ingest.House."""

    def __init__(self, pipeline: Pipeline):
        self._p = pipeline

    def table(self) -> ChannelTable:
        return self._p.registry.table

    def now_ms(self) -> int:
        return int(self._p.clock())

    def register(self, channels: Sequence[Channel]) -> None:
        self._p.registry.register(channels, at_ms=self._p.clock())

    def position(self, name: str) -> str | None:
        return self._p.log.position(name)


@dataclass(slots=True)
class _Counts:
    messages: int = 0
    readings: int = 0
    refused: int = 0
    newest_ms: int | None = None
    error: str | None = None
    error_ms: int | None = None


@dataclass(slots=True)
class _Sent:
    delivery: Delivery
    future: Future = field(default_factory=Future)


class Running:
    """One source and its thread. `state` is stopped, connecting, running, or waiting (to connect again)."""

    def __init__(self, name: str, source: Source, pipeline: Pipeline):
        self.name, self.source, self.state = name, source, "stopped"
        self._p, self._counts, self._lane = pipeline, _Counts(), Lane()
        self._sent: deque[_Sent] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source-{name}", daemon=True)

    def start(self) -> None:
        """Begins to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Lets go of the origin."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def status(self) -> dict[str, Any]:
        """Counters since the start. `lag` is what the origin still holds for us, null where it does not tell; `parts` how far
        each of its parts is read, where it has such."""
        counts, parts = self._counts, self.source.parts()
        told = {"parts": parts} if parts else {}
        return {
            "name": self.name,
            "state": self.state,
            "messages": counts.messages,
            "received": counts.readings,
            "quarantined": counts.refused,
            "in_flight": len(self._sent),
            "lag": self.source.lag(),
            "last_received": None if counts.newest_ms is None else iso(counts.newest_ms),
            "last_error": counts.error,
            "last_error_at": None if counts.error_ms is None else iso(counts.error_ms),
            **told,
        }

    def _run(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        while not self._stopping.is_set():
            self.state = "connecting"
            try:
                deliveries = self.source.deliveries()
                try:
                    for delivery in deliveries:
                        if self._stopping.is_set():
                            break
                        self.state, wait = "running", _FIRST_WAIT_SECONDS
                        while self._sent and self._sent[0].future.done():
                            self._settle_oldest()
                        if delivery is not None:
                            self._take(delivery)
                finally:
                    self._drain()
                    deliveries.close()  # type: ignore[attr-defined]
            except OSError as error:
                self._note(error)
            except Exception as error:  # ours to mend, and no reason to leave the origin alone for good
                _log.exception("the source %s failed", self.name)
                self._note(error)
            if not self._stopping.is_set():
                self.state = "waiting"
                self._stopping.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        self.state = "stopped"

    def _take(self, delivery: Delivery) -> None:
        while len(self._sent) >= _IN_FLIGHT:
            self._settle_oldest()
        self._send(_Sent(delivery))

    def _send(self, sent: _Sent) -> None:
        """To the log; waits where the city has no room. Gives up only when stopping."""
        delivery = sent.delivery
        decoded = delivery.decoded
        if self._p.arrival.is_on:
            decoded = self._p.judged(decoded, delivery.source)
        while not self._stopping.is_set():
            try:
                future = self._p.submit(decoded, delivery.source, positions=delivery.positions, lane=self._lane)
            except Problem as problem:
                self._note(problem)
                self._stopping.wait(problem.retry_after_seconds or _AGAIN_SECONDS)
                continue
            sent.future = future  # type: ignore[assignment]
            self._sent.append(sent)
            future.add_done_callback(lambda done: self._written(delivery, done))
            return

    def _written(self, delivery: Delivery, done: Any) -> None:
        """In the log's own thread, so that an origin that waits for it can go on at once."""
        if done.exception() is not None:
            return
        counts = self._counts
        counts.messages += delivery.messages
        counts.readings += len(delivery.decoded.readings)
        counts.refused += len(delivery.decoded.rejected)
        counts.newest_ms = self._p.clock()
        delivery.acknowledge()

    def _settle_oldest(self) -> None:
        error = self._sent[0].future.exception()
        if error is None:
            self._sent.popleft()
        else:
            self._send_again(error)

    def _send_again(self, error: BaseException) -> None:
        """The disk refused a delivery, and with it those behind it: all of them once more, in order."""
        self._note(error)
        failed = [sent for sent in self._sent if sent.future.exception() is not None]
        self._sent.clear()
        self._lane = Lane()
        self._stopping.wait(_AGAIN_SECONDS)
        for sent in failed:
            self._send(sent)

    def _drain(self) -> None:
        """Nothing under way: each is on disk, or stays with its origin."""
        while self._sent and not self._stopping.is_set():
            self._settle_oldest()
        for sent in self._sent:
            sent.future.exception()
        self._sent.clear()

    def _note(self, error: BaseException) -> None:
        text = str(error) or type(error).__name__
        if text != self._counts.error:
            _log.warning("source %s: %s", self.name, text)
        self._counts.error, self._counts.error_ms = text, self._p.clock()
