"""Group commit: whatever arrived while the last fsync ran goes to the log together with the next one, and is then acknowledged."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from meterpulse.log import Log, Quarantined, Record
from meterpulse.model.crashpoint import crash_point
from meterpulse.model.problem import Problem
from meterpulse.model.reading import Readings

_ROWS_A_GROUP = 4 << 20
_ROWS_AN_ENTRY = 1 << 20


@dataclass(slots=True)
class Lane:
    """Appends that must not overtake each other: when one of them fails, so do those behind it, until they are sent again in
    a new lane. Without it a position could become durable before what it stands behind."""

    broken: bool = False


@dataclass(slots=True)
class _Pending:
    record: Record
    bad: Sequence[Quarantined]
    rows: int
    future: Future | asyncio.Future
    loop: asyncio.AbstractEventLoop | None
    positions: Mapping[str, str]
    lane: Lane | None


class Committer:
    """One thread that appends. `submit` returns a future that is done when the rows are on disk."""

    def __init__(self, log: Log, max_waiting_rows: int, on_append: Callable[[], None] = lambda: None):
        self._log, self._max_waiting_rows, self._on_append = log, max_waiting_rows, on_append
        self._waiting: list[_Pending] = []
        self._rows = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def submit(
        self,
        record: Record,
        bad: Sequence[Quarantined] = (),
        loop: asyncio.AbstractEventLoop | None = None,
        positions: Mapping[str, str] | None = None,
        lane: Lane | None = None,
    ) -> Future | asyncio.Future:
        """Raises Problem 503 where too much is waiting already, or when stopping."""
        future = loop.create_future() if loop else Future()
        rows = len(record.readings) + len(bad)
        with self._changed:
            if self._stopping:
                raise Problem(
                    503, "stopping", "The server is stopping", "Send the body again in a moment.", retry_after_seconds=5
                )
            if self._rows + rows > self._max_waiting_rows and self._waiting:
                raise Problem(
                    503,
                    "busy",
                    "Too much is waiting for the disk",
                    "Send the body again in a moment.",
                    retry_after_seconds=1,
                )
            self._waiting.append(_Pending(record, bad, rows, future, loop, positions or {}, lane))
            self._rows += rows
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Commits what is waiting, then ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopping:
                    self._changed.wait()
                group = self._take()
                if not group:
                    return
            behind = [p for p in group if p.lane is not None and p.lane.broken]
            if behind:
                _finish(behind, OSError("what came before it could not be written"))
                group = [p for p in group if p.lane is None or not p.lane.broken]
            error = self._append(group) if group else None
            crash_point("log.appended")
            self._on_append()
            _finish(group, error)

    def _append(self, group: list[_Pending]) -> BaseException | None:
        positions = {name: position for p in group for name, position in p.positions.items()}
        try:
            self._log.append(list(merged(p.record for p in group)), [row for p in group for row in p.bad], positions)
        except Exception as trouble:  # the group is refused; the log has opened itself anew
            for p in group:
                if p.lane is not None:
                    p.lane.broken = True
            return trouble
        return None

    def _take(self) -> list[_Pending]:
        rows = count = 0
        for pending in self._waiting:
            if count and rows + pending.rows > _ROWS_A_GROUP:
                break
            rows, count = rows + pending.rows, count + 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._rows -= rows
        return group


def merged(records: Iterable[Record]) -> Iterable[Record]:
    """Neighbouring small records of one source as one, so that ten thousand single readings are a few entries."""
    run: list[Record] = []
    rows = 0
    for record in records:
        if not len(record.readings):
            continue
        fits = (
            run
            and run[-1].source == record.source
            and run[-1].live == record.live
            and rows + len(record.readings) <= _ROWS_AN_ENTRY
        )
        if run and not fits:
            yield _one(run)
            run, rows = [], 0
        run.append(record)
        rows += len(record.readings)
    if run:
        yield _one(run)


def _one(run: list[Record]) -> Record:
    if len(run) == 1:
        return run[0]
    return Record(run[0].source, Readings.concat([r.readings for r in run]), run[-1].received_ms, run[0].live)


def _finish(group: list[_Pending], error: BaseException | None) -> None:
    by_loop: dict[asyncio.AbstractEventLoop | None, list[_Pending]] = {}
    for pending in group:
        by_loop.setdefault(pending.loop, []).append(pending)
    for loop, own in by_loop.items():
        if loop is None:
            _settle(own, error)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_settle, own, error)


def _settle(group: list[_Pending], error: BaseException | None) -> None:
    for pending in group:
        if pending.future.done():
            continue
        if error is None:
            pending.future.set_result(None)
        else:
            pending.future.set_exception(error)
