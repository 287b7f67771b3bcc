"""A small data folder made by the command line itself, and a running server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from meterpulse.cli import main

LONDON = """\
LCLid,stdorToU,DateTime,KWH/hh (per half hour) 
MAC1,Std,2013-03-30 23:30:00.0000000, 0.219 
MAC1,Std,2013-03-31 00:00:00.0000000, 0.241 
MAC1,Std,2013-03-31 00:00:00.0000000, 0.241 
MAC1,Std,2013-03-31 00:30:00.0000000, 1.0039999 
MAC1,Std,2013-03-31 00:42:27.0000000,Null
MAC1,Std,2013-03-31 01:00:00.0000000, 0 
MAC2,ToU,2013-03-31 00:30:00.0000000, 0.1 
MAC2,ToU,2013-03-31 00:42:27.0000000, 0.025 
"""  # noqa: W291 - the blanks are in the originals


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("METERPULSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Run a command here: (exit code, stdout)."""

    def call(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return call


@pytest.fixture(scope="module")
def london(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("files") / "london.csv"
    file.write_text(LONDON, encoding="utf-8")
    return file


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen
    data: Path
    url: str

    def stop(self) -> float:
        """Ctrl-C; how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        return time.monotonic() - began


def up(data: Path, *options: str) -> Running:
    """`meterpulse up` on a free port."""
    command = [sys.executable, "-m", "meterpulse", "up", "--data", str(data), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=data.parent)
    assert process.stdout is not None
    for line in process.stdout:
        if "http://" in line:
            url = line[line.index("http://") :].split()[0]
            break
    else:
        raise AssertionError(f"ended with {process.wait()}")
    written = json.loads((data / "server.json").read_text(encoding="utf-8"))
    assert written["url"] == url
    return Running(process, data, url)


@pytest.fixture(scope="session")
def start():
    """Start a server on a folder; whoever calls it stops it."""
    return up


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = up(tmp_path_factory.mktemp("city") / "data", "--no-demo")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()
