"""N homes out of one, none a copy of another: each has its weeks in another order and uses another share.

Home 0 is the data itself. Copy j of a usage point, named `<usage point>~j`, takes two things from a hash of that name:

- A shift by whole weeks (whole days where the data has less than four weeks), round the end of the data: it uses in its
  first week what the data used in its fifth. There are up to twelve of them.
- A percentage from 50 to 150 of every quantity, rounded half to even to a whole thousandth. Volts are left as they are.

The same name gives the same home on any machine, and every number follows from one of the data's by whole-number arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xxhash

from meterpulse.model.channel import Channel
from meterpulse.model.quantity import unit_of

SHIFTS_MAX = 12  # different ones: each wants its own day in memory
_WEEK = 7


@dataclass(frozen=True)
class Copies:
    """Channels made of others. Arrays are by the new channel's number."""

    channels: list[Channel]
    source: np.ndarray  # int64[n], which of the given channels
    shift_days: np.ndarray  # int64[n]
    percent: np.ndarray  # int64[n]


def period_of(days: int) -> int:
    """After how many days a data set begins again: whole weeks, or whole days where it has less than one week."""
    return days if days < _WEEK else -(-days // _WEEK) * _WEEK


def copies_of(channels: list[Channel], homes: int, days: int) -> Copies:
    """`homes` of each usage point, the first of them as it is; `days` is how many the data has."""
    period = period_of(days)
    unit = _WEEK if period >= 4 * _WEEK else 1
    units = period // unit
    shifts = [unit * k for k in range(0, units, max(1, units // SHIFTS_MAX))][:SHIFTS_MAX]
    made, source, shift_days, percent = [], [], [], []
    for number, channel in enumerate(channels):
        point = channel.usage_point or channel.id
        is_voltage = unit_of(channel.unit).dimension == "voltage"
        for copy in range(homes):
            digest = xxhash.xxh3_64_intdigest(f"{point}~{copy}".encode())
            others = shifts[1:] or shifts
            made.append(_named(channel, copy) if copy else channel)
            source.append(number)
            shift_days.append(others[digest % len(others)] if copy else 0)
            percent.append(50 + (digest >> 32) % 101 if copy and not is_voltage else 100)
    return Copies(made, *(np.array(column, np.int64) for column in (source, shift_days, percent)))


def _named(channel: Channel, copy: int) -> Channel:
    def name(text: str | None) -> str | None:
        return text and f"{text}~{copy}"

    point = channel.usage_point
    id = channel.id
    for whole in (channel.meter, point):
        if whole and id.startswith(f"{whole}:"):
            return replace(
                channel, id=f"{whole}~{copy}{id[len(whole) :]}", usage_point=name(point), meter=name(channel.meter)
            )
    return replace(channel, id=f"{id}~{copy}", usage_point=name(point), meter=name(channel.meter))


def share(quantity: np.ndarray, percent: np.ndarray) -> np.ndarray:
    """int64: so many percent of each quantity, rounded half to even.

    >>> share(np.array([150, 250, 7]), np.array([101, 101, 50])).tolist()
    [152, 252, 4]
    """
    quotient, rest = np.divmod(quantity * percent, 100)
    return quotient + ((rest > 50) | ((rest == 50) & (quotient & 1 == 1)))
