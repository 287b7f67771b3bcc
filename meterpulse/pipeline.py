"""The whole flow on one screen: readings come in, are logged, acknowledged, counted, stored, corrected and served.

ingest → log (fsync, ack) ─┬→ speed: views of open windows ──→ stores ─┐
                           └→ lake: every reading ──→ batch: dirty days ┴→ serving
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from meterpulse import plugins
from meterpulse.config import Config
from meterpulse.demo import Demo
from meterpulse.dirtydays import Rebuilder
from meterpulse.ingest import Decoded, decode
from meterpulse.ingest.journal import Journal
from meterpulse.lakeworker import LakeWorker
from meterpulse.log import Log, LogFull, Quarantined, Record
from meterpulse.log.commit import Committer, Lane
from meterpulse.model.problem import Problem
from meterpulse.model.reading import Readings
from meterpulse.model.window import WINDOW_MS, iso
from meterpulse.outputs import Outputs
from meterpulse.registry import Registry
from meterpulse.retention import Retention
from meterpulse.serving.keys import Keys
from meterpulse.serving.usage import UsageReader
from meterpulse.sources import Sources
from meterpulse.speed.runner import Keeper, Runner
from meterpulse.stores import Store
from meterpulse.vee.arrival import Arrival
from meterpulse.vee.groups import VeeSettings
from meterpulse.worklist import Desk

_log = logging.getLogger("meterpulse")
IMPORT = "import:"


class DataInUse(OSError):
    """Another process has this data open."""


class Pipeline:
    """A city's data, open and flowing. One process at a time; `close` leaves it so that the next start is quick."""

    def __init__(self, config: Config, *, clock: Any = None):
        self.config, self.data = config, Path(config.data)
        self.clock = clock or (lambda: int(time.time() * 1000))
        self.vee = VeeSettings.of(config.vee.groups)
        self.arrival = Arrival(self.vee)
        self.data.mkdir(parents=True, exist_ok=True)
        self._claim()
        self.alarms: list[str] = []
        self._closed = False
        self.registry = Registry.open(self.data / "registry", config.registry.url)
        self.desk = Desk.open(self.data / "worklist", config.worklist.url)
        self.log: Log = plugins.implementation("log", config.log.engine).open(self.data / "log", config.log)
        if self.log.salvaged:
            self.alarm(self.log.salvaged)
        self.store: Store = plugins.implementation("stores", config.stores.engine)(
            self.data / "store", config.stores.max_bytes
        )
        if self.store.salvaged:
            self.alarm(self.store.salvaged)
        self.imports = Journal(self.data / "imports")
        self.keys = Keys(self.registry)
        speed = config.speed
        self.engine = plugins.implementation("speed", speed.engine)(
            lambda: self.registry.table,
            self.keys.group_of,
            self.keys.group_count,
            watermark_delay_ms=speed.watermark_delay_seconds * 1000,
            allowed_lateness_ms=speed.allowed_lateness_seconds * 1000,
            idle_ms=speed.idle_seconds * 1000,
            max_open_bytes=speed.max_open_bytes,
        )
        self.lake = LakeWorker(self.data, config, self.alarm)
        self.keeper = Keeper(self.engine, self.store, self.keys.zones, self.keys.group_of, self.keys.parents)
        self.runner = Runner(
            self.engine,
            self.log,
            self.store,
            self.keeper,
            self.data / "checkpoint",
            self.clock,
            speed.checkpoint_seconds,
        )
        self.runner.recover(self._lake_days)
        self._keep_offsets_rising()
        self.doubt_edited_days()
        self.runner.start()
        self.committer = Committer(self.log, 64 << 20, self._appended)
        self.rebuilder = Rebuilder(self)
        self.retention = Retention(self)
        self.sources = Sources(self)
        self.outputs = Outputs(self)
        self.usage_reader = UsageReader(self.engine, self.store, lambda: self.keeper.rolled, self.keys.descendants)
        self._lake_started = threading.Thread(target=self._lake_is_up, daemon=True)
        self._lake_started.start()

    @classmethod
    def open(cls, config: Config, **options: Any) -> Pipeline:
        """Opens `config.data`; raises DataInUse where another process has it."""
        return cls(config, **options)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- in --------------------------------------------------------------------------------------------------------------

    def take(self, body: bytes, media_type: str, source: str = "http", layout: str = "canonical") -> Decoded:
        """Decodes a body against the registry; nothing is stored yet. Raises BodyError."""
        decoded = decode(body, media_type, self.registry.table, self.clock(), layout=layout)
        return self.judged(decoded, source) if self.arrival.is_on else decoded

    def judged(self, decoded: Decoded, source: str) -> Decoded:
        """With readings that a rule fails on arrival marked as questionable, where `vee.groups` ask for that."""
        is_live = not source.startswith(IMPORT)
        graded = self.arrival.graded(decoded.readings, self.registry.table, self.clock(), is_live=is_live)
        return decoded if graded is decoded.readings else Decoded(graded, decoded.rejected)

    def submit(
        self,
        decoded: Decoded,
        source: str,
        loop: asyncio.AbstractEventLoop | None = None,
        positions: Mapping[str, str] | None = None,
        lane: Lane | None = None,
    ) -> Future | asyncio.Future:
        """Sends readings and refused rows to the log; the future is done when both are on disk. Sources that begin with
        `import:` are history: they make their days dirty and do not move the watermark. `positions` and `lane` are those of
        `Log.append` and `Committer`."""
        self._check_room()
        now = self.clock()
        bad = [Quarantined(r.reason, r.detail, r.media_type, source, now, bytes(r.original)) for r in decoded.rejected]
        record = Record(source, decoded.readings, now, not source.startswith(IMPORT))
        return self.committer.submit(record, bad, loop, positions, lane)

    def submit_readings(self, readings: Readings, source: str) -> Future | asyncio.Future:
        """Readings that are checked already, from inside the house."""
        return self.submit(Decoded(readings, []), source)

    def ingest(self, decoded: Decoded, source: str) -> dict[str, Any]:
        """`submit`, waited for; the answer of POST /v1/readings."""
        self.submit(decoded, source).result()
        return answer(decoded)

    def _check_room(self) -> None:
        behind = self.log.rows - self.engine.counters.rows
        if self.runner.failed:
            raise Problem(503, "failed", "The server must be restarted", self.runner.alarms[-1], retry_after_seconds=30)
        if behind > self.config.speed.max_lag_readings:
            raise Problem(
                503,
                "busy",
                "The views are behind",
                f"{behind} readings wait; send the body again.",
                retry_after_seconds=1,
            )

    def _appended(self) -> None:
        # What every consumer has made durable elsewhere is not needed any more.
        self.log.trim(min(self.runner.safe_offset, self.lake.safe_offset))
        self.runner.wake()

    # -- out -------------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """The counters of /v1/status."""
        engine, now = self.engine, self.clock()
        counters = engine.counters
        # In this order: an entry marks its days before it counts as applied, so lag 0 and then no mark means settled.
        lag = self.log.rows - counters.rows
        dirty = len(engine.marks)
        fresh = engine.fresh_until(now)
        return {
            "accepted": self.log.rows,
            "quarantined": self.log.quarantined_ever,
            "duplicates": counters.duplicates,
            "late": counters.late,
            "revisions": counters.revisions,
            "imported": counters.imported,
            "watermark": None if fresh is None else iso(fresh),
            "lag": {"readings": lag, "seconds": 0.0 if lag == 0 else self._lag_seconds(now)},
            "dirty_days": dirty,
            "channels": self.registry.table.count,
            "lake": {"offset": self.lake.position, "behind": max(0, self.log.end - self.lake.position)},
            "log": {"first": self.log.first, "end": self.log.end},
            "open_windows": len(engine.windows),
            "rebuilds": self.rebuilder.summary(),
            "differences": self.rebuilder.differences(),
            "arrival": self.arrival.summary(),
            "sources": self.sources.status(),
            "outputs": self.outputs.status(),
            "alarms": [*self.alarms, *self.runner.alarms][-20:],
            "now": iso(now),
        }

    def _lag_seconds(self, now: int) -> float:
        try:
            entry = self.log.read(self.engine.applied)
        except (KeyError, OSError):
            entry = None
        return 0.0 if entry is None else max(0.0, (now - entry.record.received_ms) / 1000)

    def settle(self, timeout_seconds: float = 600) -> bool:
        """Waits until every accepted reading is in every answer."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.engine.applied >= self.log.end and not self.engine.marks:
                return True
            self.runner.wake_if_behind()
            time.sleep(0.05)
        return False

    def doubt_edited_days(self) -> None:
        """Days with decisions that they were not built with are dirty."""
        for day, end_ms in self.desk.edits.pending().items():
            self.engine.ask_for(day, 0, -(-end_ms // WINDOW_MS) * WINDOW_MS)

    def alarm(self, text: str) -> None:
        """Said to people on the status page and in the log file."""
        _log.warning("%s", text)
        self.alarms.append(text)

    # -- life ------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Everything acknowledged is on disk already; this saves the next start its replay."""
        self._closed = True
        self.sources.stop()
        self.outputs.stop()
        self.retention.stop()
        self.rebuilder.stop()
        self.committer.stop()
        self.runner.stop()
        self.lake.stop()
        self.log.close()
        self.store.close()
        self.registry.close()
        self.desk.close()
        (self.data / "server.json").unlink(missing_ok=True)
        os.close(self._lock)

    def _claim(self) -> None:
        self._lock = os.open(self.data / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DataInUse(
                f"{self.data} is open in another process; stop it, or use --url to talk to its server"
            ) from None

    def announce(self, url: str) -> None:
        """Tells other processes where this city is served."""
        path = self.data / "server.json"
        path.with_suffix(".new").write_text(json.dumps({"pid": os.getpid(), "url": url}))
        path.with_suffix(".new").rename(path)

    def _lake_days(self, first: int = 0, after: int | None = None) -> list[int]:
        self.lake.started.wait(60)
        return self.lake.ask("days", first=first, after=after)

    def _keep_offsets_rising(self) -> None:
        """Consumers may have come further than a log that was damaged: no offset is given twice, or new readings would pass
        for ones that they have seen."""
        if self.log.salvaged:
            self.lake.started.wait(60)
        ahead = max(self.lake.position, self.engine.applied)
        if ahead > self.log.end:
            self.alarm(f"the log ends at {self.log.end}, views and lake had come to {ahead}; offsets go on from there")
            self.log.fast_forward(ahead, self.engine.counters.rows)

    def _lake_is_up(self) -> None:
        self.lake.started.wait()
        if not self._closed:
            self._keep_offsets_rising()


def answer(decoded: Decoded) -> dict[str, Any]:
    """The body of a 200 to POST /v1/readings."""
    reasons: dict[str, int] = {}
    for row in decoded.rejected:
        reasons[row.reason] = reasons.get(row.reason, 0) + 1
    return {"accepted": len(decoded.readings), "quarantined": len(decoded.rejected), "reasons": reasons}


def replay_quarantine(pipeline: Pipeline, keys: Sequence[int] | None) -> dict[str, Any]:
    """Sends refused rows through ingest again; those that are good now leave the quarantine."""
    accepted, still = [], 0
    after = 0
    while True:
        page = list(pipeline.log.quarantined(after, 5_000))
        if not page:
            break
        after = page[-1].key
        for row in page:
            if keys is not None and row.key not in keys:
                continue
            try:
                decoded = pipeline.take(_replayable(row), row.media_type, row.source)
            except Problem:
                still += 1
                continue
            if decoded.rejected or not len(decoded.readings):
                still += 1
                continue
            pipeline.submit(decoded, row.source).result()
            accepted.append(row.key)
    pipeline.log.release(accepted)
    return {"accepted": len(accepted), "quarantined": still}


def _replayable(row: Quarantined) -> bytes:
    return row.original


__all__ = ["DataInUse", "LogFull", "Pipeline", "answer", "replay_quarantine", "up"]


def up(config: Config, listener: Any) -> None:
    """`meterpulse up`: the server with its pages on an open listening socket, until Ctrl-C."""
    from meterpulse.web.server import run

    with Pipeline.open(config) as pipeline:
        demo = Demo(pipeline, lambda text: print(text, file=sys.stderr, flush=True)) if config.demo.enabled else None
        pipeline.sources.start()
        pipeline.outputs.start()
        try:
            run(pipeline, listener, config, answer, replay_quarantine, on_ready=lambda url: _ready(url, demo))
        finally:
            if demo is not None:
                demo.stop()


def _ready(url: str, demo: Demo | None) -> None:
    print(f"meterpulse is at {url}", flush=True)
    if demo is not None and not demo.start():
        print("this data is not a demo city, so no meters are simulated", file=sys.stderr, flush=True)
