"""What is quick runs first: tests that take long, drive a browser or kill processes come after all others.

Several workers share the tests. A file with a server or a city of its own stays with one worker, so do all tests of the browser
and all that need the brokers; what is slow by itself is handed out one test at a time.
"""

from __future__ import annotations

import pytest

from tests.services import require

LATER = ("browser", "slow", "crash")
BROKERS = {"kafka", "three_brokers"}


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    items.sort(key=_when)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_together(item)))


def _when(item: pytest.Function) -> int:
    late = max((LATER.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in LATER), default=0)
    return min(late, 1) if _needs(item) & BROKERS else late  # the longest queue begins early


def _together(item: pytest.Function) -> str:
    """The name of the tests that stay with one worker."""
    if item.get_closest_marker("browser"):
        return "browser"
    if _needs(item) & BROKERS:
        return "brokers"
    shared = any(found[-1].scope == "module" for found in item._fixtureinfo.name2fixturedefs.values())
    return item.path.stem if shared or not _when(item) else item.nodeid


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
