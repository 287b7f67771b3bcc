"""Options that several commands share, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from meterpulse.city import City
    from meterpulse.config import Config

Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data directory (default: ./meterpulse-data).")
]
Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="A server to talk to, instead of the data directory.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


def settings(data: Path | None = None, **sections: dict[str, Any]) -> Config:
    """The effective settings with these flags on top."""
    from meterpulse.config import load

    return load({"data": data, **sections})


def city(data: Path | None, url: str | None = None) -> City:
    """The city behind `--url`, or of the data directory: through its running server, or opened here."""
    from meterpulse.city import City

    return City.at(url) if url else City.of(settings(data))
