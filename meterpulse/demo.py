"""The demo city: simulated meters that report into this pipeline every few seconds, after a day of history.

A start goes on where the last one stopped: what is missing since then comes first, the last quarter of an hour as heartbeats
and what is older as 5-minute reads. Every value is the simulator's function of (seed, channel, time), so nothing is kept.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from meterpulse.model.problem import Problem
from meterpulse.model.reading import Readings
from meterpulse.model.window import WINDOW_MS, local_day, local_midnight
from meterpulse.simulator import City, Faults, heartbeats, parse

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_log = logging.getLogger("meterpulse.demo")
# Nothing later than the allowed lateness: each such reading has the whole day computed again, half a billion readings by night.
_FAULTS = "duplicate=0.0002,out_of_order=0.0005,missing=0.0005,sentinel=0.000002"
_AT_ONCE_MS = 3 * WINDOW_MS
_LONG_MS = 30 * 365 * 86_400_000
SOURCE, HISTORY = "demo", "import:demo-history"


class Demo:
    """One thread that plays the city. `say` gets lines for people."""

    def __init__(self, pipeline: Pipeline, say: Any = lambda text: None):
        self._p, self._say = pipeline, say
        self._file = pipeline.data / "demo.json"
        self._faults: Faults | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guard, name="demo", daemon=True)

    def start(self) -> bool:
        """False where the data is somebody's own and no demo."""
        if self._p.registry.table.count and not self._file.exists():
            return False
        self._thread.start()
        return True

    def stop(self) -> None:
        """Between two heartbeats."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _guard(self) -> None:
        try:
            self._play()
        except Exception as error:
            _log.exception("the demo city has stopped")
            self._p.alarm(f"the demo city has stopped: {error}")

    def _play(self) -> None:
        p, demo = self._p, self._p.config.demo
        kept = json.loads(self._file.read_text()) if self._file.exists() else {}
        households = kept.get("households", demo.households)
        city = City(households, businesses=max(1, round(households * 0.0656)), seed=kept.get("seed", demo.seed))
        self._kept = {"households": city.households, "seed": city.seed, **kept}
        if not p.registry.table.count:
            self._say(f"making a demo city of {city.households:,} households and {city.businesses:,} businesses")
            self._register(city)
        beat_ms = demo.heartbeat_seconds * 1000
        while not p.runner.ready.wait(0.1) and not self._stopping.is_set():
            pass
        live_from = (p.clock() - _AT_ONCE_MS) // WINDOW_MS * WINDOW_MS
        last = self._kept.get("until_ms", 0)
        self._catch_up(city, max(last, live_from), beat_ms)
        # Whole local days, so that today can be compared with yesterday.
        zone = p.registry.areas.time_zone[0]
        begin = local_midnight(zone, local_day(zone, live_from) - demo.history_days)
        self._history(city, max(last, begin), live_from)
        at = self._kept["until_ms"]
        while not self._stopping.is_set():
            wait = (at + beat_ms - p.clock()) / 1000
            if wait > 0:
                if self._stopping.wait(wait):
                    break
            elif wait < -_AT_ONCE_MS / 1000:  # the machine slept
                self._history(city, at, (p.clock() - _AT_ONCE_MS) // WINDOW_MS * WINDOW_MS)
                at = max(at, (p.clock() - _AT_ONCE_MS) // WINDOW_MS * WINDOW_MS)
            self._beat(city, at, at + beat_ms)
            at += beat_ms
            if at % 60_000 == 0:
                self._keep(at)
        self._keep(at)

    def _register(self, city: City) -> None:
        for area in city.areas():
            self._p.registry.add_area(
                area.name, kind=area.kind, parent=area.parent, time_zone=area.time_zone, title=area.title
            )
        for table in city.tables():
            self._p.registry.register(table, at_ms=0)
        self._file.write_text(json.dumps(self._kept))

    def _catch_up(self, city: City, start_ms: int, beat_ms: int) -> None:
        """Heartbeats up to now, as fast as they are taken."""
        at = start_ms // beat_ms * beat_ms
        while at + beat_ms <= self._p.clock() and not self._stopping.is_set():
            self._beat(city, at, at + beat_ms)
            at += beat_ms
        self._keep(at)
        self._say("the city is live")

    def _history(self, city: City, start_ms: int, end_ms: int) -> None:
        """Reads of 5 minutes for what is older; they come in as an import."""
        start_ms = -(-start_ms // WINDOW_MS) * WINDOW_MS
        steps = max(0, (end_ms - start_ms) // WINDOW_MS)
        if steps > 3:
            self._say(f"adding {steps * WINDOW_MS / 3_600_000:.0f} hours of history")
        for at in range(start_ms, end_ms, WINDOW_MS):
            if self._stopping.is_set():
                return
            self._send(heartbeats(city, at, WINDOW_MS // 1000), HISTORY)

    def _beat(self, city: City, start_ms: int, end_ms: int) -> None:
        if self._faults is None:  # one for the whole run: what is late comes with a later beat
            self._faults = Faults(city, parse(_FAULTS), start_ms, start_ms + _LONG_MS, (end_ms - start_ms) // 1000)
        held_back = self._faults.due(start_ms)
        if len(held_back):
            self._send(held_back, SOURCE)
        self._send(self._faults.apply(heartbeats(city, start_ms, (end_ms - start_ms) // 1000)), SOURCE)

    def _send(self, readings: Readings, source: str) -> None:
        while not self._stopping.is_set():
            try:
                self._p.submit_readings(readings, source).result()
                return
            except (Problem, OSError) as error:
                _log.warning("the demo waits: %s", error)
                time.sleep(1)

    def _keep(self, until_ms: int) -> None:
        self._kept["until_ms"] = until_ms
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._kept))
        fresh.rename(self._file)
