"""A run's speed: event time against the time outside. The clock and the sleep come in."""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """`wait_until` of `simulate`: keeps event time at `speed` times real time, and never makes up for a late start by
    waiting less.

    >>> clock = iter([0, 0, 4_000]).__next__
    >>> slept = []
    >>> pace = Pace(now_ms=clock, sleep=slept.append, origin_ms=1_000_000)
    >>> pace(1_005_000)
    >>> pace(1_010_000)
    >>> slept
    [5.0, 6.0]
    """

    def __init__(self, now_ms: Callable[[], int], sleep: Callable[[float], object], origin_ms: int, speed: float = 1.0):
        """Event time `origin_ms` is now; with `origin_ms` = now and speed 1, event time is real time."""
        if not speed > 0:
            raise ValueError(f"speed is {speed}; it takes a number above 0, such as 60 for a minute each second")
        self._now_ms, self._sleep, self._speed = now_ms, sleep, speed
        self._origin_ms, self._begun_ms = origin_ms, now_ms()

    def __call__(self, event_ms: int) -> None:
        """Sleep until event time `event_ms` has come."""
        left = (event_ms - self._origin_ms) / self._speed - (self._now_ms() - self._begun_ms)
        if left > 0:
            self._sleep(left / 1000)
