"""The pages: server-rendered frames around the HTTP API. `mount(app)` adds them to the application.

Everything they load comes from this folder: `static/` is built from `src/` by `npm ci && npm run build` and committed,
so that nobody needs npm or the internet to use them. Their numbers come from the HTTP API alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import FastAPI, Request, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape

from meterpulse.web.assets import Asset, Assets
from meterpulse.web.geo import read_areas

__all__ = ["mount"]

HERE = Path(__file__).parent
DEMO_AREAS = HERE / "geo" / "areas.json"
SECURITY = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
YEAR_S = 31_536_000


def mount(app: FastAPI, *, areas_geojson: Path | None = None) -> None:
    """Add the pages, `/static/…` and `/geo/areas.json` to the application.

    `areas_geojson` is a utility's own map: a GeoJSON FeatureCollection in longitude and latitude whose polygons carry
    the property `area` (or `postcode`), the name of an area in the registry. Raises `GeoError` where it is not one.
    """
    assets = Assets.read(HERE / "static")
    areas = Asset.of("areas.json", read_areas(areas_geojson or DEMO_AREAS))
    templates = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["asset"] = assets.address

    def page(name: str, **values: object) -> Response:
        text = templates.get_template(name).render(page=name.partition(".")[0], **values)
        return Response(text, media_type="text/html", headers={**SECURITY, "Cache-Control": "no-cache"})

    def city() -> Response:
        """The city now: map, total load, top areas."""
        return page("city.html")

    def homes() -> Response:
        """Choose a home."""
        return page("homes.html")

    def home(customer: str) -> Response:
        """One home: now, today, against yesterday and last week."""
        return page("home.html", customer=customer)

    def channel(id: str) -> Response:
        """One channel: measured and effective values, and how they came about."""
        return page("channel.html", channel=id)

    def status() -> Response:
        """The platform: what came in, what was refused, how far behind."""
        return page("status.html")

    def worklist() -> Response:
        """What rules found wrong, and deciding about it."""
        return page("worklist.html")

    def differences() -> Response:
        """Speed against batch."""
        return page("differences.html")

    def static(name: str, request: Request) -> Response:
        asset = assets.get(name)
        if asset is None:
            return Response("no such file", status_code=404, media_type="text/plain", headers=SECURITY)
        return _send(asset, request, f"public, max-age={YEAR_S}, immutable")

    def geo(request: Request) -> Response:
        return _send(areas, request, "no-cache")

    for path, endpoint in (
        ("/", city),
        ("/home/", homes),
        ("/home/{customer:path}", home),
        ("/channel/{id:path}", channel),
        ("/worklist", worklist),
        ("/differences", differences),
        ("/status", status),
    ):
        app.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False, response_class=Response)
    app.add_api_route(
        "/static/{name}", static, methods=["GET", "HEAD"], include_in_schema=False, response_class=Response
    )
    app.add_api_route("/geo/areas.json", geo, methods=["GET", "HEAD"], include_in_schema=False, response_class=Response)


def _send(asset: Asset, request: Request, cache: str) -> Response:
    headers = {**SECURITY, "Cache-Control": cache, "ETag": asset.etag, "Vary": "Accept-Encoding"}
    if asset.etag in re.split(r"\s*,\s*", request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    if asset.zipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.zipped, media_type=asset.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(asset.body, media_type=asset.media_type, headers=headers)
