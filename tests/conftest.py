"""What is quick runs first: tests that take long, drive a browser or kill processes come after all others."""

from __future__ import annotations

import pytest

LATER = ("slow", "browser", "crash")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(
        key=lambda item: max(
            (LATER.index(mark.name) + 1 for mark in item.iter_markers() if mark.name in LATER), default=0
        )
    )
