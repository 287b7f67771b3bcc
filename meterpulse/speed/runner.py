"""The two threads of the speed layer: one applies the log to the engine, one carries retired windows into the store.

Recovery is checkpoint + log: retirements are noted in the store with the offset at which they happened, and happen at the same
offset when the log is replayed, so the state after a crash is the state before it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meterpulse.log import CorruptEntry, Log
from meterpulse.model.crashpoint import crash_point
from meterpulse.model.groups import fold_up
from meterpulse.model.priority import APPLYING, CARRYING, step_back
from meterpulse.model.window import DAY_MS, HOUR_MS, WINDOW_MS, floor_to, utc_day
from meterpulse.speed import Retirement, checkpoint
from meterpulse.speed.embedded import LONG_AGO, Engine
from meterpulse.stores import BLOCK, Chunk, CorruptChunk, Store
from meterpulse.stores.rollup import compose, day_rows, longer

_log = logging.getLogger("meterpulse.speed")
_BLOCKS_A_WRITE = 64
_CATCH_UP_SECONDS, _CATCH_UP_EVERY_SECONDS = 10, 60

Keys = Callable[[str], tuple[np.ndarray, list[str]]]  # "usage_5m" | "area_1m" -> zone index of each key, zone names


class Keeper:
    """Carries retired windows into the store, and makes hours and days of them. `boundary_ms` is durable."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        keys: Keys,
        group_of: Callable[[], np.ndarray],
        parents: Callable[[], np.ndarray],
    ):
        self._engine, self._store, self._keys, self._group_of, self._parents = engine, store, keys, group_of, parents
        found = store.note("boundary")
        self.boundary_ms = int(found) if found else LONG_AGO
        self.rolled = {int(name.split("/")[1]) for name in store.notes("rolled/")}
        self.lock = threading.Lock()  # one writer of windows at a time: this or batch
        self.alarm: Callable[[str], None] = _log.error

    def carry(self, retirement: Retirement) -> None:
        """Durable when it returns."""
        with self.lock:
            for window in retirement.windows:
                hour = floor_to(window.start_ms, HOUR_MS)
                day = utc_day(window.start_ms)
                notes = {f"hour/{hour}": b"1", f"held/{day}": str(self._engine.held[day]).encode()}
                count = min(window.cells.shape[1], len(self._keys("usage_5m")[0]))
                blocks = range(-(-count // BLOCK))
                for first in range(0, len(blocks), _BLOCKS_A_WRITE):
                    part = blocks[first : first + _BLOCKS_A_WRITE]
                    self._store.write(
                        (
                            Chunk("usage_5m", b, window.start_ms, window.rows(b * BLOCK, min((b + 1) * BLOCK, count)))
                            for b in part
                        ),
                        notes=notes,
                    )
                area = fold_up(window.minutes(self._group_of()), self._parents())
                self._store.write(
                    [
                        Chunk("area_1m", b, window.start_ms, area[b * BLOCK : (b + 1) * BLOCK])
                        for b in range(-(-len(area) // BLOCK))
                    ],
                    notes=notes,
                )
            crash_point("store.windows")
            name = f"retire/{retirement.offset:020d}/{retirement.boundary_ms + (1 << 62):020d}"
            boundary = max(self.boundary_ms, retirement.boundary_ms)
            self._store.write([], notes={name: b"1", "boundary": str(boundary).encode()})
            crash_point("store.retired")
            # Batch sees the new boundary only when the hours are made: else it could write an hour that speed's windows,
            # composed after it, would cover.
            self._complete(boundary)
            self.boundary_ms = boundary
        self._engine.retired(retirement)

    def complete(self) -> None:
        """Hours and days that the boundary has passed get their longer windows."""
        with self.lock:
            self._complete(self.boundary_ms)

    def _complete(self, boundary_ms: int) -> None:
        for name in self._store.notes("hour/"):
            hour = int(name.split("/")[1])
            if hour + HOUR_MS <= boundary_ms:
                self._unless_damaged(self._complete_hour, hour)
        for name in self._store.notes("day/"):
            day = int(name.split("/")[1])
            if (day + 1) * DAY_MS <= boundary_ms:
                self._unless_damaged(self._complete_day, day)

    def _unless_damaged(self, complete: Callable[[int], None], what: int) -> None:
        """A damaged chunk is batch's to replace; the hour, or the day, is completed after that."""
        try:
            complete(what)
        except CorruptChunk as error:
            self.alarm(f"{error}; its day is rebuilt by itself")
            self._engine.doubt(utc_day(error.start_ms))

    def note_rolled(self, day: int) -> None:
        """Batch wrote this day's hours and local days."""
        self._store.write([], notes={f"rolled/{day}": b"1", f"day/{day}": b""})
        self.rolled.add(day)

    def _complete_hour(self, hour: int) -> None:
        for view in ("usage_5m", "area_1m"):
            for block in range(-(-len(self._keys(view)[0]) // BLOCK)):
                chunk, replaced = compose(self._store, view, block, hour)
                if chunk is not None:
                    self._store.write([chunk], remove=replaced)
                    crash_point("store.hour")
        self._store.write([], notes={f"hour/{hour}": b"", f"day/{utc_day(hour)}": b"1"})

    def _complete_day(self, day: int) -> None:
        for view, measures in (("usage_5m", 5), ("area_1m", 4)):
            kind, zones = self._keys(view)
            for block in range(-(-len(kind) // BLOCK)):
                own = kind[block * BLOCK : (block + 1) * BLOCK]
                rows, batch = day_rows(self._store, view, block, day, len(own), measures)
                if rows is not None:
                    self._store.write(longer(view, block, day, rows, batch, own, zones))
        self.note_rolled(day)


class Runner:
    """Recovers the engine, then keeps it going. `clock` gives wall time in ms: the only one here."""

    def __init__(
        self,
        engine: Engine,
        log: Log,
        store: Store,
        keeper: Keeper,
        directory: Path,
        clock: Callable[[], int],
        checkpoint_seconds: float,
    ):
        self.engine, self._log, self._store, self.keeper = engine, log, store, keeper
        self._directory, self._clock, self._checkpoint_seconds = directory, clock, checkpoint_seconds
        self.alarms: list[str] = []
        keeper.alarm = self.alarms.append
        self.safe_offset = 0  # the log is not needed below this
        self.ticks = 0  # how often the watermark was looked at
        self.ready = threading.Event()
        self._unread = ""  # why the log could not be read the last time
        self._wake = threading.Condition()
        self._stopping = False
        self._retirements: queue.Queue[Retirement | None] = queue.Queue()
        self._heard = time.monotonic()
        self._saving: threading.Thread | None = None
        self._saved_at, self._saved_offset = time.monotonic(), -1
        self._threads: list[threading.Thread] = []

    def recover(self, lake_days: Callable[..., list[int]]) -> None:
        """Loads the newest checkpoint; without one, and with the beginning of the log gone, leaves the open days to batch.
        lake_days() are the days of the lake, lake_days(first, after) those with readings of these offsets."""
        self._lake_days = lake_days
        self.alarms += checkpoint.load_newest(self.engine, self._directory)
        self.safe_offset = self._saved_offset = self.engine.applied
        for name, bits in self._store.notes("held/").items():
            day = int(name.split("/")[1])
            self.engine.held[day] = self.engine.held.get(day, 0) | int(bits)
        if self.engine.applied < self._log.first:
            self._start_from_the_lake(lake_days())
        elif self.engine.applied < int(self._store.note("journal") or 0):
            # The retirements before the checkpoint that is lost are forgotten, so what they carried off stays with batch.
            self.engine.retired_ms = max(self.engine.retired_ms, self.keeper.boundary_ms)
        elif self.keeper.boundary_ms < self.engine.retired_ms:
            self._fill_the_store(lake_days())
        try:
            self.keeper.complete()
        except OSError as error:  # a full disk must not keep us from starting; the next retirement completes them too
            self.alarms.append(f"hours and days wait for room: {error}")
        journal = sorted(self._store.notes("retire/"))
        self._journal = [(int(n.split("/")[1]), int(n.split("/")[2]) - (1 << 62)) for n in journal]
        self._journal = [(offset, boundary) for offset, boundary in self._journal if offset >= self.engine.applied]

    def _start_from_the_lake(self, days: list[int]) -> None:
        engine, now = self.engine, self._clock()
        lost = f"no checkpoint holds the log's beginning ({engine.applied} < {self._log.first}); the open days are rebuilt from the lake"
        self.alarms.append(lost)
        known = max(self.keeper.boundary_ms, engine.retired_ms)
        newest = (days[-1] + 1) * DAY_MS if days else known
        boundary = max(known, min(newest, floor_to(now, WINDOW_MS) + WINDOW_MS))
        dirty = {int(name.split("/")[1]) for name in self._store.notes("dirty/")}
        engine.windows.clear()
        engine.applied, engine.retired_ms = self._log.first, boundary
        for day in {*dirty, *(day for day in days if (day + 1) * DAY_MS > known)}:
            engine.doubt(day, self._log.first)
        self._store.write([], notes={"boundary": str(boundary).encode()})
        self.keeper.boundary_ms = boundary

    def _fill_the_store(self, days: list[int]) -> None:
        """The store began anew, or is an older copy: what this layer has carried off comes back from the lake."""
        boundary = self.engine.retired_ms
        self.alarms.append("the store is behind the views; every day is rebuilt from the lake")
        for day in days:
            if day * DAY_MS < boundary:
                self.engine.doubt(day, self.engine.applied)
        self._store.write([], notes={"boundary": str(boundary).encode()})
        self.keeper.boundary_ms = boundary

    def start(self) -> None:
        """Both threads."""
        self.engine.on_retire = self._retirements.put
        for target, name, nice in ((self._run, "speed", APPLYING), (self._keep, "keeper", CARRYING)):
            thread = threading.Thread(target=self._guard, args=(target, nice), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """The log has grown."""
        self._heard = time.monotonic()
        with self._wake:
            self._wake.notify()

    def wake_if_behind(self) -> None:
        """Looks at the log without counting as new input."""
        with self._wake:
            self._wake.notify()

    def stop(self) -> None:
        """Ends both threads after a last checkpoint."""
        self._stopping = True
        with self._wake:
            self._wake.notify()
        self._threads[0].join()
        self._retirements.put(None)
        self._threads[1].join()
        if self._saving is not None:
            self._saving.join()

    def _guard(self, target: Callable[[], None], nice: int) -> None:
        step_back(nice)
        try:
            target()
        except Exception as error:
            _log.exception("the speed layer has stopped")
            self.alarms.append(
                f"the speed layer has stopped: {error}; restart the server, nothing acknowledged is lost"
            )
            self.failed = True

    failed = False

    def _run(self) -> None:
        engine = self.engine
        next_tick = 0.0
        while not self._stopping:
            self._replay_retirements()
            if self._held_up():
                time.sleep(0.005)
                self._checkpoint_when_due()
                continue
            try:
                entry = self._log.read(engine.applied)
            except CorruptEntry as error:
                self._skip(str(error), engine.applied + 1)
                continue
            except KeyError:
                to = self._log.following(engine.applied)
                self._skip(f"log entries {engine.applied} to {to} are gone", to)
                continue
            except OSError as error:  # its brokers are away: what is applied is still answered
                self._wait_for_the_log(error)
                continue
            if entry is not None:
                engine.apply(entry)
            elif not self._journal or self._journal[0][0] > engine.applied:
                self._journal = []
                self.ready.set()
            if self.ready.is_set() and time.monotonic() >= next_tick:
                engine.advance(self._clock(), int((time.monotonic() - self._heard) * 1000))
                self._checkpoint_when_due()
                next_tick = time.monotonic() + 0.25
                self.ticks += 1
            if entry is None:
                with self._wake:
                    if self._log.end <= engine.applied and not self._stopping:
                        self._wake.wait(0.25)
        self._stop_checkpoint()

    def _wait_for_the_log(self, error: OSError) -> None:
        if str(error) != self._unread:
            self._unread = str(error)
            self.alarms.append(f"the log cannot be read: {error}")
        time.sleep(0.5)

    def _replay_retirements(self) -> None:
        while self._journal and self._journal[0][0] <= self.engine.applied:
            _, boundary = self._journal.pop(0)
            on_retire, self.engine.on_retire = self.engine.on_retire, self.engine.retired  # they are in the store
            if boundary > self.engine.retired_ms:
                self.engine.retire(boundary)
            self.engine.on_retire = on_retire

    def _skip(self, why: str, to: int) -> None:
        """Entries that cannot be read: what the lake has of them comes back by rebuilding their days, and those that are open."""
        _log.error("%s; going on at %d", why, to)
        self.alarms.append(f"{why}; its days are rebuilt from the lake")
        engine = self.engine
        ends = [w.end_ms for w in engine.open_windows()] or [floor_to(self._clock(), WINDOW_MS) + WINDOW_MS]
        for day in {utc_day(end - 1) for end in ends}:
            engine.doubt(day, to, max(e for e in ends if utc_day(e - 1) == day))
        try:
            held = self._lake_days(engine.applied, to)
        except OSError as error:
            self.alarms.append(f"{error}; if it held older days, run `meterpulse rebuild --all`")
            held = []
        for day in held:
            engine.doubt(day, to)
        engine.applied = to

    def _keep(self) -> None:
        while (retirement := self._retirements.get()) is not None:
            while True:
                try:
                    self.keeper.carry(retirement)
                    break
                except (
                    OSError
                ) as error:  # a full disk: windows stay in memory and are served from there until there is room
                    _log.error("closed windows wait: %s", error)
                    if self._stopping:
                        return
                    time.sleep(1)

    def _held_up(self) -> bool:
        """A checkpoint is long due and closed windows keep coming: the store gets a while to catch up, or the log would grow
        without end. Only a while: the store may be full."""
        if not self.engine.retiring or not self.ready.is_set() or self.engine.applied <= self._saved_offset:
            return False
        waited = time.monotonic() - self._saved_at - 2 * self._checkpoint_seconds
        return waited >= 0 and waited % _CATCH_UP_EVERY_SECONDS < _CATCH_UP_SECONDS

    def _checkpoint_when_due(self) -> None:
        engine = self.engine
        due = time.monotonic() - self._saved_at >= self._checkpoint_seconds
        if (
            due
            and engine.applied > self._saved_offset
            and not engine.retiring
            and (self._saving is None or not self._saving.is_alive())
        ):
            self._checkpoint()

    def _checkpoint(self) -> None:
        self._saved_at, self._saved_offset = time.monotonic(), self.engine.applied
        try:
            written = checkpoint.write(self.engine, self._directory)
        except OSError as error:
            _log.error("no checkpoint: %s", error)
            return
        self._saving = threading.Thread(
            target=self._settle, args=(written, set(self.engine.marks)), name="checkpoint", daemon=True
        )
        self._saving.start()

    def _settle(self, written: Path, dirty: set[int]) -> None:
        try:
            safe = checkpoint.settle(written)
            # The log before it may go: which days wait for batch must not be known to checkpoints alone.
            gone = [n for n in self._store.notes("retire/") if int(n.split("/")[1]) < safe]
            gone += [n for n in self._store.notes("dirty/") if int(n.split("/")[1]) not in dirty]
            kept = {f"dirty/{day}": b"1" for day in dirty} | {"journal": str(safe).encode()}
            self._store.write([], notes=dict.fromkeys(gone, b"") | kept)
            self.safe_offset = safe
        except OSError as error:
            _log.error("no checkpoint: %s", error)

    def _stop_checkpoint(self) -> None:
        if self._saving is not None:
            self._saving.join()
        if (
            self.engine.applied > self._saved_offset
            and sum(w.cells.nbytes for w in self.engine.windows.values()) < 1 << 30
        ):
            deadline = time.monotonic() + 1
            while self.engine.retiring and time.monotonic() < deadline:
                time.sleep(0.01)
            if not self.engine.retiring:
                self._checkpoint()
