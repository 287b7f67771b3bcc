"""Dirty days are rebuilt by themselves, soon after they were made dirty and not more often than their size allows."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from meterpulse import plugins
from meterpulse.batch import DayReport
from meterpulse.batch.differences import CAUSES, Compared, of_day
from meterpulse.batch.embedded import rebuild
from meterpulse.batch.lakeday import LakeDay
from meterpulse.batch.plans import Plans
from meterpulse.batch.record import RecordReport
from meterpulse.lake import CorruptFile
from meterpulse.lakeworker import LakeDown
from meterpulse.model.memory import give_back
from meterpulse.model.priority import CARRYING, step_back
from meterpulse.model.problem import Problem
from meterpulse.model.window import DAY_MS, day_text, utc_day
from meterpulse.recording import Recording
from meterpulse.speed.embedded import LONG_AGO
from meterpulse.stores import BLOCK, CorruptChunk

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_log = logging.getLogger("meterpulse.batch")
_ROW_BYTES = 12  # of a row that waits in memory for its channel's turn
_CHANNELS_A_THREAD, _ROWS_A_THREAD = 64 * BLOCK, 64 << 20
_SHORT_SECONDS = 4  # longer rebuilds take a tenth of the time at most
_PARTIAL_SECONDS = 60
_RECORD_QUIET = 10  # times as long as a rebuild, a record waits for more readings of its day


class Rebuilder:
    """One thread. A day waits `batch.quiet_seconds` after its rebuild, or a few times as long as that took."""

    def __init__(self, pipeline: Pipeline):
        self._p = pipeline
        self._wanted: set[int] = set()
        self._not_before: dict[int, tuple[float, tuple[int, int] | None]] = {}
        self._recent: list[DayReport] = []
        self._progress: dict[str, Any] | None = None
        self._causes = {
            int(name.split("/")[1]): json.loads(told) for name, told in pipeline.store.notes("differing/").items()
        }
        self._record_not_before = 0.0
        self._quiet_from: dict[int, float] = {}  # days that readings came for lately: when nobody waits for more
        self._lock = threading.Lock()  # one rebuild at a time
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self.plans = Plans(pipeline.store)
        self.recording = Recording(pipeline)
        self._thread = threading.Thread(target=self._run, name="batch", daemon=True)
        self._thread.start()

    def summary(self) -> dict[str, Any]:
        """The newest rebuilds and the one that runs."""
        recent = [_shape(report) for report in self._recent[-5:]]
        records = self.recording.summary()
        plan = self.plans.summary()
        return {
            "done": len(self._recent),
            "running": self._progress,
            "plan": plan,
            "records": records,
            "recent": recent,
        }

    def plan(self, what: str, days: Sequence[int]) -> int:
        """Days to rebuild, dirty or not, one after the other; the plan's number."""
        number = self.plans.add(what, days, self._p.clock())
        self._wake.set()
        return number

    def record(self, day: int) -> RecordReport:
        """Makes the record of a UTC day now, from what is in the store: measured, validated, estimated, edited."""
        with self._lock:
            self._progress = {"day": day_text(day), "of": "record"}
            try:
                report = self.recording.record(day, self._install)
                self._tell_differences(day)
                return report
            finally:
                self._progress = None
                give_back()

    def record_due(self) -> list[RecordReport]:
        """Every day whose record is missing or not up to date, now."""
        made = []
        while due := self.recording.due():
            made.append(self.record(due[0]))
        return made

    def differences(self) -> dict[str, int]:
        """How many windows batch has answered otherwise than speed, by cause; all that are kept."""
        days = list(self._causes.values())
        return {cause: sum(day.get(cause, 0) for day in days) for cause in CAUSES}

    def differing_days(self) -> list[int]:
        """The UTC days that have differences, ascending."""
        return sorted(self._causes)

    def rebuild(self, day: int) -> DayReport:
        """Rebuilds a UTC day now, from everything that is logged by now. Raises Problem 409 for a day whose readings were not
        kept: its views are all that is left."""
        p = self._p
        if p.store.note(f"sealed/{day}"):
            raise Problem(
                409, "sealed", "This day cannot be rebuilt",
                f"the readings of {day_text(day)} were dropped by retention.readings; its views stay as they are",
            )  # fmt: skip
        with self._lock:
            self._progress = {"day": day_text(day)}
            try:
                # The boundary first: a window that retires from here on may hold readings that the lake does not have yet.
                boundary = p.keeper.boundary_ms
                below, decided, edited = p.engine.applied, p.desk.edits.newest(), p.desk.edits.pending()
                if p.lake.position < below and not p.lake.ask("flush", to=below, timeout_seconds=600):
                    raise OSError("the lake cannot take what is logged yet; free disk space")
                report = self._rebuild_from_lake(day, boundary)
                self._tell_differences(day)
                self.recording.built(day, is_edited=self._forget_damaged_record(day) or day in edited)
                p.store.write([], notes={f"rebuilt/{day}": f"{below}/{boundary}".encode()})  # outputs look at it again
                p.engine.clean(day, below, boundary)
                if p.desk.edits.built(day, decided, boundary):  # people decided more meanwhile
                    p.doubt_edited_days()
                self._recent = [*self._recent[-199:], report]
                return report
            finally:
                self._progress = None
                give_back()

    def _rebuild_from_lake(self, day: int, boundary: int) -> DayReport:
        p = self._p
        while True:
            files = p.lake.files(day)
            compared = self._compared(day, max((f.after for f in files), default=0))
            # In this order: channels that are registered meanwhile are in what is taken later, and not in what is built.
            group_of = p.keys.group_of()
            # A thread holds a block's day and the minutes of all areas: a small city has its memory for other things.
            work = max(len(group_of) // _CHANNELS_A_THREAD, sum(f.rows for f in files) // _ROWS_A_THREAD)
            threads = min(p.config.batch.threads, 1 + work)
            builder = plugins.implementation("batch", p.config.batch.engine)(
                group_of, p.keys.group_count(), p.keys.parents(), threads=threads
            )
            channel_zone, zones = p.keys.zones("usage_5m")
            group_zone, area_zones = p.keys.zones("area_1m")
            every = list(dict.fromkeys([*zones, *area_zones])) or ["UTC"]
            try:
                report = rebuild(
                    day, boundary, builder, LakeDay(files, p.config.batch.max_bytes // _ROW_BYTES), p.store, self._install, every,
                    np.array([every.index(z) for z in zones] or [0])[channel_zone],
                    np.array([every.index(z) for z in area_zones] or [0])[group_zone],
                    lossy=day in p.lake.ask("holes"), compared=compared, as_recorded=self.recording.before_rebuild(day),
                )  # fmt: skip
            except CorruptFile as error:
                p.alarm(p.lake.ask("repair", path=error.path))
                continue
            if (day + 1) * DAY_MS <= boundary:
                p.keeper.note_rolled(day)
            else:
                # The day may have ended while it was built, and speed made its hours of the windows of before.
                p.store.write([], notes={f"day/{day}": b"1"})
                p.keeper.complete()
            return report

    def forget_differences(self, before: int) -> None:
        """Those of UTC days before this one, and which windows speed had answered then."""
        with self._p.engine.lock:
            held = [day for day in self._p.engine.held if day < before]
        old = [day for day in self._causes if day < before]
        notes = [name for day in old for name in self._p.store.notes(f"difference/{day}/")]
        gone = [*notes, *(f"differing/{day}" for day in old), *(f"held/{day}" for day in held)]
        if gone:
            self._p.store.write([], notes=dict.fromkeys(gone, b""))
            self._causes = {day: told for day, told in self._causes.items() if day >= before}
            with self._p.engine.lock:
                for day in held:
                    del self._p.engine.held[day]

    def _compared(self, day: int, lake_end: int) -> Compared:
        """What the day is compared with. What the lake holds already and speed has not looked at yet could not be told from a
        defect, so it is waited for."""
        p, give_up = self._p, time.monotonic() + 600
        while p.engine.applied < min(lake_end, p.log.end) and not p.runner.failed and not self._stopping.is_set():
            if time.monotonic() > give_up:
                raise OSError("the views are ten minutes behind the lake; the day is rebuilt when they have caught up")
            p.runner.wake_if_behind()
            time.sleep(0.01)
        expired = int(p.store.note("expired/usage_5m") or LONG_AGO)
        with p.engine.lock:
            held = dict(p.engine.held)
        return Compared.of(day, held, p.engine.known(day), p.clock(), expired)

    def _tell_differences(self, day: int) -> None:
        found = of_day(self._p.store, day)
        if not len(found) and day not in self._causes:
            return
        counts = np.bincount(found["cause"], minlength=len(CAUSES)).tolist()
        told = {cause: n for cause, n in zip(CAUSES, counts, strict=True) if n}
        before = self._causes.get(day, {}).get("unexplained", 0)
        if told.get("unexplained", 0) > before:
            self._p.alarm(
                f"{told['unexplained']} windows of {day_text(day)} differ between speed and batch without a known cause: "
                f"`meterpulse differences --day {day_text(day)} --cause unexplained` lists them; report this as a defect"
            )
        self._p.store.write([], notes={f"differing/{day}": json.dumps(told).encode() if told else b""})
        self._causes = {d: t for d, t in self._causes.items() if d != day} | ({day: told} if told else {})

    def _install(self, write: Any) -> None:
        if self._stopping.is_set():
            raise _Stopped
        with self._p.keeper.lock:
            write()

    def _due(self) -> list[int]:
        p, now = self._p, time.monotonic()
        with p.engine.lock:
            marks = {day: (m.window_start_ms, m.window_end_ms, m.after_offset) for day, m in p.engine.marks.items()}
        ready, boundary = [], p.keeper.boundary_ms
        for day, (start, end, after) in marks.items():
            # What waits for windows that are still open is shown as far as they are retired, once a minute.
            first, state = self._not_before.get(day, (now, None))
            if now < first or start >= boundary:
                continue
            if end <= boundary or (
                state != (after, min(end, boundary)) and now >= first + (_PARTIAL_SECONDS if state else 0)
            ):
                ready.append(day)
        return sorted(ready)

    def _run(self) -> None:
        step_back(CARRYING)
        while not self._stopping.is_set():
            self._wake.wait(0.2)
            self._wake.clear()
            p = self._p
            if not p.runner.ready.is_set() or not p.lake.started.is_set():
                continue
            due = self._due()
            if not due:
                if not self._planned_one():
                    self._record_one()
            for day in due:
                if self._stopping.is_set():
                    return
                if p.store.note(f"sealed/{day}"):
                    # Its readings were dropped from the lake (retention): late ones are kept there, the views stay as they are.
                    p.alarm(
                        f"late readings for {day_text(day)}, which is older than retention.readings; they are in the lake only"
                    )
                    self._forget_damage(day)
                    p.engine.clean(day, 1 << 62, 1 << 62)
                    continue
                began, dirty = time.monotonic(), p.engine.marks.get(day)
                try:
                    self.rebuild(day)
                except LakeDown:  # it is being started again
                    self._not_before[day] = (time.monotonic() + 0.3, None)
                    continue
                except _Stopped:
                    return
                except Exception as error:
                    if self._stopping.is_set():
                        return
                    _log.exception("rebuild of %s failed", day_text(day))
                    p.alarm(f"rebuild of {day_text(day)} failed and is tried again: {error}")
                    self._not_before[day] = (time.monotonic() + 5, None)
                    continue
                took = time.monotonic() - began
                if dirty is not None and dirty.rows:  # and not a decision, which somebody waits for
                    self._quiet_from[day] = time.monotonic() + _RECORD_QUIET * p.config.batch.quiet_seconds
                mark = p.engine.marks.get(day)
                state = (mark.after_offset, min(mark.window_end_ms, p.keeper.boundary_ms)) if mark else None
                pause = max(p.config.batch.quiet_seconds, took * (2 if took < _SHORT_SECONDS else 9))
                self._not_before[day] = (time.monotonic() + pause, state)
                if len(self._not_before) > 10_000:
                    self._not_before.clear()

    def _planned_one(self) -> bool:
        """The next day of a plan, while nothing is dirty; whether there was one."""
        p, batch = self._p, self._p.config.batch
        try:
            self.plans.begin_night(batch.nightly, batch.zone, batch.nightly_days, self._kept_days, p.clock())
            planned = self.plans.next()
            if planned is None or self._stopping.is_set():
                return False
            number, day = planned
            self.plans.finished(number, day, self._became(day))
            self._wake.set()
            return True
        except (
            _Stopped,
            OSError,
        ):  # stopping, or the lake is being started again, or the disk is full: the day is still planned
            return False

    def _became(self, day: int) -> dict[str, Any] | str:
        try:
            report = self.rebuild(day)
            self.recording.again({day})  # rules may be others by now, though the readings are the same
            return _shape(report)
        except (_Stopped, LakeDown):
            raise
        except Exception as error:
            if self._stopping.is_set():
                raise _Stopped from error
            _log.exception("rebuild of %s failed", day_text(day))
            self._p.alarm(f"rebuild of {day_text(day)} failed: {error}")
            return str(error)

    def _kept_days(self) -> list[int]:
        return [day for day in self._p.lake.ask("days") if not self._p.store.note(f"sealed/{day}")]

    def _forget_damaged_record(self, day: int) -> bool:
        """A part of the day's record that cannot be read goes, and what was measured is answered until the record is made
        again: nobody would find it sound by rebuilding what it was made of."""
        store, broken = self._p.store, []
        for view, keys in (("record", self._p.registry.table.count), ("area_record", self._p.keys.group_count())):
            for block in range(-(-keys // BLOCK)):
                try:
                    store.sparse(view, block, day * DAY_MS)
                except CorruptChunk:
                    broken.append((view, block, day * DAY_MS))
        if broken:
            self._install(lambda: store.write([], remove=broken))
        return bool(broken)

    def _record_one(self) -> None:
        """The oldest day whose record is due, while nothing is dirty. In the middle of an import most of a day would be missing,
        and estimated."""
        began = time.monotonic()
        self._quiet_from = {day: quiet for day, quiet in self._quiet_from.items() if quiet > began}
        if began < self._record_not_before:
            return
        days = [day for day in self.recording.due() if day not in self._quiet_from]
        if not days:
            return
        try:
            self.record(days[0])
        except _Stopped:
            return
        except CorruptChunk as error:
            self._p.engine.doubt(utc_day(error.start_ms))
        except Exception as error:
            if self._stopping.is_set():
                return
            _log.exception("the record of %s failed", day_text(days[0]))
            self._p.alarm(f"the record of {day_text(days[0])} failed and is tried again: {error}")
            self._record_not_before = time.monotonic() + 60
            return
        self._record_not_before = time.monotonic() + (time.monotonic() - began)

    def _forget_damage(self, day: int) -> None:
        """What is damaged and cannot be made again is unknown from now on; it must not bar the way to the rest."""
        lost = [error for error in self._p.store.verify() if error.start_ms // DAY_MS == day]
        if lost:
            self._p.alarm(
                f"{len(lost)} damaged parts of {day_text(day)} are lost: its readings were not kept that long"
            )
            with self._p.keeper.lock:
                self._p.store.write([], remove=[(e.view, e.block, e.start_ms) for e in lost])

    def stop(self) -> None:
        """Soon: a rebuild that is cut short leaves its day dirty, and the next start does it again."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(2)


def _shape(report: DayReport) -> dict[str, Any]:
    return {
        "day": day_text(report.day),
        "rows": report.rows,
        "effective": report.effective,
        "seconds": round(report.seconds, 3),
    }


class _Stopped(Exception):
    """The server is stopping."""
