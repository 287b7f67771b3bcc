"""A day that ends between the moment its rebuild looked at the boundary and the moment its windows are written."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from city import City, channels
from oracle import Reading

HOUR = 3_600_000
DAY = int(datetime(2026, 3, 7, tzinfo=UTC).timestamp() * 1000)


def test_its_hours_and_days_are_those_of_the_rebuilt_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with City(tmp_path, channels(2, ("UTC",))) as city:
        names = list(city.shapes)
        city.send(Reading(name, DAY + 10 * HOUR, 5, 7_000_000) for name in names)
        city.send(Reading(name, DAY + 12 * HOUR, 5, 5_000_000) for name in names)
        _wait_until(lambda: city.pipeline.keeper.boundary_ms > DAY + 11 * HOUR)
        pipeline, files, ended = city.pipeline, city.pipeline.lake.files, []

        def files_when_the_day_has_ended(day: int):
            if not ended:
                ended.append(day)
                city.send(Reading(name, DAY + 60 * HOUR, 5, 1_000_000) for name in names)
                _wait_until(lambda: DAY // (24 * HOUR) in pipeline.keeper.rolled)
            return files(day)

        monkeypatch.setattr(pipeline.lake, "files", files_when_the_day_has_ended)
        city.send(Reading(name, DAY + 10 * HOUR, 5, 8_000_000, revision=1) for name in names)
        city.settle()
        assert ended == [DAY // (24 * HOUR)]
        city.must_agree()


def _wait_until(true) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
