"""What is older than its table is kept goes, and the lake's small files become large ones: housekeeping, once in a while."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from meterpulse.config import keep_ms
from meterpulse.model.memory import give_back
from meterpulse.model.window import DAY_MS, utc_day

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_log = logging.getLogger("meterpulse.retention")
_EVERY_MINUTES = 10
_SMALL_FILES = 8


class Retention:
    """One thread. The lake's days count as old when their readings are, and when nothing was added to them for as long."""

    def __init__(self, pipeline: Pipeline):
        self._p = pipeline
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What it is doing now can be cut short at any moment: the lake's changes are whole or not at all."""
        self._stopping.set()
        self._thread.join(1)

    def _run(self) -> None:
        minutes = 0
        while not self._stopping.wait(60):
            give_back()
            minutes += 1
            if minutes % _EVERY_MINUTES != 1:
                continue
            try:
                self.once()
            except Exception:
                _log.exception("housekeeping failed; it is tried again")

    def once(self) -> None:
        """Everything that is due now."""
        self._expire_views()
        self._expire_quarantine()
        self._expire_differences()
        self._expire_history()
        for day in self._p.lake.ask("days"):
            if self._stopping.is_set():
                return
            self._drop_or_compact(day)
        self._p.lake.ask("vacuum", keep_seconds=3600, now_ms=self._p.clock(), timeout_seconds=600)

    def compact(self) -> dict[str, int]:
        """Every closed day's files, now."""
        done = sum(bool(self._compact(day)) for day in self._p.lake.ask("days"))
        self._p.lake.ask("vacuum", keep_seconds=0, now_ms=self._p.clock(), timeout_seconds=600)
        return {"days": done}

    def _expire_views(self) -> None:
        for view in ("usage_5m", "usage_1h", "usage_1d", "area_1m", "area_1h", "area_1d"):
            keep = self._p.config.retention.keep_ms(view)
            while keep is not None and not self._stopping.is_set():
                with self._p.keeper.lock:
                    if not self._p.store.expire(view, self._p.clock() - keep):
                        break

    def _expire_quarantine(self) -> None:
        keep = self._p.config.retention.keep_ms("quarantine")
        if keep is None:
            return
        old = [row.key for row in self._p.log.quarantined(0, 50_000) if row.received_ms < self._p.clock() - keep]
        if old:
            self._p.log.release(old)

    def _expire_differences(self) -> None:
        keep = self._p.config.retention.keep_ms("differences")
        if keep is not None:
            self._p.rebuilder.forget_differences(utc_day(self._p.clock() - keep))

    def _expire_history(self) -> None:
        keep = self._p.config.retention.keep_ms("intervals_history")
        if keep is not None:
            for day in self._p.lake.ask("remembered"):
                if (day + 1) * DAY_MS < self._p.clock() - keep:
                    self._p.lake.ask("forget", day=day)

    def _drop_or_compact(self, day: int) -> None:
        keep = self._keep_readings_ms()
        now = self._p.clock()
        if keep is not None and (day + 1) * DAY_MS < now - keep and day not in self._p.engine.marks:
            files = self._p.lake.files(day)
            if all(os.stat(f.path).st_mtime * 1000 < now - keep for f in files if os.path.exists(f.path)):
                self._p.store.write([], notes={f"sealed/{day}": b"1"})
                self._p.lake.ask("drop", day=day)
                return
        if day < utc_day(now) and day not in self._p.engine.marks and len(self._p.lake.files(day)) > _SMALL_FILES:
            self._compact(day)

    def _keep_readings_ms(self) -> int | None:
        """As set; a demo city's readings go by themselves, so that it runs for a month on a laptop's disk."""
        keep = self._p.config.retention.keep_ms("readings")
        if keep is None and (self._p.data / "demo.json").exists():
            return keep_ms(self._p.config.demo.keep_readings)
        return keep

    def _compact(self, day: int) -> bool:
        return self._p.lake.ask("compact", day=day, now_ms=self._p.clock(), timeout_seconds=3600)
