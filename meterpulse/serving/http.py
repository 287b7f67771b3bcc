"""The HTTP API: every question has one address, every answer comes as JSON, CSV, Parquet or Arrow, every error says what to do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import pyarrow as pa
from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from sse_starlette import EventSourceResponse
from starlette.exceptions import HTTPException

from meterpulse.ingest import REASONS, Decoded, Rejected
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.problem import Problem
from meterpulse.model.reading import Readings
from meterpulse.model.window import iso
from meterpulse.serving import exportapi, imports, queries
from meterpulse.serving.answers import MEDIA, as_bytes, as_json_together, table_bytes
from meterpulse.serving.deskapi import add_desk
from meterpulse.serving.differences import add_differences
from meterpulse.serving.intake import PATH, Intake
from meterpulse.serving.intervals import add_intervals
from meterpulse.serving.live import Rate, events, live_status
from meterpulse.serving.rebuilds import add_rebuilds

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_CHANNELS_AT_ONCE = 64
_EXAMPLE_USAGE = {
    "channel": "E-0001", "time_zone": "America/New_York", "grain": "1h", "unit": "kWh", "fresh_until": "2026-03-08T12:00:00Z",
    "rows": [{"start": "2026-03-08T11:00:00Z", "quantity": 1.25, "unit": "kWh", "count": 12, "min": 0.05, "max": 0.2, "last": 0.1,
              "quality": "raw", "source": "speed"}],
}  # fmt: skip
_EXAMPLE_READING = {
    "channel": "E-0001",
    "start": "2026-01-31T23:55:00Z",
    "seconds": 300,
    "quantity": "0.125",
    "unit": "kWh",
    "revision": 0,
}
_EXAMPLE_CHANNEL = {
    "id": "E-0001", "usage_point": "UP-1", "utility": "electricity", "direction": "delivered", "kind": "interval", "unit": "kWh",
    "interval_seconds": 300, "class": "household", "area": "10003", "time_zone": "America/New_York",
}  # fmt: skip


def create_app(
    p: Pipeline, *, answer_of: Callable[[Any], dict[str, Any]], replay: Callable[..., dict[str, Any]]
) -> FastAPI:
    """The API over an open pipeline, without pages."""
    rate = Rate(p)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async def sample() -> None:
            while True:
                rate.sample()
                await asyncio.sleep(1)

        task = asyncio.create_task(sample())
        yield
        task.cancel()

    app = FastAPI(
        title="meterpulse", version="1", docs_url=None, redoc_url=None, lifespan=lifespan, openapi_url="/openapi.json"
    )
    app.state.pipeline, app.state.rate = p, rate
    _errors(app)
    _usage(app, p)
    _channels(app, p)
    _quarantine(app, p, replay)
    add_desk(app, p)
    add_intervals(app, p)
    add_differences(app, p)
    imports.add_to(app, p)
    exportapi.add_to(app, p)
    add_rebuilds(app, p)
    _operations(app, p, rate)
    _document_readings(app)
    return app


def with_intake(app: Any, p: Pipeline, answer_of: Callable[[Any], dict[str, Any]], intake: Intake | None = None) -> Any:
    """The application with POST /v1/readings in front of it."""
    intake = intake or Intake(p, answer_of)

    async def front(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == PATH:
            await intake(scope, receive, send)
        else:
            await app(scope, receive, send)

    return front


def _problem(problem: Problem) -> Response:
    headers = {} if problem.retry_after_seconds is None else {"Retry-After": str(problem.retry_after_seconds)}
    return Response(orjson.dumps(problem.document()), problem.status, headers, "application/problem+json")


def _errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    def problem(_: Request, error: Problem) -> Response:
        return _problem(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _problem(
            Problem(422, "query", "A parameter is wrong", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        )

    @app.exception_handler(HTTPException)
    def plain(request: Request, error: HTTPException) -> Response:
        detail = "See /openapi.json for what there is." if error.status_code == 404 else str(error.detail)
        return _problem(
            Problem(
                error.status_code, "http", str(error.detail), f"{request.method} {request.url.path[:200]}: {detail}"
            )
        )

    @app.exception_handler(Exception)
    def broken(_: Request, error: Exception) -> Response:
        return _problem(Problem(500, "internal", "The server made a mistake", f"{type(error).__name__}; see its log."))


def _usage(app: FastAPI, p: Pipeline) -> None:
    def answered(form: str) -> Callable[..., Response]:
        def usage(
            channel: Annotated[
                list[str] | None, Query(description="A channel's id; as JSON several at once", examples=[["E-0001"]])
            ] = None,
            area: Annotated[str | None, Query(description="An area, with utility=", examples=["10003"])] = None,
            utility: Annotated[str | None, Query(description="electricity, gas or water")] = None,
            direction: Annotated[str, Query(description="delivered, or received (solar)")] = "delivered",
            start: Annotated[
                str | None, Query(description="ISO 8601 with an offset", examples=["2026-03-08T00:00:00Z"])
            ] = None,
            end: Annotated[str | None, Query(description="ISO 8601 with an offset; exclusive")] = None,
            grain: Annotated[str, Query(description="1m (areas), 5m, 1h or 1d (local days)")] = "1h",
            fill: Annotated[str | None, Query(description="null: windows without readings as rows of nulls")] = None,
            values: Annotated[
                str, Query(description="measured, or effective: the record, with estimates and edits")
            ] = "measured",
            as_of: Annotated[str | None, Query(include_in_schema=False)] = None,
        ) -> Response:
            """What a channel, or an area, used per window."""
            many = channel if channel and len(channel) > 1 else [channel[0] if channel else None]
            if len(many) > 1 and form != "json" or len(many) > _CHANNELS_AT_ONCE:
                raise Problem(
                    422, "query", "Too many channels", f"Ask for one at a time; as JSON for up to {_CHANNELS_AT_ONCE}."
                )
            answers = [
                queries.usage(
                    p, queries.UsageQuery(one, area, utility, direction, start, end, grain, fill, values, as_of)
                )
                for one in many
            ]
            body = as_bytes(answers[0], form) if len(answers) == 1 else as_json_together(answers)
            return Response(body, media_type=MEDIA[form])

        return usage

    example = {200: {"content": {"application/json": {"example": _EXAMPLE_USAGE}}}}
    for form in MEDIA:
        path = "/v1/usage" if form == "json" else f"/v1/usage.{form}"
        app.get(path, response_class=Response, responses=example if form == "json" else None, name=f"usage_{form}")(
            answered(form)
        )
    app.get("/v1/usage.json", include_in_schema=False, response_class=Response)(answered("json"))

    @app.get("/v1/window.arrow", response_class=Response)
    def window(
        start: str, first: Annotated[int, Query(ge=0)] = 0, count: Annotated[int, Query(ge=1, le=4_194_304)] = 1_048_576
    ) -> Response:
        """One 5-minute window of many channels at once, by dense index, in thousandths of the base unit."""
        return Response(table_bytes(queries.window(p, start, first, count), "arrow"), media_type=MEDIA["arrow"])

    @app.get("/v1/load")
    def load(utility: str) -> Response:
        """The newest complete minute of every area."""
        return Response(orjson.dumps(queries.load(p, utility)), media_type="application/json")

    @app.get("/v1/areas")
    def areas() -> Response:
        """All areas, how they nest, and their channels."""
        return Response(orjson.dumps(queries.areas(p)), media_type="application/json")

    @app.get("/v1/live", response_class=EventSourceResponse)
    async def live(
        channel: Annotated[list[str] | None, Query()] = None,
        area: str | None = None,
        utility: str | None = None,
        areas: bool = False,
    ) -> EventSourceResponse:
        """Server-sent events: status every second; usage and load when they change."""
        if areas or area:
            queries.utility_of(utility)
        return EventSourceResponse(events(p, app.state.rate, (channel or [])[:32], area, utility, areas), ping=15)


def _channels(app: FastAPI, p: Pipeline) -> None:
    def listed(form: str) -> Callable[..., Response]:
        def channels(
            after: int = 0,
            limit: Annotated[int | None, Query(ge=1)] = None,
            area: str | None = None,
            utility: str | None = None,
            customer: str | None = None,
            usage_point: str | None = None,
        ) -> Response:
            """Channels in the order of their index; `after` and `limit` page through them."""
            filters = {"area": area, "utility": utility, "customer": customer, "usage_point": usage_point}
            table = p.registry.channels(after, limit, **{k: v for k, v in filters.items() if v is not None})
            if form == "json":
                return Response(orjson.dumps({"channels": table.to_pylist()}, default=float), media_type=MEDIA["json"])
            return Response(table_bytes(table, form), media_type=MEDIA[form])

        return channels

    for form in MEDIA:
        app.get(
            "/v1/channels" if form == "json" else f"/v1/channels.{form}",
            response_class=Response,
            name=f"channels_{form}",
        )(listed(form))

    @app.get("/v1/channels/{id:path}")
    def channel(id: str) -> Response:
        """One channel."""
        found = p.registry.channel(id)
        if found is None:
            raise Problem(404, "no-channel", "No such channel", f"{id[:200]!r} is not registered.")
        return Response(orjson.dumps(found, default=float), media_type="application/json")

    body = {"requestBody": {"content": {"application/json": {"example": [_EXAMPLE_CHANNEL]}}, "required": True}}

    @app.post("/v1/channels", openapi_extra=body)
    async def register(request: Request) -> Response:
        """Register or update channels: a JSON array (or one object), NDJSON, or an Arrow stream."""
        given = await request.body()
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        result = await asyncio.to_thread(register_body, p, given, kind)
        return Response(orjson.dumps(result), media_type="application/json")


def register_body(p: Pipeline, body: bytes, kind: str) -> dict[str, Any]:
    """Raises Problem 400 and 415; wrong channels are reported one by one, the others are registered."""
    errors: list[dict[str, Any]] = []
    now = p.clock()
    if kind == MEDIA["arrow"]:
        try:
            with pa.ipc.open_stream(body) as stream:
                result = p.registry.register(stream.read_all(), at_ms=now)
        except (pa.ArrowInvalid, OSError) as error:
            raise Problem(400, "body", "Not an Arrow stream", str(error)[:300]) from None
        places = list(range(result.created + result.updated + len(result.errors)))
    else:
        if kind not in ("application/json", "application/x-ndjson"):
            raise Problem(
                415,
                "media-type",
                "Cannot read this media type",
                f"{kind!r}; send application/json, application/x-ndjson or {MEDIA['arrow']}.",
            )
        try:
            given = (
                orjson.loads(body)
                if kind == "application/json"
                else [orjson.loads(line) for line in body.splitlines() if line.strip()]
            )
        except orjson.JSONDecodeError as error:
            raise Problem(400, "body", "Not JSON", str(error)) from None
        good, places = [], []
        for place, item in enumerate(given if isinstance(given, list) else [given]):
            try:
                good.append(Channel.from_dict(item))
                places.append(place)
            except (ChannelError, TypeError, ValueError) as error:
                errors.append({"position": place, "detail": str(error)})
        result = p.registry.register(good, at_ms=now)
    errors += [{"position": places[position], "detail": detail} for position, detail in result.errors]
    return {"created": result.created, "updated": result.updated, "errors": sorted(errors, key=lambda e: e["position"])}


def _quarantine(app: FastAPI, p: Pipeline, replay: Callable[..., dict[str, Any]]) -> None:
    @app.get("/v1/quarantine")
    def quarantine(
        after: int = 0, limit: Annotated[int, Query(ge=1, le=1_000_000)] = 1_000, reason: str | None = None
    ) -> Response:
        """Rows that did not count, with their bytes; `after` is the last key seen. Bytes that are no UTF-8 are in base64."""
        return Response(orjson.dumps(quarantine_page(p, after, limit, reason)), media_type="application/json")

    @app.post("/v1/quarantine")
    async def refused(request: Request, source: str = "http") -> dict[str, int]:
        """Rows that a file's format refused before there was a body: {"reason", "detail", "media_type", "original_base64"}."""
        rows = refused_rows(await request.body())
        await p.submit(Decoded(Readings.empty(), rows), source[:200], asyncio.get_running_loop())
        return {"quarantined": len(rows)}

    @app.post("/v1/quarantine/replay")
    async def replayed(keys: Annotated[list[int] | None, Body(embed=True)] = None) -> dict[str, Any]:
        """Send refused rows through ingest again: these, or all."""
        return await asyncio.to_thread(replay, p, keys)


def refused_rows(body: bytes) -> list[Rejected]:
    """Rows as the command line sends them; raises Problem 422."""
    try:
        return [
            Rejected(
                row["reason"], row["detail"], base64.b64decode(row["original_base64"], validate=True), row["media_type"]
            )
            for row in orjson.loads(body)
            if row["reason"] in REASONS
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(422, "body", "Not refused rows", f"{type(error).__name__}: {error}") from None


def quarantine_page(p: Pipeline, after: int, limit: int, reason: str | None = None) -> dict[str, Any]:
    """The JSON of /v1/quarantine."""
    rows = []
    for row in p.log.quarantined(after, limit):
        if reason is not None and row.reason != reason:
            continue
        shown: dict[str, Any] = {
            "key": row.key, "reason": row.reason, "detail": row.detail, "source": row.source, "media_type": row.media_type,
            "received": iso(row.received_ms),
        }  # fmt: skip
        try:
            shown["original"] = row.original.decode()
        except UnicodeDecodeError:
            shown["original_base64"] = base64.b64encode(row.original).decode()
        rows.append(shown)
    return {"rows": rows, "next": rows[-1]["key"] if rows else None}


def _operations(app: FastAPI, p: Pipeline, rate: Rate) -> None:
    @app.get("/v1/status")
    def status() -> Response:
        """Counters, watermark, lag, dirty days, alarms. Lag 0 and no dirty day: every accepted reading is in every answer."""
        return Response(
            orjson.dumps({**p.status(), "readings_per_second": rate.value()}), media_type="application/json"
        )

    @app.post("/v1/compact")
    async def compact() -> dict[str, Any]:
        """Merge the small files of every day into large sorted ones."""
        return await asyncio.to_thread(p.retention.compact)

    @app.get("/health/live")
    def alive() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/health/ready")
    def ready() -> dict[str, str]:
        """200 when readings are taken and answers are whole."""
        if not p.runner.ready.is_set() or p.runner.failed:
            raise Problem(503, "starting", "Not ready yet", "The log is being replayed.", retry_after_seconds=1)
        return {"status": "ready"}

    metrics = CollectorRegistry()
    metrics.register(_Metrics(p, rate))

    @app.get("/metrics", response_class=Response)
    def measured() -> Response:
        """In the Prometheus text format."""
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)


class _Metrics:
    """Made from the status when it is scraped."""

    def __init__(self, p: Pipeline, rate: Rate):
        self._p, self._rate = p, rate

    def collect(self) -> Any:
        status = self._p.status()
        for name in ("accepted", "quarantined", "duplicates", "late", "revisions", "imported"):
            yield CounterMetricFamily(
                f"meterpulse_{name}_readings", f"Readings {name} since the first one", value=status[name]
            )
        for name, value, text in (
            ("lag_readings", status["lag"]["readings"], "Accepted readings that are not in the views yet"),
            ("lag_seconds", status["lag"]["seconds"], "Age of the oldest of them"),
            ("dirty_days", status["dirty_days"], "Days that wait for a rebuild"),
            ("channels", status["channels"], "Registered channels"),
            ("readings_per_second", self._rate.value(), "Over the last ten seconds"),
            ("open_windows", status["open_windows"], "5-minute windows in memory"),
            ("lake_behind_entries", status["lake"]["behind"], "Log entries that are not in the lake yet"),
            ("alarms", len(status["alarms"]), "Alarms since the start"),
        ):
            yield GaugeMetricFamily(f"meterpulse_{name}", text, value=value)
        differing = GaugeMetricFamily(
            "meterpulse_differing_windows", "Windows that batch answers otherwise than speed did", labels=["cause"]
        )
        for cause, windows in status["differences"].items():
            differing.add_metric([cause], windows)
        yield differing


def _document_readings(app: FastAPI) -> None:
    content = {
        "application/x-ndjson": {"example": _EXAMPLE_READING},
        "application/json": {"example": [_EXAMPLE_READING]},
        "text/csv": {},
        MEDIA["arrow"]: {},
    }
    example = {"accepted": 1, "quarantined": 0, "reasons": {}}

    @app.post(
        PATH,
        openapi_extra={"requestBody": {"content": content, "required": True}},
        responses={
            200: {"content": {"application/json": {"example": example}}},
            413: {},
            415: {},
            422: {},
            503: {},
            507: {},
        },
    )
    def readings(source: str = "http", layout: str = "canonical") -> Response:
        """Take readings. 200 means that they are on disk; bad rows are in quarantine and the others count."""
        raise Problem(500, "internal", "Not reached", "POST /v1/readings is answered in front of this application.")


__all__ = ["create_app", "live_status", "with_intake"]
