"""What is quick runs first: tests that take long, drive a browser or kill processes come after all others.

Several workers share the tests, a file at a time, so that what shares a server or a city stays together. All tests of the browser
are one queue, all that need the brokers another; what is slow by itself is handed out one test at a time.
"""

from __future__ import annotations

import pytest

from tests.services import require

LATER = ("browser", "slow", "crash")
BROKERS = {"kafka", "three_brokers"}
ALONE = (
    "tests/lake/test_crash.py",
    "tests/laws/test_any_history.py",
    "tests/laws/test_crash.py",
    "tests/laws/test_history.py",
    "tests/laws/test_planned_rebuilds.py",
    "tests/laws/test_speed_is_batch_is_a_plain_loop.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Queues(LoadScopeScheduling):
        """Tests of one queue stay with one worker, in order."""

        def _split_scope(self, nodeid: str) -> str:
            path, _, _ = nodeid.partition("::")
            if path.startswith("tests/browser/") and not path.endswith("/test_mount.py"):
                return "browser"
            if path.endswith("/test_kafka.py"):
                return "brokers"
            return nodeid if path in ALONE else path

    return Queues(config, log)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    items.sort(key=_when)


def _when(item: pytest.Function) -> int:
    late = max((LATER.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in LATER), default=0)
    return min(late, 1) if _needs(item) & BROKERS else late  # the longest queue begins early


def _needs(item: pytest.Function) -> set[str]:
    return set(item.fixturenames)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """One broker for all tests that need no more: each takes topics of its own."""
    with require("kafka").Kafka(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def three_brokers(tmp_path_factory):
    """Three, for what happens when one of them is killed. Whoever kills one starts it again."""
    with require("kafka").Kafka(tmp_path_factory.mktemp("three-brokers"), nodes=3) as cluster:
        yield cluster
