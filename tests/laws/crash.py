"""Lives and deaths of a pipeline, many on one data directory: a script that the crash tests drive over its pipes.

It imports once and forks a process for each life, so that a restart costs what opening the data costs. A life sends the
bodies of a stream that is a function of the seed, one after the other, and says `sent <i>` before and `done <i>` after each;
it ends when it is killed, or killed at a named point, or when all is sent.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from city import NDJSON, channels, config_for, line_of
from oracle import Reading

from meterpulse.config import Config
from meterpulse.model import crashpoint
from meterpulse.model.channel import Channel
from meterpulse.pipeline import Pipeline

ZONES = ("America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
START = int(datetime(2026, 3, 7, 18, tzinfo=UTC).timestamp() * 1000)
NOW = START + 40 * 24 * 3_600_000
SHAPES = channels(10, ZONES)


def config_of(data: Path) -> Config:
    """Everything happens often: checkpoints and commits several times a second, windows retired after two more."""
    config = config_for(data, speed={"idle_seconds": 1, "allowed_lateness_seconds": 300, "watermark_delay_seconds": 0})
    often = {
        "speed": config.speed.model_copy(update={"checkpoint_seconds": 0.1}),
        "lake": config.lake.model_copy(update={"commit_seconds": 0.1}),
    }
    return config.model_copy(update=often)


def bodies(seed: int, count: int) -> list[tuple[str, list[Reading]]]:
    """(source, readings) of each body: in order and not, late, duplicated, revised, off the grid, and history."""
    rng, found = random.Random(seed), []
    past: list[Reading] = []
    for i in range(count):
        at = START + i * 120_000
        readings = []
        for _ in range(rng.randrange(1, 12)):
            shape, chance = rng.choice(SHAPES), rng.random()
            if past and chance < 0.2:
                readings.append(rng.choice(past[-60:]))
            elif past and chance < 0.3:
                old = rng.choice(past)
                readings.append(old._replace(quantity=old.quantity + 1000, revision=old.revision + rng.randrange(3)))
            else:
                back = rng.choice((0, 0, 0, 1, 3, 60, 600)) * 300_000
                start = (at - back) // 5000 * 5000 + rng.choice((0, 0, 0, 0, 0, 1000, 2500))
                readings.append(Reading(shape["id"], start, 5, rng.randrange(1, 10**6) * 1000))
        past += readings
        found.append(("import:old" if rng.random() < 0.04 else "http", readings))
    return found


def prepare(data: Path) -> None:
    """Areas and channels."""
    with Pipeline.open(config_of(data), clock=lambda: NOW) as p:
        p.registry.add_area("city", "city", time_zone="America/New_York")
        for shape in SHAPES:
            p.registry.add_area(shape["area"], parent="city")
        assert p.registry.register([Channel.from_dict(s) for s in SHAPES]).created == len(SHAPES)


def life(job: dict[str, Any]) -> None:
    """Sends the bodies from job["first"] on."""
    os.environ[crashpoint.VARIABLE] = job["at"] if job["at"].startswith("lake.") else ""
    crashpoint.arm(job["at"])
    units = {s["id"]: s["unit"] for s in SHAPES}
    p = Pipeline.open(config_of(Path(job["data"])), clock=lambda: NOW)
    tell("open")
    for i, (source, readings) in enumerate(bodies(job["seed"], job["count"])):
        if i >= job["first"]:
            tell(f"sent {i}")
            p.ingest(p.take("\n".join(line_of(r, units[r.channel]) for r in readings).encode(), NDJSON), source)
            tell(f"done {i}")
            time.sleep(job["pause"])
    tell("all")
    while True:  # until killed
        time.sleep(1)


def tell(text: str) -> None:
    """One line, in one write."""
    os.write(1, f"{text}\n".encode())


def main() -> None:
    """One life per line of JSON on stdin."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                life(json.loads(line))
            except BaseException as error:
                tell(f"failed {type(error).__name__}: {error}")
            os._exit(1)
        tell(f"born {pid}")
        _, status = os.waitpid(pid, 0)
        tell(f"dead {status}")


if __name__ == "__main__":
    main()
