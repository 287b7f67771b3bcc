"""Files over HTTP: GET /v1/export, sent as they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse

from meterpulse.serving.exporting import Asked, File, export

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline


def add_to(app: FastAPI, p: Pipeline) -> None:
    """Add the route."""

    @app.get("/v1/export", response_class=StreamingResponse)
    def exported(
        channel: Annotated[list[str] | None, Query(description="Ids, or patterns such as E-00*")] = None,
        area: str | None = None,
        utility: str | None = None,
        usage_point: str | None = None,
        customer: str | None = None,
        start: Annotated[str | None, Query(description="ISO 8601 with an offset")] = None,
        end: Annotated[str | None, Query(description="ISO 8601 with an offset; exclusive")] = None,
        format: Annotated[str, Query(description="csv, parquet, arrow, green_button, nem12, nem13")] = "csv",
        grain: Annotated[str, Query(description="readings, or usage by 5m, 1h or 1d")] = "readings",
    ) -> StreamingResponse:
        """Readings, or usage, of many channels as one file, of any length."""
        form = format.replace("-", "_")
        file = export(p, Asked(channel, area, utility, usage_point, customer, start, end, form, grain))
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        return StreamingResponse(begun(file), media_type=file.media_type, headers=headers)


def begun(file: File) -> Iterator[bytes]:
    """Its pieces, the first of them made: what is wrong with a question is told before an answer has begun."""
    first = next(file.pieces, b"")

    def all_of_them() -> Iterator[bytes]:
        yield first
        yield from file.pieces

    return all_of_them()
