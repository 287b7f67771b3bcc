"""The pages without a browser: headers, caching, what is built, and a utility's own map."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

import meterpulse.web
from meterpulse.web import mount
from meterpulse.web.geo import GeoError, read_areas

WEB = Path(meterpulse.web.__file__).parent
SQUARE = [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]]


def ask(app: FastAPI, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One GET through the ASGI interface: status, headers, body."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": given,
    }
    asyncio.run(app({**scope, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80)}, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, body


@pytest.fixture(scope="module")
def app() -> FastAPI:
    made = FastAPI()
    mount(made)
    return made


@pytest.mark.parametrize(
    "path", ["/", "/home/", "/home/H-000001", "/home/a%3Cb", "/worklist", "/channel/E-1", "/differences", "/status"]
)
def test_a_page_may_load_only_from_its_own_server(app: FastAPI, path: str) -> None:
    status, headers, body = ask(app, path)
    assert status == 200
    assert headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert not re.search(rb"""(src|href)=["'](?!/|#)""", body)
    assert b"<style" not in body and not re.search(rb"\son\w+=", body)


def test_a_name_in_the_address_is_escaped(app: FastAPI) -> None:
    _, _, body = ask(app, '/home/"><script>alert(1)</script>')
    assert b"<script>alert" not in body


def test_built_files_are_cached_for_ever_and_pages_are_not(app: FastAPI) -> None:
    _, page, body = ask(app, "/")
    assert page["cache-control"] == "no-cache"
    for address in re.findall(rb'(?:src|href)="(/static/[^"]+)"', body):
        status, headers, file = ask(app, address.decode())
        assert status == 200 and len(file) > 100
        assert "immutable" in headers["cache-control"]
    assert ask(app, "/static/nothing.js")[0] == 404
    assert ask(app, "/static/../geo.py")[0] == 404


def test_the_map_is_sent_once_and_zipped(app: FastAPI) -> None:
    _, headers, plain = ask(app, "/geo/areas.json")
    _, zipped_headers, zipped = ask(app, "/geo/areas.json", accept_encoding="gzip, br")
    assert zipped_headers["content-encoding"] == "gzip" and len(zipped) < len(plain) / 2
    assert ask(app, "/geo/areas.json", if_none_match=headers["etag"])[0] == 304
    kinds = [feature["properties"]["kind"] for feature in json.loads(plain)["features"]]
    assert (kinds.count("postcode"), kinds.count("borough"), kinds.count("land")) == (246, 5, 1)


def test_nothing_that_is_served_names_another_address() -> None:
    harmless = ("http://www.w3.org/", "https://www.w3.org/")
    for path in [*(WEB / "static").iterdir(), *(WEB / "templates").iterdir()]:
        if path.name == "licences.txt":
            continue
        found = re.findall(r"""(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}[^\s"'`)]*""", path.read_text("utf-8"))
        assert [address for address in found if not address.startswith(harmless)] == [], path.name


def test_the_licences_of_what_is_inside_are_there() -> None:
    text = (WEB / "static" / "licences.txt").read_text("utf-8")
    for name in ("uplot", "d3-geo", "d3-array", "us-atlas", "zipcodes"):
        assert re.search(rf"^{name} \d", text, re.MULTILINE), name


def test_a_utility_puts_its_own_map_in_place(tmp_path: Path) -> None:
    own = tmp_path / "own.geojson"
    feature = {
        "type": "Feature",
        "properties": {"postcode": 1011, "name": "Centrum"},
        "geometry": {"type": "Polygon", "coordinates": SQUARE},
    }
    own.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    app = FastAPI()
    mount(app, areas_geojson=own)
    only = json.loads(ask(app, "/geo/areas.json")[2])["features"][0]
    assert only["properties"] == {"kind": "postcode", "area": "1011", "name": "Centrum"}


def polygon(*ring: Any, **properties: Any) -> str:
    feature = {"properties": properties, "geometry": {"type": "Polygon", "coordinates": [list(ring)]}}
    return json.dumps({"features": [feature]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "FeatureCollection in UTF-8"),
        ("{}", "no features"),
        ('{"features": [{"geometry": {"type": "Point", "coordinates": [0, 0]}}]}', "Polygon and MultiPolygon"),
        (polygon([0, 0]), "no property 'area'"),
        (polygon([583960, 4507523], area="A"), "degrees"),
        (polygon("x", area="A"), "longitude, latitude"),
    ],
)
def test_a_map_that_cannot_be_used_is_refused_with_what_to_do(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "map.geojson"
    path.write_text(text)
    with pytest.raises(GeoError, match=re.escape(says)):
        read_areas(path)
