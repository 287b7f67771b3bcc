"""What each action would put in the place of a span's values. Pure: the same values in, the same proposal out, so that a preview
is what the commit then does. Values are int64 thousandths of the base unit, and every rounding is half to even.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np

from meterpulse.model.quality import FLAGS, Quality
from meterpulse.model.quantity import QUANTITY_MAX
from meterpulse.model.window import zone

MISSING = -1  # in place of a quality: there is no value
WEEK = timedelta(days=7)
# A person's value is ESPI's "edited"; NEM12's final substitute keeps how it was made: linear, like day, or as agreed.
_METHOD = {"interpolate": 17, "copy week": 14, "set": 16}


class CannotPropose(ValueError):
    """The action does not fit these intervals; the message says what would."""


@dataclass(frozen=True)
class Values:
    """Consecutive intervals of one channel: int64[n] and int32[n], quality MISSING where there is no value.

    `raw` is what was measured, `effective` what stands today.
    """

    start_ms: int
    step_ms: int
    raw: np.ndarray
    raw_quality: np.ndarray
    effective: np.ndarray
    quality: np.ndarray

    def __len__(self) -> int:
        return len(self.raw)


Lookup = Callable[[int], int | None]  # start in ms → the effective value there, None where there is none


@dataclass(frozen=True)
class Surroundings:
    """What a proposal may need besides the span: the zone whose weeks are meant, and values elsewhere."""

    time_zone: str
    value_at: Lookup


def edited(action: str) -> int:
    """The packed quality of a value that a person made."""
    return int(Quality.EDITED) | _METHOD[action] << 8 | FLAGS.index("F") << 16


def propose(
    action: str, values: Values, around: Surroundings, given: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(quantity, quality) for every interval of the span; empty for `leave`. Raises CannotPropose."""
    if action == "leave":
        return np.empty(0, np.int64), np.empty(0, np.int32)
    if action == "accept raw":
        return _accepted(values.raw, values.raw_quality, "measured", int(Quality.VERIFIED))
    if action == "accept estimate":
        return _accepted(values.effective, values.quality, "estimated", None)
    made = {"set": _set, "interpolate": _interpolate, "copy week": _copy_week}[action](values, around, given)
    return made, np.full(len(values), edited(action), np.int32)


def _accepted(
    quantity: np.ndarray, quality: np.ndarray, word: str, becomes: int | None
) -> tuple[np.ndarray, np.ndarray]:
    missing = int((quality == MISSING).sum())
    if missing:
        raise CannotPropose(f"{missing} of {len(quality)} intervals have no {word} value; interpolate or copy a week")
    return quantity.copy(), quality.copy() if becomes is None else np.full(len(quality), becomes, np.int32)


def _set(values: Values, around: Surroundings, given: np.ndarray | None) -> np.ndarray:
    if given is None or len(given) not in (1, len(values)):
        raise CannotPropose(f"set takes one value for all, or one for each of the {len(values)} intervals")
    if np.abs(given).max() > QUANTITY_MAX:
        raise CannotPropose("a value is more than a meter measures")
    return np.broadcast_to(given.astype(np.int64), len(values)).copy()


def _interpolate(values: Values, around: Surroundings, given: np.ndarray | None) -> np.ndarray:
    """A straight line between the value before the span and the one after it."""
    before = around.value_at(values.start_ms - values.step_ms)
    after = around.value_at(values.start_ms + len(values) * values.step_ms)
    if before is None or after is None:
        side = "before" if before is None else "after"
        raise CannotPropose(f"there is no value right {side} these intervals; copy a week, or set values")
    part = Fraction(after - before, len(values) + 1)
    return np.array([round(before + part * (i + 1)) for i in range(len(values))], np.int64)


def _copy_week(values: Values, around: Surroundings, given: np.ndarray | None) -> np.ndarray:
    """The values of the same hours on the wall clock a week earlier."""
    found = [around.value_at(_week_before(at, around.time_zone)) for at in _starts(values)]
    missing = found.count(None)
    if missing:
        raise CannotPropose(
            f"{missing} of these {len(found)} intervals have no value a week before; interpolate, or set"
        )
    return np.array(found, np.int64)


def _starts(values: Values) -> list[int]:
    return [values.start_ms + i * values.step_ms for i in range(len(values))]


def _week_before(at_ms: int, time_zone: str) -> int:
    """The same time on the wall clock a week earlier; of an hour that is there twice the same one of both."""
    local = datetime.fromtimestamp(at_ms / 1000, zone(time_zone))
    return round((local - WEEK).astimezone(UTC).timestamp() * 1000)
