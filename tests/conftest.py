"""What is quick runs first: tests that take long, drive a browser or kill processes come after all others."""

from __future__ import annotations

import pytest

from tests.services import require

LATER = ("slow", "browser", "crash")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(
        key=lambda item: max(
            (LATER.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in LATER), default=0
        )
    )


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
