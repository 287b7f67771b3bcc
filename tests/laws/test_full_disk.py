"""A disk that fills up, really: a small tmpfs. Refused with 507 and nothing half taken; answers go on; it resumes by itself."""

from __future__ import annotations

import os
import random
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from city import City, channels, config_for
from oracle import Reading

from meterpulse.log import LogFull

HOUR = 3_600_000
START = int(datetime(2026, 3, 7, 18, tzinfo=UTC).timestamp() * 1000)
SIZE = 48 << 20


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode:
        assert not (os.environ.get("CI") == "true" and os.geteuid() == 0), f"CI mounts a small disk: {mounted.stderr}"
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Takes all room but `leave` bytes."""
    ballast = disk / "ballast"
    with open(ballast, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65_536))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))
    return ballast


def body(rng: random.Random, city: City, at_ms: int, n: int, seconds: int = 3600) -> list[Reading]:
    ids = list(city.shapes)
    return [
        Reading(rng.choice(ids), at_ms + rng.randrange(seconds // 5) * 5000, 5, rng.randrange(10**9) * 1000)
        for _ in range(n)
    ]


@pytest.mark.parametrize("leave", [0, 16 << 10, 256 << 10, 1 << 20])
def test_a_full_disk_refuses_answers_and_resumes(disk, leave):
    rng = random.Random(leave)
    with City(
        disk / "data",
        channels(6, ("America/New_York", "UTC")),
        now_ms=START + 48 * HOUR,
        config=config_for(disk / "data"),
    ) as city:
        for hour in range(4):
            city.send(body(rng, city, START + hour * HOUR, 300))
            city.breathe()
        city.settle()
        city.must_agree()
        ballast = fill(disk, leave)
        refused = taken = 0
        for k in range(400):  # acknowledged ones count, the others must not be half there
            readings = body(rng, city, START + 4 * HOUR + k * 40_000, 200, 300)
            try:
                city.send(readings)
                taken += 1
            except LogFull as full:
                refused += 1
                assert "no space left" in str(full)
                if refused > 20:
                    break
            if k % 20 == 0:
                city.answer("1h", channel="E-0000")  # reads go on
        assert refused > 20
        assert not city.pipeline.runner.failed
        # What was acknowledged is in the answers, from memory if the store has no room.
        wait(lambda: city.pipeline.engine.applied == city.pipeline.log.end)
        windows = {at: row for at, row in city.answer("5m", channel="E-0000").items()}
        live = {at: row for at, row in city.oracle.channel("E-0000", "5m").items()}
        assert windows == live
        ballast.unlink()
        city.send(body(rng, city, START + 9 * HOUR, 50))
        city.settle()
        city.must_agree()
        city.reopen()
        city.settle()
        city.must_agree()
        city.rebuild_all()
        city.must_agree()
        assert taken + refused > 20


def test_a_city_on_a_full_disk_starts_and_answers(disk):
    rng = random.Random(1)
    with City(
        disk / "data",
        channels(6, ("America/New_York", "UTC")),
        now_ms=START + 48 * HOUR,
        config=config_for(disk / "data"),
    ) as city:
        for hour in range(4):
            city.send(body(rng, city, START + hour * HOUR, 300))
            city.breathe()
        city.settle()
        ballast = fill(disk)
        city.reopen()
        wait(city.pipeline.runner.ready.is_set)
        city.must_agree()
        with pytest.raises(LogFull):
            while True:
                city.send(body(rng, city, START + 5 * HOUR, 300))
        ballast.unlink()
        city.send(body(rng, city, START + 6 * HOUR, 300))
        city.settle()
        city.must_agree()


def test_over_http_a_full_disk_is_a_507_with_when_to_come_back(disk):
    """The mapping of the log's refusal, in front of a real log on a real full disk."""
    import asyncio

    from meterpulse.pipeline import answer
    from meterpulse.serving.intake import Intake

    rng = random.Random(2)
    with City(disk / "data", channels(6, ("UTC",)), now_ms=START + 48 * HOUR, config=config_for(disk / "data")) as city:
        city.send(body(rng, city, START, 100))
        ballast = fill(disk)
        lines = "\n".join(
            f'{{"channel": "E-0000", "start": "2026-03-07T19:{k // 60 % 60:02d}:{k % 60:02d}Z", '
            f'"seconds": 1, "quantity": "{rng.random()}"}}'
            for k in range(3000)
        ).encode()

        async def post() -> tuple[int, dict]:
            sent = []

            async def receive():
                return {"type": "http.request", "body": lines, "more_body": False}

            async def send(message):
                sent.append(message)

            scope = {
                "headers": [(b"content-type", b"application/x-ndjson"), (b"content-length", str(len(lines)).encode())],
                "query_string": b"",
            }
            await intake(scope, receive, send)
            return sent[0]["status"], dict(sent[0]["headers"])

        intake = Intake(city.pipeline, answer)
        statuses = [asyncio.run(post()) for _ in range(40)]
        status, headers = statuses[-1]
        assert status == 507 and headers[b"retry-after"]
        ballast.unlink()
        assert asyncio.run(post())[0] == 200


def wait(until, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)
