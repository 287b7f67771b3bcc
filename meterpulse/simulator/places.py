"""The five boroughs of New York and their 246 postcodes, from postcodes.csv beside this file (see
make_postcodes.py).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

CITY = "city"
TIME_ZONE = "America/New_York"


@dataclass(frozen=True)
class Area:
    """An area as the registry's `add_area` takes it; latitude and longitude in degrees where it is a point."""

    name: str
    kind: str  # city, borough, postcode
    parent: str | None
    title: str
    latitude: float | None = None
    longitude: float | None = None
    time_zone: str = TIME_ZONE


@dataclass(frozen=True)
class Postcode:
    """A postcode with its borough and the weights of its homes and businesses (parts of about a million each)."""

    name: str
    borough: str
    latitude: float
    longitude: float
    homes: int
    businesses: int


@lru_cache(maxsize=1)
def postcodes() -> tuple[Postcode, ...]:
    """All, in ascending order."""
    with files(__package__).joinpath("postcodes.csv").open(encoding="utf-8") as file:
        return tuple(
            Postcode(
                r["postcode"],
                r["borough"],
                float(r["latitude"]),
                float(r["longitude"]),
                int(r["homes"]),
                int(r["businesses"]),
            )
            for r in csv.DictReader(file)
        )


def areas() -> tuple[Area, ...]:
    """City, boroughs, postcodes: parents before their children."""
    boroughs = sorted({p.borough for p in postcodes()})
    return (
        Area(CITY, "city", None, "New York"),
        *(Area(b, "borough", CITY, b) for b in boroughs),
        *(Area(p.name, "postcode", p.borough, p.name, p.latitude, p.longitude) for p in postcodes()),
    )
