"""Make `geo/areas.json`, the map of the demo city, once, on a developer's machine.

    npm ci                                        # us-atlas: the outlines
    pip install shapely zipcodes                  # the cells and the postcodes' points
    python make_areas.py                          # writes geo/areas.json

The outlines are counties at 1:10,000,000, so a borough has a dozen corners. Each arc is drawn as a smooth curve
through its own corners (ends stay where they are, so neighbours still share a border), and the rivers, which the
outlines leave out, are given a width. A postcode becomes the part of its borough that is nearer to its point than to
any other: a cell to look at and click, not a postal boundary.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import shapely
import zipcodes
from shapely.geometry import MultiPoint, MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

HERE = Path(__file__).parent
ATLAS = HERE / "node_modules" / "us-atlas" / "counties-10m.json"
OUT = HERE / "geo" / "areas.json"

BOROUGHS = {  # county code → (county in `zipcodes`, the borough's name, where its label stands)
    "36005": ("Bronx County", "Bronx", (-73.822, 40.925)),
    "36047": ("Kings County", "Brooklyn", (-74.005, 40.545)),
    "36061": ("New York County", "Manhattan", (-74.063, 40.79)),
    "36081": ("Queens County", "Queens", (-73.69, 40.815)),
    "36085": ("Richmond County", "Staten Island", (-74.1, 40.5)),
}
WEST_OF_THE_HUDSON = ("34", "42", "36087", "36071")  # New Jersey, Pennsylvania, Rockland, Orange
RIVERS = (
    ("36061", "36005", 0.0036),
    ("36061", "36081", 0.0062),
    ("36061", "36047", 0.0062),
    ("36005", "36081", 0.0075),
)
HUDSON = 0.0095  # half widths, degrees of latitude
ROUNDING = 0.0028
FRAME = box(-75.3, 40.2, -72.9, 41.25)  # what of the neighbours is drawn
STRETCH = math.cos(math.radians(40.7))  # one degree of longitude in degrees of latitude, here
CURVE_STEPS = 6  # points per corner of a smoothed arc
SPREAD_STEPS = 12  # see `spread`
DIGITS = 4  # about 10 m


def arcs_of(topology: dict) -> list[list[tuple[float, float]]]:
    """Every arc of a quantised topology as (longitude, latitude) corners, smoothed."""
    (scale_x, scale_y), (shift_x, shift_y) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for deltas in topology["arcs"]:
        x = y = 0
        corners = []
        for dx, dy in deltas:
            x, y = x + dx, y + dy
            corners.append((x * scale_x + shift_x, y * scale_y + shift_y))
        arcs.append(corners)
    return arcs


def smoothed(corners: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The centripetal Catmull-Rom curve through the corners; a closed ring stays closed, open ends stay put."""
    closed = corners[0] == corners[-1]
    if len(corners) < 3:
        return corners
    before = corners[-2] if closed else corners[0]
    after = corners[1] if closed else corners[-1]
    padded = [before, *corners, after]
    curve = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        curve += [_between(p0, p1, p2, p3, step / CURVE_STEPS) for step in range(CURVE_STEPS)]
    return [*curve, corners[-1]]


def _between(p0, p1, p2, p3, t: float) -> tuple[float, float]:
    def knot(a, b) -> float:
        return max(math.hypot((b[0] - a[0]) * STRETCH, b[1] - a[1]) ** 0.5, 1e-6)

    def mix(a, b, at_a: float, at_b: float, at: float):
        share = (at - at_a) / (at_b - at_a)
        return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)

    t0 = 0.0
    t1 = t0 + knot(p0, p1)
    t2 = t1 + knot(p1, p2)
    t3 = t2 + knot(p2, p3)
    at = t1 + (t2 - t1) * t
    a1, a2, a3 = mix(p0, p1, t0, t1, at), mix(p1, p2, t1, t2, at), mix(p2, p3, t2, t3, at)
    b1, b2 = mix(a1, a2, t0, t2, at), mix(a2, a3, t1, t3, at)
    return mix(b1, b2, t1, t2, at)


def polygon_of(geometry: dict, arcs: list) -> BaseGeometry:
    """The land of one county of the topology."""

    def ring(indices: list[int]) -> list[tuple[float, float]]:
        points: list[tuple[float, float]] = []
        for index in indices:
            arc = arcs[index] if index >= 0 else arcs[~index][::-1]
            points += arc if not points else arc[1:]
        return points

    parts = [geometry["arcs"]] if geometry["type"] == "Polygon" else geometry["arcs"]
    return shapely.make_valid(
        MultiPolygon([Polygon(ring(part[0]), [ring(hole) for hole in part[1:]]) for part in parts])
    )


def with_rivers(land: dict[str, BaseGeometry]) -> dict[str, BaseGeometry]:
    """The boroughs with water between those that a river parts, and without sharp corners."""
    lines = [(land[a].boundary.intersection(land[b].boundary), width) for a, b, width in RIVERS]
    water = shapely.union_all([line.buffer(width) for line, width in lines])
    city = shapely.union_all(list(land.values())).difference(water)
    rounded = city.buffer(-ROUNDING).buffer(2 * ROUNDING).buffer(-ROUNDING)
    return {code: _largest(shape.intersection(rounded)) for code, shape in land.items()}


def beyond_the_city(outlines: dict[str, BaseGeometry], city: BaseGeometry) -> BaseGeometry:
    """The neighbours' land inside the frame, the Hudson kept free."""
    western = [shape for code, shape in outlines.items() if code.startswith(WEST_OF_THE_HUDSON)]
    eastern = [shape for code, shape in outlines.items() if not code.startswith(WEST_OF_THE_HUDSON)]
    west, east = shapely.union_all(western), shapely.union_all(eastern)
    hudson = west.boundary.intersection(east.boundary).buffer(HUDSON)
    land = shapely.union_all([west.difference(city.buffer(HUDSON)), east.difference(city.buffer(0.0004))])
    inside = land.difference(hudson).intersection(squeezed(FRAME, STRETCH))
    inside = inside.buffer(-ROUNDING).buffer(2 * ROUNDING).buffer(-ROUNDING)
    return MultiPolygon([part for part in getattr(inside, "geoms", [inside]) if part.area > 1e-3])


def _largest(geometry: BaseGeometry) -> BaseGeometry:
    return max(getattr(geometry, "geoms", [geometry]), key=lambda part: part.area)


def spread(points: list[tuple[float, float]], land: BaseGeometry, closest: float) -> list[tuple[float, float]]:
    """Points apart and ashore: those nearer than `closest` to another push each other away, a little at a time.

    Many midtown postcodes are single buildings and some share one point; without this their cells cannot be seen.
    """
    placed = [
        _ashore((x + 1e-4 * math.cos(i * 2.4), y + 1e-4 * math.sin(i * 2.4)), land) for i, (x, y) in enumerate(points)
    ]
    for _ in range(SPREAD_STEPS):
        moves = [[0.0, 0.0] for _ in placed]
        for i, (xi, yi) in enumerate(placed):
            for j in range(i):
                dx, dy = xi - placed[j][0], yi - placed[j][1]
                apart = math.hypot(dx, dy)
                if apart < closest:
                    push = (closest - apart) / 2 / max(apart, 1e-9) * 0.6
                    moves[i][0] += dx * push
                    moves[i][1] += dy * push
                    moves[j][0] -= dx * push
                    moves[j][1] -= dy * push
        placed = [_ashore((x + mx, y + my), land) for (x, y), (mx, my) in zip(placed, moves, strict=True)]
    return placed


def _ashore(point: tuple[float, float], land: BaseGeometry) -> tuple[float, float]:
    inside = land.buffer(-0.002)
    here = Point(point)
    if inside.contains(here):
        return point
    nearest = shapely.shortest_line(here, inside)
    return nearest.coords[-1]


def cells(points: list[tuple[float, float]], land: BaseGeometry) -> list[BaseGeometry]:
    """For each point the part of the land nearer to it than to the others, in the points' order."""
    everywhere = land.envelope.buffer(1.0)
    diagram = shapely.voronoi_polygons(MultiPoint(points), extend_to=everywhere, ordered=True)
    return [cell.intersection(land) for cell in diagram.geoms]


def squeezed(geometry: BaseGeometry, factor: float) -> BaseGeometry:
    """Longitudes multiplied by `factor`, so that distances are the same in both directions."""
    return shapely.transform(geometry, lambda xy: xy * [factor, 1.0])


def main() -> None:
    topology = json.loads(ATLAS.read_text())
    arcs = [smoothed(arc) if _near(arc) else arc for arc in arcs_of(topology)]
    counties = {g["id"]: g for g in topology["objects"]["counties"]["geometries"]}

    def outline(code: str) -> BaseGeometry:
        return squeezed(polygon_of(counties[code], arcs), STRETCH)

    land = with_rivers({code: outline(code) for code in BOROUGHS})

    standard = defaultdict(list)
    for entry in zipcodes.filter_by(state="NY", zip_code_type="STANDARD"):
        standard[entry["county"]].append(entry)

    features = []
    for code, (county, borough, label) in BOROUGHS.items():
        entries = sorted(standard[county], key=lambda e: e["zip_code"])
        points = [(float(e["long"]) * STRETCH, float(e["lat"])) for e in entries]
        closest = math.sqrt(land[code].area / len(entries)) * 0.62
        for entry, cell in zip(entries, cells(spread(points, land[code], closest), land[code]), strict=True):
            name = entry["city"] if entry["city"] not in ("Bronx", "New York") else borough
            properties = {"kind": "postcode", "area": entry["zip_code"], "borough": borough, "name": name}
            features.append(_feature(properties, cell))
        outline_of = {"kind": "borough", "borough": borough, "name": borough, "label": label}
        features.append(_feature(outline_of, land[code]))
    city = shapely.union_all(list(land.values()))
    frame = squeezed(FRAME, STRETCH)
    neighbours = {c: outline(c) for c in counties if c[:2] in ("09", "34", "36", "42") and c not in BOROUGHS}
    beyond = beyond_the_city({c: shape for c, shape in neighbours.items() if shape.intersects(frame)}, city)
    features.append(_feature({"kind": "land", "name": "beyond the city"}, beyond))

    about = (
        "Outlines: us-atlas 3 counties-10m (US Census), smoothed. Postcodes: the points of the package zipcodes 3, "
        "spread where they coincide, as Voronoi cells. ZIP points, not ZCTAs: not postal boundaries."
    )
    OUT.parent.mkdir(exist_ok=True)
    collection = {"type": "FeatureCollection", "about": about, "features": features}
    OUT.write_text(json.dumps(collection, separators=(",", ":"), ensure_ascii=False) + "\n")
    print(f"{OUT.name}: {len(features)} features, {OUT.stat().st_size:,} bytes")


def _near(arc: list[tuple[float, float]]) -> bool:
    return any(-75.6 < x < -72.5 and 39.9 < y < 41.6 for x, y in arc)


def _feature(properties: dict, geometry: BaseGeometry) -> dict:
    degrees = shapely.set_precision(squeezed(geometry, 1 / STRETCH), 10**-DIGITS)
    areas = [g for g in getattr(degrees, "geoms", [degrees]) if g.geom_type in ("Polygon", "MultiPolygon")]
    merged = shapely.union_all(areas) if len(areas) > 1 else areas[0]
    shape = json.loads(shapely.to_geojson(merged))
    shape["coordinates"] = _rounded(shape["coordinates"])
    return {"type": "Feature", "properties": properties, "geometry": shape}


def _rounded(value):
    return [_rounded(v) for v in value] if isinstance(value, list) else round(value, DIGITS)


if __name__ == "__main__":
    main()
