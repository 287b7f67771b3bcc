"""The clock of a file: local stamps become instants, also on the two days a year when it is moved.

>>> clock = Clock("Europe/Lisbon")
>>> local = np.array([1_319_936_400_000])            # 2011-10-30T01:00, a time that came twice
>>> clock.offsets(local)[0].tolist(), clock.offsets(local)[1].tolist()
([3600000], [0])
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo

import numpy as np

from meterpulse.model.window import zone

# Offsets change on whole quarter hours in every zone that meters are in.
_STEP_MS = 900_000
_EPOCH = datetime(1970, 1, 1)
_FIXED = re.compile(r"UTC([+-])(\d\d):?(\d\d)")


class Clock:
    """A zone by its IANA name, or a fixed offset such as UTC+10:00."""

    def __init__(self, name: str):
        self.name = name
        fixed = _FIXED.fullmatch(name)
        if fixed:
            span = timedelta(hours=int(fixed[2]), minutes=int(fixed[3]))
            self._zone: tzinfo = timezone(span if fixed[1] == "+" else -span)
        else:
            self._zone = zone(name)
        self._known: dict[int, tuple[int, int]] = {}

    @property
    def moves(self) -> bool:
        """Whether it may be moved for summer time."""
        return not isinstance(self._zone, timezone) and self.name not in ("UTC", "Etc/UTC")

    @property
    def zone_name(self) -> str:
        """An IANA zone with the same days, for a channel."""
        fixed = _FIXED.fullmatch(self.name)
        if not fixed:
            return self.name
        if fixed[3] != "00":
            raise ValueError(
                f"{self.name}: only whole hours have a zone of their own; name the place, such as Asia/Kolkata"
            )
        hours = int(fixed[2])
        return f"Etc/GMT{'-' if fixed[1] == '+' else '+'}{hours}" if hours else "UTC"

    def offsets(self, local_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The offset of each local time in ms, if it is the first of its kind and if it is the second.

        Equal: the usual case. The first larger: the hour came twice. The second larger: the clock skipped it.
        """
        steps, where = np.unique(local_ms // _STEP_MS, return_inverse=True)
        table = np.array([self._of(step) for step in steps.tolist()], np.int64).reshape(-1, 2)
        return table[where, 0], table[where, 1]

    def _of(self, step: int) -> tuple[int, int]:
        known = self._known.get(step)
        if known is None:
            at = (_EPOCH + timedelta(milliseconds=step * _STEP_MS)).replace(tzinfo=self._zone)
            first, second = (at.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1))
            known = int(first.total_seconds() * 1000), int(second.total_seconds() * 1000)
            if len(self._known) > 500_000:
                self._known.clear()
            self._known[step] = known
        return known


class SecondPass:
    """Which rows of a repeated hour belong to its second pass: those of a channel whose stamps have gone back before.

    It remembers the last such stamp of every channel, so rows come in the order of the file and of time. Where intervals
    are shorter than the hour, a stamp that stands twice in a row is a duplicate and not the hour's second pass.
    """

    _SAME_NIGHT_MS = 86_400_000

    def __init__(self, interval_seconds: int) -> None:
        self._step_ms = 0 if interval_seconds >= 3_600 else 1
        self._last: dict[str, tuple[int, bool]] = {}

    def of(self, keys: list[str], local_ms: list[int]) -> list[bool]:
        """For rows whose time came twice, in their order."""
        out = []
        for key, at in zip(keys, local_ms, strict=True):
            last, second = self._last.get(key, (-(2**62), False))
            second = abs(at - last) < self._SAME_NIGHT_MS and (second or at <= last - self._step_ms)
            self._last[key] = at, second
            out.append(second)
        return out
