"""How far files have come that the command line sends here: /v1/imports. See ingest/journal.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Body, FastAPI

from meterpulse.ingest.journal import Progress
from meterpulse.model.problem import Problem

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline


def add_to(app: FastAPI, p: Pipeline) -> None:
    """Add the routes."""

    @app.get("/v1/imports/{key}")
    def progress(key: str) -> dict[str, Any]:
        """How far the file of this content has come; null where it is new."""
        try:
            found = p.imports.get(key)
        except ValueError as error:
            raise _wrong(error) from None
        return {"progress": None if found is None else found.to_dict()}

    @app.post("/v1/imports/{key}")
    def note(key: str, given: Any = Body()) -> dict[str, Any]:
        """Note how far it has come: everything before the position is acknowledged."""
        try:
            p.imports.put(key, Progress.from_dict(given))
        except ValueError as error:
            raise _wrong(error) from None
        return {}

    @app.delete("/v1/imports/{key}")
    def forget(key: str) -> dict[str, Any]:
        """The next ingest of the file begins anew."""
        try:
            p.imports.forget(key)
        except ValueError as error:
            raise _wrong(error) from None
        return {}


def _wrong(error: ValueError) -> Problem:
    return Problem(422, "import", "Not the progress of a file", str(error))
