"""Which field of a record is which column of a reading. A layout of somebody else's is one entry here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from meterpulse.ingest.contract import BodyError
from meterpulse.model.quantity import UNITS

NO_ROLE, CHANNEL, START, END, SECONDS, QUANTITY, UNIT, REVISION, QUALITY = range(9)
NO_UNIT = 255


@dataclass(frozen=True)
class Layout:
    """`roles`: a field's name to its role. `unit`: the code of the quantities' unit, NO_UNIT for the channel's."""

    name: str
    roles: dict[str, int]
    unit: int = NO_UNIT

    @cached_property
    def names(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For the compiled scanners: offsets int64[k + 1], bytes uint8, roles uint8[k]."""
        return (*packed(list(self.roles)), np.array(list(self.roles.values()), np.uint8))

    @property
    def parameter(self) -> str:
        """The value of the media type's parameter `layout`, empty for the canonical one."""
        return "" if self.name == "canonical" else self.name

    @cached_property
    def read_order(self) -> list[str | None]:
        """The fields' names in the order in which `record.read` takes them; None where the layout has none."""
        by_role = {role: name for name, role in self.roles.items()}
        return [by_role.get(role) for role in (CHANNEL, START, QUANTITY, SECONDS, END, UNIT, REVISION, QUALITY)]


def packed(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts as offsets int64[n + 1] into bytes uint8 (padded by 64 for vector loads)."""
    parts = [t.encode() for t in texts]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return offsets, np.frombuffer(b"".join(parts) + bytes(64), np.uint8).copy()


CANONICAL = Layout(
    "canonical",
    {
        "channel": CHANNEL,
        "start": START,
        "seconds": SECONDS,
        "quantity": QUANTITY,
        "unit": UNIT,
        "revision": REVISION,
        "quality": QUALITY,
    },
)
UTILITYAPI = Layout(
    "utilityapi",
    {"service_uid": CHANNEL, "interval_start": START, "interval_end": END, "interval_kWh": QUANTITY},
    UNITS["kWh"].code,
)
LAYOUTS = {layout.name: layout for layout in (CANONICAL, UTILITYAPI)}


def layout_of(name: str) -> Layout:
    """The layout of that name; raises BodyError 422."""
    try:
        return LAYOUTS[name]
    except KeyError:
        raise BodyError(422, f"layout {name[:40]!r} is not known; known are {', '.join(LAYOUTS)}") from None
