"""The map's shapes: the demo city's, or a GeoJSON that a utility puts in their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

POLYGONS = ("Polygon", "MultiPolygon")


class GeoError(ValueError):
    """A map file cannot be used; the message says which feature and what it takes."""


def read_areas(path: Path) -> bytes:
    """The file's GeoJSON, checked, as compact JSON.

    Of each feature the map uses `properties.area` (or `postcode`): the area's name in the registry; `name`: what people
    call it; `borough`: the group it is drawn and zoomed with; `kind`: `postcode` (what has no kind is one), `borough`
    (an outline with a label, which stands at `label`, [longitude, latitude], or in its middle) or `land` (drawn behind,
    carries no numbers).
    """
    try:
        collection = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise GeoError(f"{path.name}: {error}; the map takes a GeoJSON FeatureCollection in UTF-8") from None
    features = collection.get("features") if isinstance(collection, dict) else None
    if not isinstance(features, list) or not features:
        raise GeoError(f"{path.name}: no features; the map takes a GeoJSON FeatureCollection")
    return json.dumps(
        {
            "type": "FeatureCollection",
            "about": str(collection.get("about", "")),
            "features": [
                _feature(feature, f"{path.name}: feature {number}") for number, feature in enumerate(features)
            ],
        },
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()


def _feature(feature: Any, where: str) -> dict[str, Any]:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict) or geometry.get("type") not in POLYGONS:
        raise GeoError(f"{where} has no area; the map takes Polygon and MultiPolygon")
    try:
        rings = [
            list(r)
            for part in ([geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"])
            for r in part
        ]
    except (KeyError, TypeError):
        raise GeoError(f"{where} has no coordinates") from None
    for ring in rings:
        for corner in ring:
            longitude, latitude = _corner(corner, where)
            if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
                raise GeoError(f"{where} has the corner {longitude}, {latitude}; the map takes degrees (WGS 84)")
    given = feature.get("properties") or {}
    kind = given.get("kind", "postcode")
    area = given.get("area", given.get("postcode"))
    if area is None and kind not in ("borough", "land"):
        raise GeoError(f"{where} has no property 'area'; it takes the name of an area in the registry")
    properties = {"kind": kind, "area": None if area is None else str(area)} | {
        name: given.get(name) for name in ("name", "borough", "label")
    }
    kept = {name: value for name, value in properties.items() if value is not None}
    return {
        "type": "Feature",
        "properties": kept,
        "geometry": {"type": geometry["type"], "coordinates": geometry["coordinates"]},
    }


def _corner(corner: Any, where: str) -> tuple[float, float]:
    numbers = isinstance(corner, list) and len(corner) >= 2 and all(isinstance(n, int | float) for n in corner[:2])
    if not numbers:
        raise GeoError(f"{where} has a corner that is not [longitude, latitude]")
    return corner[0], corner[1]
