"""What the benchmarks share: a server of their own, a table of results, and the machine they ran on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil


class Server:
    """`meterpulse up --no-demo` on a free loopback port, in a folder of its own; `stop` removes the folder."""

    def __init__(
        self,
        settings: dict[str, str] | None = None,
        folder: Path | None = None,
        arguments: tuple[str, ...] = ("--no-demo",),
    ):
        self.folder = folder or Path(tempfile.mkdtemp(prefix="meterpulse-bench-"))
        self._settings, self._arguments = settings or {}, arguments
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.peak_bytes = 0

    def start(self, wait_seconds: float = 120) -> float:
        """Seconds until it takes readings."""
        began = time.perf_counter()
        self._log = open(self.folder / "server.log", "ab")
        command = [
            sys.executable,
            "-m",
            "meterpulse",
            "up",
            *self._arguments,
            "--data",
            str(self.folder / "data"),
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(
            command, env={**os.environ, **self._settings}, stdout=self._log, stderr=self._log, start_new_session=True
        )
        while time.perf_counter() - began < wait_seconds:
            try:
                urllib.request.urlopen(self.url + "/health/live", timeout=5).read()
                return time.perf_counter() - began
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit((self.folder / "server.log").read_text()[-3000:]) from None
                time.sleep(0.02)
        raise SystemExit("the server did not start")

    def get(self, path: str, timeout: float = 600) -> bytes:
        """The body of a GET."""
        return urllib.request.urlopen(self.url + path, timeout=timeout).read()

    def post(self, path: str, body: bytes, kind: str) -> dict[str, Any]:
        """The answer to a POST."""
        request = urllib.request.Request(self.url + path, body, {"content-type": kind})
        return json.loads(urllib.request.urlopen(request, timeout=600).read())

    def status(self) -> dict[str, Any]:
        """The JSON of /v1/status."""
        return json.loads(self.get("/v1/status"))

    def wait_ready(self, limit_seconds: float = 600) -> float:
        """Seconds until the log is replayed."""
        began = time.perf_counter()
        while time.perf_counter() - began < limit_seconds:
            try:
                self.get("/health/ready", 5)
                return time.perf_counter() - began
            except OSError:
                time.sleep(0.02)
        raise SystemExit("not ready")

    def settle(self, limit_seconds: float = 1800) -> float:
        """Seconds until every reading is in every answer."""
        began = time.perf_counter()
        while time.perf_counter() - began < limit_seconds:
            status = self.status()
            if status["lag"]["readings"] == 0 and status["dirty_days"] == 0:
                return time.perf_counter() - began
            time.sleep(0.2)
        raise SystemExit(f"not settled: {status}")

    def memory_bytes(self) -> int:
        """Private and shared once: PSS of the server and its children."""
        total = 0
        for process in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        self.peak_bytes = max(self.peak_bytes, total)
        return total

    def cpu_seconds(self) -> float:
        """User and system time of the server and its children so far."""
        total = 0.0
        for process in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
        return total

    def resident_bytes(self) -> int:
        """RSS of the server and its children together; cheap, so it can be sampled often."""
        total = 0
        for process in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]:
            try:
                info = process.memory_info()
                total += info.rss
            except psutil.Error:
                continue
        return total

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, *, keep: bool = False) -> None:
        """Ctrl-C, then the folder goes."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._log.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def machine() -> str:
    """One line."""
    model = next(
        (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def report(name: str, rows: list[tuple[str, str, str]], result: dict[str, Any], save: bool) -> None:
    """Prints the table (what, figure, must) and keeps it under bench/results."""
    width = max(len(r[0]) for r in rows)
    lines = [f"{name}: {machine()}", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), ""]
    lines += [f"{what:<{width}}  {figure:>24}  {must}" for what, figure, must in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    if save:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text(text)
        (folder / f"{name}.json").write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
