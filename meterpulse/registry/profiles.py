"""Profiles: what channels have in common is kept once, and a channel refers to it by a number of two bytes."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from meterpulse.model.channel import Channel, ChannelError, CustomerClass, Direction, Kind, Profiles, Utility
from meterpulse.model.quantity import unit_of

TRAITS = ("utility", "unit", "direction", "kind", "interval_seconds", "multiplier", "digits", "class", "time_zone")
"""The fields of a channel that make its profile."""

_MOST = 65_535


class Profile(NamedTuple):
    """One combination; names as in the public face, `unit` in its canonical spelling, `multiplier` as plain digits."""

    utility: str
    unit: str
    direction: str
    kind: str
    interval_seconds: int
    multiplier: str
    digits: int | None
    customer_class: str
    time_zone: str

    def fields(self) -> dict[str, Any]:
        """The fields of a channel's public shape that a profile holds."""
        return dict(zip(TRAITS, self, strict=True))


class ProfileBook:
    """All profiles, numbered in the order of their first use. Grows only."""

    def __init__(self, rows: Iterable[Profile] = ()):
        self.rows = list(rows)
        self._numbers = {profile: number for number, profile in enumerate(self.rows)}
        self._columns: Profiles | None = None

    def number(self, profile: Profile) -> int:
        """The number of a profile, which may be new; raises ChannelError when there are too many."""
        if profile not in self._numbers:
            if len(self.rows) == _MOST:
                raise ChannelError(
                    f"more than {_MOST} combinations of {', '.join(TRAITS)}; give channels of a kind the same ones"
                )
            self._numbers[profile] = len(self.rows)
            self.rows.append(profile)
            self._columns = None
        return self._numbers[profile]

    def columns(self) -> Profiles:
        """The profiles as arrays, as of now."""
        if self._columns is None:
            self._columns = _columns(self.rows)
        return self._columns


def profile_of(told: dict[str, Any], registered: Profile | None = None) -> Profile:
    """The profile of a channel of which the fields `told` were given, on top of what is registered; raises
    ChannelError.

    What readings depend on cannot change: they are stored in the base unit of their dimension and summed into the days
    of their time zone.
    """
    before = registered.fields() if registered else {}
    channel = Channel.from_dict({"id": "-", **before, **told})
    multiplier = channel.multiplier.normalize()
    after = Profile(
        channel.utility,
        unit_of(channel.unit).name,
        channel.direction,
        channel.kind,
        channel.interval_seconds,
        f"{multiplier:f}",
        channel.digits,
        channel.class_,
        channel.time_zone,
    )
    if registered:
        for field in ("utility", "direction", "kind", "time_zone"):
            if before[field] != getattr(after, field):
                raise ChannelError(
                    f"{field} is {getattr(after, field)!r}, but the channel is registered as {before[field]!r} and "
                    f"has its readings stored so; give the new stream a new id"
                )
        if unit_of(registered.unit).dimension != unit_of(after.unit).dimension:
            raise ChannelError(
                f"unit {after.unit!r} measures {unit_of(after.unit).dimension}, but the channel is registered in "
                f"{registered.unit!r} and has its readings stored so; give the new stream a new id"
            )
    return after


def public_multiplier(text: str) -> int | float:
    """The multiplier as the public shape has it: whole numbers as such."""
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else float(value)


def _columns(rows: list[Profile]) -> Profiles:
    zones = list(dict.fromkeys(row.time_zone for row in rows))
    zone_number = {zone: number for number, zone in enumerate(zones)}
    units = [unit_of(row.unit) for row in rows]
    return Profiles(
        utility=np.array([Utility[row.utility] for row in rows], np.uint8),
        direction=np.array([Direction[row.direction] for row in rows], np.uint8),
        kind=np.array([Kind[row.kind] for row in rows], np.uint8),
        unit=np.array([unit.code for unit in units], np.uint8),
        zone=np.array([zone_number[row.time_zone] for row in rows], np.uint16),
        interval_seconds=np.array([row.interval_seconds for row in rows], np.int32),
        klass=np.array([CustomerClass[row.customer_class] for row in rows], np.uint8),
        scale_num=np.array([unit.scale.numerator for unit in units], np.int64),
        scale_den=np.array([unit.scale.denominator for unit in units], np.int64),
        zones=zones,
        digits=np.array([row.digits or 0 for row in rows], np.uint8),
        multiplier=[Fraction(row.multiplier) for row in rows],
    )
