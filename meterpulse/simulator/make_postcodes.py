"""Makes postcodes.csv, once: `pip install zipcodes && python -m meterpulse.simulator.make_postcodes`.

The 246 standard postcodes of the five boroughs come from the package `zipcodes` (MIT), which is needed only here. It
knows no population, so a borough's people (census of 2020) are spread over its postcodes by the room each has: the
square of the distance to its nearest neighbour. A postcode that is a single tower holds offices and hardly a home.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

BOROUGHS = {  # county: name, people (census of 2020), share of the city's businesses in percent
    "New York County": ("Manhattan", 1_694_251, 44),
    "Kings County": ("Brooklyn", 2_736_074, 24),
    "Queens County": ("Queens", 2_405_464, 19),
    "Bronx County": ("Bronx", 1_472_654, 8),
    "Richmond County": ("Staten Island", 495_747, 5),
}
TOWERS = {
    "10015",
    "10041",
    "10045",
    "10048",
    "10055",
    "10060",
    "10090",
    "10095",
    "10098",
    "10099",
    "10020",
    "11359",
    "11371",
    "11430",
}
HOMES_ABOVE_10100 = {"10128", "10162", "10280", "10281", "10282"}
ROOM_KM2 = (0.15, 4.0)  # no postcode counts as smaller or larger than this
PARTS = 1_000_000  # the weights of all postcodes add up to about this


def rows() -> list[tuple[str, str, str, str, int, int]]:
    """(postcode, borough, latitude, longitude, weight of its homes, weight of its businesses), by postcode."""
    import zipcodes

    found = [
        z
        for z in zipcodes.list_all()
        if z["state"] == "NY" and z["county"] in BOROUGHS and z["zip_code_type"] == "STANDARD"
    ]
    room = {z["zip_code"]: _room_km2(z, found) for z in found}
    out = []
    for z in sorted(found, key=lambda z: z["zip_code"]):
        code, (borough, people, shops) = z["zip_code"], BOROUGHS[z["county"]]
        near = [f["zip_code"] for f in found if f["county"] == z["county"]]
        living = sum(room[c] for c in near if not is_tower(c))
        working = sum(_shop_room(c, room) for c in near)
        homes = (
            40 if is_tower(code) else round(PARTS * people / sum(b[1] for b in BOROUGHS.values()) * room[code] / living)
        )
        businesses = round(PARTS * shops / 100 * _shop_room(code, room) / working)
        out.append((code, borough, z["lat"], z["long"], homes, businesses))
    return out


def is_tower(code: str) -> bool:
    """Whether the postcode is one building, an airport or an old fort."""
    return code in TOWERS or ("10100" <= code < "10300" and code not in HOMES_ABOVE_10100)


def _shop_room(code: str, room: dict[str, float]) -> float:
    return 0.15 if is_tower(code) else room[code]


def _room_km2(one: dict, all_: list[dict]) -> float:
    others = (o for o in all_ if o is not one and not is_tower(o["zip_code"]))
    nearest = min(
        ((float(o["lat"]) - float(one["lat"])) * 111.2) ** 2 + ((float(o["long"]) - float(one["long"])) * 84.3) ** 2
        for o in others
    )
    return min(max(nearest, ROOM_KM2[0]), ROOM_KM2[1])


if __name__ == "__main__":
    target = Path(__file__).with_name("postcodes.csv")
    with target.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("postcode", "borough", "latitude", "longitude", "homes", "businesses"))
        writer.writerows(rows())
    print(f"{target.name} written", file=sys.stderr)
