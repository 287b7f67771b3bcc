"""Any history of a city: whatever is sent, in whatever order, and whatever happens to the machine between, the answers are a
plain loop's. Hypothesis makes the histories, and when one goes wrong it looks for the shortest that does.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from city import City, channels, config_for
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from oracle import Reading

from meterpulse.model.channel import Channel

HOUR = 3_600_000
START = int(datetime(2026, 3, 7, 20, tzinfo=UTC).timestamp() * 1000)
EXAMPLES = int(os.environ.get("HISTORIES", "8"))


class Histories(RuleBasedStateMachine):
    """Event time moves on in steps of minutes to hours; four channels in three zones."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="histories-"))
        config = config_for(self.root / "data")
        often = {"speed": config.speed.model_copy(update={"checkpoint_seconds": 0.1})}
        shapes = channels(4, ("America/New_York", "Australia/Lord_Howe", "UTC"))
        self.city = City(self.root / "data", shapes, now_ms=START + 400 * HOUR, config=config.model_copy(update=often))
        self.at, self.past = START, []

    def teardown(self) -> None:
        try:
            self.city.settle()
            self.city.must_agree()
            self.city.rebuild_all()
            self.city.must_agree()
        finally:
            self.city.pipeline.close()
            shutil.rmtree(self.root, ignore_errors=True)

    def _readings(self, rng: random.Random, at: int, n: int, spread_ms: int) -> list[Reading]:
        found = []
        for _ in range(n):
            start = at + rng.randrange(max(1, spread_ms // 5000)) * 5000 + rng.choice((0, 0, 0, 0, 1000, 4999))
            found.append(Reading(rng.choice(list(self.city.shapes)), start, 5, rng.randrange(10**7) * 1000))
        return found

    def _send(self, readings: list[Reading], source: str = "http") -> None:
        self.city.send(readings, source)
        self.past += readings

    @rule(rng=st.randoms(use_true_random=False), minutes=st.sampled_from([1, 5, 17, 60, 200]), n=st.integers(1, 40))
    def time_goes_on(self, rng, minutes, n):
        self._send(self._readings(rng, self.at, n, minutes * 60_000))
        self.at += minutes * 60_000

    @rule(rng=st.randoms(use_true_random=False), hours=st.sampled_from([1, 3, 30]))
    def some_come_late(self, rng, hours):
        self._send(self._readings(rng, self.at - hours * HOUR, rng.randrange(1, 10), HOUR))

    @precondition(lambda self: self.past)
    @rule(rng=st.randoms(use_true_random=False))
    def some_come_again(self, rng):
        self._send(rng.choices(self.past, k=rng.randrange(1, 20)))

    @precondition(lambda self: self.past)
    @rule(rng=st.randoms(use_true_random=False), revision=st.sampled_from([0, 1, 2, 9]))
    def some_are_revised(self, rng, revision):
        self._send([r._replace(quantity=r.quantity + 1000, revision=revision) for r in rng.choices(self.past, k=5)])

    @rule(rng=st.randoms(use_true_random=False), hours=st.sampled_from([0, 2, 26, 300]))
    def history_is_imported(self, rng, hours):
        self._send(self._readings(rng, self.at - hours * HOUR, rng.randrange(1, 30), 2 * HOUR), "import:file")

    @rule()
    def everybody_waits(self):
        self.city.breathe()

    @rule()
    def it_is_closed_and_opened(self):
        self.city.reopen()

    @rule()
    def the_newest_checkpoint_is_lost(self):
        self.city.pipeline.close()
        for found in sorted((self.city.data / "checkpoint").glob("at-*"))[-1:]:
            shutil.rmtree(found)
        self.city.pipeline = self.city._open()

    @rule()
    def all_checkpoints_are_lost(self):
        self.city.pipeline.close()
        shutil.rmtree(self.city.data / "checkpoint", ignore_errors=True)
        self.city.pipeline = self.city._open()

    @rule()
    def the_newest_checkpoint_is_torn(self):
        self.city.pipeline.close()
        for found in sorted((self.city.data / "checkpoint").glob("at-*"))[-1:]:
            os.truncate(found / "state.json", 40)
        self.city.pipeline = self.city._open()

    @rule()
    def the_lake_is_compacted(self):
        self.city.pipeline.lake.started.wait(20)
        self.city.pipeline.retention.compact()

    @rule()
    def everything_is_rebuilt(self):
        self.city.pipeline.lake.started.wait(20)
        self.city.rebuild_all()

    @precondition(lambda self: len(self.city.shapes) < 8)
    @rule()
    def a_channel_is_added(self):
        shape = dict(channels(9, ("Asia/Kathmandu",))[len(self.city.shapes)], area="10009")
        self.city.pipeline.registry.add_area("10009", parent="north")
        self.city.pipeline.registry.register([Channel.from_dict(shape)])
        self.city.shapes[shape["id"]] = shape
        self.city.oracle.parents["10009"] = "north"
        self.city.oracle.area_zones["10009"] = "America/New_York"

    @rule()
    def everything_is_compared(self):
        self.city.settle()
        self.city.must_agree()

    @invariant()
    def the_speed_layer_lives(self):
        assert not self.city.pipeline.runner.failed, self.city.pipeline.runner.alarms


Histories.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestHistories = pytest.mark.slow(Histories.TestCase)
