"""Laws 1 and 2, with real kills: acknowledged ⊆ stored ⊆ sent, each once, whatever the moment. METERPULSE_KILLS: how many."""

from __future__ import annotations

import contextlib
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import crash
import pytest
from city import City

from meterpulse.model import crashpoint

KILLS = int(os.environ.pop("METERPULSE_KILLS", "200"))
pytestmark = pytest.mark.crash


class Lives:
    """One data directory and the script that lives and dies on it."""

    def __init__(self, data: Path, seed: int, count: int):
        self.data, self.seed, self.count = data, seed, count
        crash.prepare(data)
        self.bodies = crash.bodies(seed, count)
        self.acknowledged = 0
        self.sent_again, self._heard = 0, b""
        here = Path(crash.__file__)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parents[2]), *sys.path])}
        self.script = subprocess.Popen(
            [sys.executable, str(here)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def close(self) -> None:
        self.script.stdin.close()
        self.script.wait(10)

    def _line(self, timeout: float = 60) -> str:
        assert self._says_something(timeout), "the life says nothing"
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode().strip()

    def _says_something(self, timeout: float) -> bool:
        """Whether there is a whole line. The pipe is read here and nowhere else: what a file object had read ahead would not
        wake the selector."""
        if b"\n" not in self._heard:
            # Not select(): after a thousand tests in one process the pipe's number may be beyond what it takes.
            with selectors.DefaultSelector() as watched:
                watched.register(self.script.stdout, selectors.EVENT_READ)
                if watched.select(timeout):
                    heard = os.read(self.script.stdout.fileno(), 1 << 16)
                    assert heard, "the script has ended"
                    self._heard += heard
        return b"\n" in self._heard

    def live(self, *, at: str = "", kill_after: float | None = None, group: bool = True, pause: float = 0.002) -> bool:
        """One life: killed at a named point, or `kill_after` seconds after it opened. Was it killed by the point?"""
        job = {
            "data": str(self.data),
            "seed": self.seed,
            "count": self.count,
            "first": self.acknowledged,
            "at": at,
            "pause": pause,
        }
        self.script.stdin.write(json.dumps(job).encode() + b"\n")
        self.script.stdin.flush()
        pid = int(self._line().removeprefix("born "))
        # A kill before it is open counts too: recovery must survive being killed.
        deadline = time.monotonic() + (kill_after if kill_after is not None else 4)
        killed, last_sent = False, -1
        while True:
            if not killed and time.monotonic() >= deadline:
                killed = True
                with contextlib.suppress(ProcessLookupError):
                    (os.killpg if group else os.kill)(pid, signal.SIGKILL)
            if not self._says_something(10 if killed else max(0.0, min(0.05, deadline - time.monotonic()))):
                continue
            said, _, rest = self._line().partition(" ")
            if said == "sent":
                self.sent_again += int(rest) == last_sent
                last_sent = int(rest)
            elif said == "done":
                assert int(rest) == self.acknowledged
                self.acknowledged += 1
            elif said == "failed":
                raise AssertionError(rest)
            elif said == "dead":
                return not killed
            elif said == "all" and not at:
                deadline = min(deadline, time.monotonic() + 0.2)

    def check(self) -> None:
        """Opens what is left and compares everything with the acknowledged bodies; those cut off are sent again first."""
        city = City.__new__(City)
        city.data, city.shapes, city.now_ms = self.data, {s["id"]: s for s in crash.SHAPES}, crash.NOW
        city.config = crash.config_of(self.data)
        city.pipeline = city._open()
        try:
            parents = {s["area"]: "city" for s in crash.SHAPES} | {"city": None}
            city.oracle = crash_oracle(city, parents)
            for _source, readings in self.bodies[: self.acknowledged]:
                city.oracle.take(readings)
            if self.acknowledged < self.count:  # it may have been stored without an answer
                city.send(self.bodies[self.acknowledged][1], self.bodies[self.acknowledged][0])
                self.acknowledged += 1
            city.settle()
            city.must_agree()
        finally:
            city.pipeline.close()


def crash_oracle(city: City, parents: dict) -> object:
    from oracle import Oracle

    areas = city.pipeline.registry.areas
    return Oracle(city.shapes, parents, {name: areas.time_zone[areas.index(name)] for name in parents})


@pytest.fixture
def lives(tmp_path, request):
    made = Lives(tmp_path / "data", **request.param)
    yield made
    made.close()


@pytest.mark.parametrize("lives", [{"seed": 11, "count": 4000}], indirect=True)
def test_killed_at_each_named_point_nothing_acknowledged_is_lost_and_nothing_counts_twice(lives):
    rng, reached = random.Random(11), dict.fromkeys(crashpoint.POINTS, 0)
    reached = {point: 0 for point in reached if not point.startswith("record.")}  # see test_history.py
    for round_ in range(max(1, KILLS // 5 // len(reached))):
        for point in reached:
            in_the_lake = point.startswith("lake.")  # kills the lake's process, and the life goes on for a while
            patience = 1.5 if in_the_lake else 2.5 if round_ else 20
            reached[point] += (
                lives.live(at=f"{point}:{1 + rng.randrange(1 + round_)}", kill_after=patience) or in_the_lake
            )
        if round_ % 3 == 2:
            lives.check()
    lives.check()
    assert all(reached.values()), reached


@pytest.mark.parametrize("lives", [{"seed": 12, "count": 6000}], indirect=True)
def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_counts_twice(lives):
    rng = random.Random(12)
    for kill in range(max(1, KILLS * 4 // 5)):
        lives.live(kill_after=rng.choice((0.02, 0.1, 0.3, 0.6, 1.2)) * rng.random() * 2, group=rng.random() < 0.6)
        if kill % 40 == 39:
            lives.check()
    lives.check()


def test_with_the_log_in_kafka_killed_anywhere_nothing_is_lost_or_counts_twice(tmp_path, kafka, monkeypatch):
    settings = {
        "servers": kafka.bootstrap,
        "topic_prefix": "laws",
        "replication_factor": "1",
        "min_insync_replicas": "1",
    }
    monkeypatch.setenv("METERPULSE_LOG__ENGINE", "kafka")
    for name, value in settings.items():
        monkeypatch.setenv(f"METERPULSE_LOG__KAFKA__{name.upper()}", value)
    lives = Lives(tmp_path / "data", seed=12, count=400)
    try:
        killed_there = lives.live(at="log.appended:3", kill_after=20)
        for point in ("checkpoint.settled:2", "lake.committed:1"):
            lives.live(at=point, kill_after=4)
        for number in range(max(2, KILLS // 50)):
            lives.live(kill_after=0.4 * (number + 1))
        lives.check()
        assert killed_there and lives.acknowledged > 30
    finally:
        lives.close()
