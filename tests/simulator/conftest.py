from __future__ import annotations

import pytest

from meterpulse.simulator import City


@pytest.fixture(scope="session")
def city() -> City:
    """A small city in which everything rare is frequent."""
    return City(households=400, seed=3, registers=0.2, solar=0.3, gauges=0.1, cars=0.3)
