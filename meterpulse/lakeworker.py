"""The lake is written by a process of its own, supervised: a full disk can abort the Delta writer, and must not take the city with it.

The child follows the log read-only, commits to the lake, and answers requests over its pipes, one JSON line each. It is
started anew whenever it ends; what it had not committed is still in the log.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import itertools
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from meterpulse import plugins
from meterpulse.config import Config
from meterpulse.config import Log as LogSettings
from meterpulse.lake import Hole, Lake, LakeBroken, LakeFile, LakeFull
from meterpulse.lake.history import IntervalHistory
from meterpulse.log import CorruptEntry, Log
from meterpulse.model.crashpoint import VARIABLE, crash_point
from meterpulse.model.memory import give_back
from meterpulse.model.reading import Readings

_log = logging.getLogger("meterpulse.lake")
_ROWS_A_COMMIT = 32 << 20
_ROWS_A_LINE = 50_000


class LakeDown(OSError):
    """The lake's process did not answer; it is being started again."""


class LakeWorker:
    """The parent's side. `position` is the log offset up to which the lake is durable, `safe_offset` that of some commits ago."""

    def __init__(self, data: Path, config: Config, on_alarm: Callable[[str], None] = lambda text: None):
        self._command = [sys.executable, "-m", "meterpulse.lakeworker", str(data)]
        # Over the pipe: what other users of the machine see of a process is its command line.
        self._settings = json.dumps(
            {
                "engine": config.lake.engine,
                "commit_seconds": config.lake.commit_seconds,
                "log": config.log.model_dump(mode="json"),
            }
        )
        self._on_alarm = on_alarm
        self._positions: deque[int] = deque(maxlen=4)
        self._asked: dict[int, Future] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stopping = False
        self.started = threading.Event()
        self._process: subprocess.Popen | None = None
        self._thread = threading.Thread(target=self._supervise, name="lake", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """Everything below is in the lake; 0 until the process has said."""
        return self._positions[-1] if self._positions else 0

    @property
    def safe_offset(self) -> int:
        """The log may be trimmed up to here: the newest commits, the one found at the start included, can be written again."""
        return self._positions[0] if len(self._positions) == self._positions.maxlen else 0

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process else None

    def ask(self, what: str, *, timeout_seconds: float = 120, **arguments: Any) -> Any:
        """One request, its answer; raises LakeDown, or OSError with what the lake said."""
        future: Future = Future()
        number = next(self._numbers)
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                raise LakeDown("the lake's process is starting; try again in a moment")
            self._asked[number] = future
            try:
                process.stdin.write(json.dumps({"id": number, "do": what, **arguments}) + "\n")
                process.stdin.flush()
            except OSError as error:
                self._asked.pop(number, None)
                raise LakeDown("the lake's process has ended; it is started again") from error
        try:
            return future.result(timeout_seconds)
        except FutureTimeout:
            self._asked.pop(number, None)
            raise LakeDown(f"the lake did not answer {what!r} within {timeout_seconds:.0f} s") from None

    def remember(self, day: int, rows: pa.Table) -> None:
        """Versions of intervals of a UTC day that another takes the place of, as `lake.history.SCHEMA`; durable on return."""
        for first in range(0, len(rows), _ROWS_A_LINE):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as stream:
                stream.write_table(rows.slice(first, _ROWS_A_LINE))
            packed = base64.b64encode(sink.getvalue()).decode()
            self.ask("remember", day=day, rows=packed, timeout_seconds=600)

    def files(self, day: int) -> list[LakeFile]:
        """The files of a UTC day, in log order."""
        return [LakeFile(**f) for f in self.ask("files", day=day)]

    def stop(self) -> None:
        """Lets it commit what it has, then ends it."""
        with self._lock:  # or a process could be started behind our back
            self._stopping = True
            process = self._process
        if process is not None and not self.started.is_set():
            process.kill()  # it has not looked at the log yet
        elif process is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(1.5)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(5)

    def _supervise(self) -> None:
        pause, environment = 0.1, dict(os.environ)
        while not self._stopping:
            began = time.monotonic()
            with self._lock:
                if self._stopping:
                    return
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
                )
                with contextlib.suppress(OSError):  # it has ended already: the next one is told
                    self._process.stdin.write(self._settings + "\n")
                    self._process.stdin.flush()
            environment.pop(VARIABLE, None)  # what is killed at a point is killed there once
            for line in self._process.stdout:
                with contextlib.suppress(ValueError):  # half a line: it was killed while it spoke
                    self._heard(json.loads(line))
            self._process.wait()
            with self._lock:
                asked, self._asked = self._asked, {}
            for future in asked.values():
                future.set_exception(LakeDown("the lake's process has ended; it is started again"))
            if self._stopping:
                return
            self._on_alarm(f"the lake's process ended with {self._process.returncode}; it was started again")
            pause = 0.1 if time.monotonic() - began > 30 else min(pause * 2, 10)
            time.sleep(pause)

    def _heard(self, said: dict[str, Any]) -> None:
        if "position" in said:
            if not self._positions or said["position"] != self._positions[-1]:
                self._positions.append(said["position"])
            self.started.set()
        if "alarm" in said:
            self._on_alarm(said["alarm"])
        future = self._asked.pop(said.get("id"), None)
        if future is not None:
            if "error" in said:
                future.set_exception(OSError(said["error"]))
            else:
                future.set_result(said.get("answer"))


class _Child:
    """The child's side: tails the log, writes the lake, answers."""

    def __init__(self, data: Path, engine: str, commit_seconds: float, log: LogSettings):
        self._commit_seconds = commit_seconds
        self._requests: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._since: float | None = None
        self._full = False
        self._orphaned = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        self._directory = data / "lake"
        self._lake = self._open(plugins.implementation("lake", engine), self._directory)
        self._logged: Log = plugins.implementation("log", log.engine).follow(data / "log", log)

    def _open(self, engine: Any, directory: Path) -> Lake:
        """Waits for the process of a server that was killed: it is about to finish its commit and to let go."""
        while True:
            try:
                return engine.open(directory)
            except LakeBroken:
                if self._orphaned.wait(0.1):
                    sys.exit(1)

    def run(self) -> None:
        """Until the parent closes the pipe."""
        for hole in self._lake.holes():  # a repair that a crash cut short
            if hole.first >= self._logged.first:
                with contextlib.suppress(ValueError, OSError, CorruptEntry):
                    self._refill(hole)
        self._say(position=self._lake.position)
        while True:
            try:
                request = self._requests.get(timeout=0.1)
                if request is None:
                    break
                self._answer(request)
            except queue.Empty:
                pass
            self._logged.refresh()
            end, waiting = self._logged.end, self._logged.end - self._lake.position
            if waiting <= 0:
                self._since = None
                continue
            self._since = self._since or time.monotonic()
            rows = self._logged.rows - self._rows_before(self._lake.position)
            if time.monotonic() - self._since >= self._commit_seconds or rows >= _ROWS_A_COMMIT:
                self._write_to(end)
        self._logged.refresh()
        if self._logged.rows - self._rows_before(self._lake.position) < 2 << 20:
            self._write_to(self._logged.end)
        self._lake.close()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._requests.put(json.loads(line))
        self._orphaned.set()
        self._requests.put(None)

    def _rows_before(self, offset: int) -> int:
        try:
            entry = self._logged.read(offset)
        except (KeyError, CorruptEntry):
            return 0
        return self._logged.rows if entry is None else entry.rows_before

    def _write_to(self, end: int) -> bool:
        """True when everything below `end` is durable."""
        while self._lake.position < end:
            first = self._lake.position
            there = min(self._logged.following(first), end)
            if first < there:
                self._alarm(
                    f"log entries {first} to {there} are gone before the lake had them: their readings are missing in the lake"
                )
                self._lake.skip_to(there)
                self._say(position=there)
                continue
            after = self._bounded(first, end)
            try:
                self._lake.write(self._entries(first, after), first, after)
                self._full = False
            except CorruptEntry as error:
                self._alarm(f"{error}; it is left out of the lake")
                if error.offset > first:
                    self._lake.write(self._entries(first, error.offset), first, error.offset)
                self._lake.skip_to(error.offset + 1)
            except LakeFull as error:
                if not self._full:
                    self._alarm(f"the lake waits: {error}")
                self._full = True
                time.sleep(0.5)
                return False
            crash_point("lake.committed")
            self._say(position=self._lake.position)
            give_back()
        self._since = None
        return True

    def _bounded(self, first: int, end: int) -> int:
        """Where a commit that begins at `first` ends: at most about 32 million rows."""
        limit = self._rows_before(first) + _ROWS_A_COMMIT
        if self._logged.rows <= limit:
            return end
        low, high = first + 1, end
        while low < high:
            middle = (low + high) // 2
            if self._rows_before(middle) >= limit:
                high = middle
            else:
                low = middle + 1
        return max(low, first + 1)

    def _entries(self, first: int, after: int) -> Iterator[Readings]:
        for offset in range(first, after):
            try:
                entry = self._logged.read(offset)
            except KeyError as error:
                raise CorruptEntry(offset, "it is gone") from error
            if entry is not None:
                yield entry.record.readings

    def _answer(self, request: dict[str, Any]) -> None:
        try:
            self._say(id=request["id"], answer=getattr(self, f"_do_{request['do']}")(request))
        except Exception as error:  # the parent decides; this process lives on
            self._say(id=request["id"], error=f"{type(error).__name__}: {error}")

    def _do_flush(self, request: dict[str, Any]) -> bool:
        self._logged.refresh(request["to"])
        return self._write_to(min(request["to"], self._logged.end))

    def _do_days(self, request: dict[str, Any]) -> list[int]:
        """All days, or those whose files hold log offsets in [first, after)."""
        first, after = request.get("first", 0), request.get("after")
        if after is None:
            return self._lake.days()
        return [d for d in self._lake.days() if any(f.first < after and f.after > first for f in self._lake.files(d))]

    def _do_files(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        return [asdict(f) for f in self._lake.files(request["day"])]

    def _do_holes(self, request: dict[str, Any]) -> list[int]:
        """The days that have lost readings."""
        return sorted({hole.day for hole in self._lake.holes()})

    def _do_repair(self, request: dict[str, Any]) -> str:
        """Takes a damaged file out; fills the hole from the log where the log still has it."""
        hole = self._lake.quarantine_file(request["path"])
        return self._refill(hole)

    def _refill(self, hole: Hole) -> str:
        self._logged.refresh(hole.after)
        if hole.first >= self._logged.first:
            self._lake.refill(hole, self._entries(hole.first, hole.after))
            return f"{request_name(hole)} was damaged and is written again from the log"
        return f"{request_name(hole)} was damaged and is set aside; the log no longer has its readings"

    @cached_property
    def _history(self) -> IntervalHistory:
        return IntervalHistory(self._directory)

    def _do_remember(self, request: dict[str, Any]) -> None:
        with pa.ipc.open_stream(base64.b64decode(request["rows"])) as stream:
            self._history.add(request["day"], stream.read_all())

    def _do_remembered(self, request: dict[str, Any]) -> list[int]:
        """The days with rows in the history of intervals."""
        return self._history.days()

    def _do_forget(self, request: dict[str, Any]) -> int:
        return self._history.drop(request["day"])

    def _do_compact(self, request: dict[str, Any]) -> bool:
        return self._lake.compact(request["day"], now_ms=request["now_ms"])

    def _do_vacuum(self, request: dict[str, Any]) -> int:
        return self._lake.vacuum(request["keep_seconds"], request["now_ms"])

    def _do_drop(self, request: dict[str, Any]) -> int:
        return self._lake.drop(request["day"])

    def _do_verify(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        return [asdict(f) for f in self._lake.verify()]

    def _alarm(self, text: str) -> None:
        self._say(alarm=text)

    def _say(self, **said: Any) -> None:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def request_name(hole: Hole) -> str:
    """How a hole is named to people."""
    return f"lake file {getattr(hole, 'path', '?')}"


def main() -> None:
    """The child process."""
    parser = argparse.ArgumentParser(description="the lake's writer; started by meterpulse up")
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    line = sys.stdin.readline()
    if not line:
        return  # the server was stopped at once
    settings = json.loads(line)
    log = LogSettings.model_validate(settings.pop("log"))
    import signal

    os.nice(10)  # acknowledging and answering go first; what the lake has not taken yet is in the log
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent ends this by closing the pipe
    try:
        _Child(given.data, **settings, log=log).run()
    except BrokenPipeError:  # the server was killed; what is committed is committed
        os._exit(1)


if __name__ == "__main__":
    main()
