"""Compiles every kernel once, so that a server loads what it needs: `python -m meterpulse.prepare`, part of an installation.

A small demo city lives for some seconds in a directory of its own: heartbeats, a day of history, rebuilds, the record of a day,
answers. Without it the first server compiles as it goes, and keeps some 200 MB more in memory for as long as it runs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from meterpulse.config import load
from meterpulse.demo import Demo
from meterpulse.pipeline import Pipeline
from meterpulse.serving.answers import as_json
from meterpulse.serving.queries import UsageQuery, usage

_HOUSEHOLDS, _SECONDS_MAX = 60, 300


def prepare() -> float:
    """Seconds it took. Raises TimeoutError where the small city does not come to rest in five minutes."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="meterpulse-prepare-") as room:
        config = load(
            {
                "data": str(Path(room) / "data"),
                "log": {"max_bytes": 1 << 28},
                "stores": {"max_bytes": 1 << 28},
                "batch": {"quiet_seconds": 0},
                "demo": {"households": _HOUSEHOLDS, "history_days": 2},
            }
        )
        with Pipeline.open(config) as pipeline:
            demo = Demo(pipeline)
            demo.start()
            try:
                _until_recorded(pipeline, began + _SECONDS_MAX)
                _ask(pipeline)
            finally:
                demo.stop()
    return time.monotonic() - began


def _until_recorded(pipeline: Pipeline, deadline: float) -> None:
    records = pipeline.rebuilder.recording
    while len(records.days) < 2 or records.due() or pipeline.engine.marks:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no record of a day after {_SECONDS_MAX} s: {pipeline.status()}")
        time.sleep(0.1)


def _ask(pipeline: Pipeline) -> None:
    channel = pipeline.registry.table.ids(np.zeros(1, np.uint32))[0].as_py()
    for values in ("measured", "effective"):
        for grain in ("5m", "1h", "1d"):
            as_json(usage(pipeline, UsageQuery(channel=channel, grain=grain, values=values)))
        as_json(
            usage(
                pipeline,
                UsageQuery(area=pipeline.registry.areas.names[0], utility="electricity", grain="1h", values=values),
            )
        )


if __name__ == "__main__":
    print("compiling the kernels, once; about a minute", file=sys.stderr, flush=True)
    print(f"done in {prepare():.0f} s", file=sys.stderr)
