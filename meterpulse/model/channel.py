"""A channel: one measured stream of a usage point (IEC CIM, Green Button ESPI)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from meterpulse.model.quantity import UnknownUnit, unit_of
from meterpulse.model.window import zone

NOT_FOUND = 0xFFFFFFFF
NO_AREA = 0xFFFFFFFF


class Utility(IntEnum):
    """What is delivered."""

    electricity = 0
    gas = 1
    water = 2


class Direction(IntEnum):
    """From the network to the customer, or back (solar)."""

    delivered = 0
    received = 1


class Kind(IntEnum):
    """A quantity used in [start, start + seconds); a cumulative index at an instant; an instantaneous value."""

    interval = 0
    register = 1
    gauge = 2


class CustomerClass(IntEnum):
    """Who uses it."""

    household = 0
    business = 1


class ChannelError(ValueError):
    """A channel's definition is wrong; the message says which field and what it takes."""


DIMENSIONS = {
    Utility.electricity: {
        "energy",
        "reactive energy",
        "apparent energy",
        "power",
        "reactive power",
        "apparent power",
        "voltage",
        "current",
    },
    Utility.gas: {"volume", "energy"},
    Utility.water: {"volume"},
}


@dataclass(frozen=True, slots=True)
class Channel:
    """Field for field the public shape of a channel; `class_` is "class" there, and the dense index is the registry's to give."""

    id: str
    utility: str
    unit: str
    usage_point: str | None = None
    meter: str | None = None
    customer: str | None = None
    direction: str = "delivered"
    kind: str = "interval"
    interval_seconds: int = 300
    multiplier: Decimal = Decimal(1)
    digits: int | None = None
    class_: str = "household"
    area: str | None = None
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        for name in ("id", "usage_point", "meter", "customer", "area"):
            check_name(name, getattr(self, name), optional=name != "id")
        for name, words in (("utility", Utility), ("direction", Direction), ("kind", Kind), ("class", CustomerClass)):
            given = getattr(self, "class_" if name == "class" else name)
            if given not in words.__members__:
                raise ChannelError(f"{name} is {given!r}; it takes {', '.join(words.__members__)}")
        try:
            unit = unit_of(self.unit) if isinstance(self.unit, str) else None
        except UnknownUnit as error:
            raise ChannelError(str(error)) from None
        if unit is None or unit.dimension not in DIMENSIONS[Utility[self.utility]]:
            raise ChannelError(f"unit {self.unit!r} does not measure {self.utility}")
        if (
            isinstance(self.interval_seconds, bool)
            or not isinstance(self.interval_seconds, int)
            or not 1 <= self.interval_seconds <= 31_622_400
        ):
            raise ChannelError(
                f"interval_seconds is {self.interval_seconds!r}; it takes a whole number from 1 to 31622400"
            )
        if not (isinstance(self.multiplier, Decimal) and self.multiplier.is_finite() and 0 < self.multiplier <= 10**6):
            raise ChannelError(f"multiplier is {self.multiplier!r}; it takes a number above 0 and up to 1000000")
        if self.digits is not None and not (isinstance(self.digits, int) and 1 <= self.digits <= 12):
            raise ChannelError(f"digits is {self.digits!r}; it takes 1 to 12, or null")
        try:
            zone(self.time_zone)
        except (ValueError, AttributeError, TypeError) as error:
            raise ChannelError(str(error)) from None

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Channel:
        """From the public JSON shape; raises ChannelError. Absent and null fields take their defaults."""
        if not isinstance(given, dict):
            raise ChannelError("a channel is a JSON object with at least id, utility and unit")
        known = {"class": "class_"} | {name: name for name in cls.__slots__ if name != "class_"}
        unknown = sorted(set(given) - set(known) - {"index"})
        if unknown:
            raise ChannelError(f"field {unknown[0][:40]!r} is not known; known are {', '.join(known)}")
        fields = {known[name]: value for name, value in given.items() if value is not None and name in known}
        missing = [name for name in ("id", "utility", "unit") if name not in fields]
        if missing:
            raise ChannelError(f"{missing[0]} is missing; a channel needs id, utility and unit")
        if "multiplier" in fields:
            try:
                fields["multiplier"] = Decimal(str(fields["multiplier"]))
            except InvalidOperation:
                raise ChannelError(f"multiplier is {fields['multiplier']!r}; it takes a number") from None
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """The public JSON shape."""
        shape = {name.rstrip("_"): getattr(self, name) for name in self.__slots__}
        whole = self.multiplier == self.multiplier.to_integral_value()
        return shape | {"multiplier": int(self.multiplier) if whole else float(self.multiplier)}


def check_name(field: str, value: object, *, optional: bool) -> None:
    """Ids are 1 to 200 bytes of UTF-8 without control characters; raises ChannelError."""
    if value is None and optional:
        return
    if not isinstance(value, str) or not value:
        raise ChannelError(f"{field} is {value!r}; it takes a non-empty text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ChannelError(f"{field} is not valid UTF-8") from None
    if size > 200 or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ChannelError(f"{field} takes up to 200 bytes without control characters")


@dataclass(frozen=True)
class Profiles:
    """The distinct combinations of what channels have in common, as columns; a channel refers to one by `ChannelTable.profile`."""

    utility: np.ndarray  # uint8
    direction: np.ndarray  # uint8
    kind: np.ndarray  # uint8
    unit: np.ndarray  # uint8, Unit.code
    zone: np.ndarray  # uint16, index into `zones`
    interval_seconds: np.ndarray  # int32
    klass: np.ndarray  # uint8
    scale_num: np.ndarray  # int64: thousandths of the base unit in one of the channel's unit, as a fraction
    scale_den: np.ndarray  # int64
    zones: list[str]
    digits: np.ndarray  # uint8: of a register, 0 where they are not known
    multiplier: list[Fraction]  # of a register: current times voltage transformers


class ChannelTable(Protocol):
    """What the hot path knows of all channels, in columns by dense index."""

    count: int
    profile: np.ndarray  # uint16[count]
    area: np.ndarray  # uint32[count]: index of the leaf area, NO_AREA where there is none
    profiles: Profiles

    def lookup(self, offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Dense indices (uint32, NOT_FOUND where unknown) of ids in Arrow's string layout: offsets[n + 1] into the bytes `data`."""

    def lookup_one(self, id: str) -> int:
        """The dense index of one id, or NOT_FOUND."""

    def ids(self, indices: np.ndarray) -> pa.Array:
        """The text ids of dense indices."""
