"""`meterpulse export`: files for others."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from meterpulse.cli.options import Data, Json, Url, city
from meterpulse.cli.output import progress, say
from meterpulse.cli.query import End, Start

_ENDINGS = {".csv": "csv", ".parquet": "parquet", ".arrow": "arrow", ".xml": "green_button"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    channels: Annotated[list[str] | None, typer.Argument(help="Ids of channels, or patterns such as 'E-00*'.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", "--out", "-o", help="A file; - or nothing is standard output.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="csv, parquet, arrow, green-button, nem12 or nem13 (default: by the ending of the file, else csv)."
        ),
    ] = None,
    area: Annotated[str | None, typer.Option(help="The channels of an area.")] = None,
    utility: Annotated[str | None, typer.Option(help="Only electricity, gas or water.")] = None,
    usage_point: Annotated[str | None, typer.Option(help="The channels of a usage point.")] = None,
    customer: Annotated[str | None, typer.Option(help="The channels of a customer.")] = None,
    start: Start = None,
    end: End = None,
    grain: Annotated[
        str | None, typer.Option(help="readings, or usage by 5m, 1h or 1d (default: 1h in tables).")
    ] = None,
    as_json: Json = False,
    data: Data = None,
    url: Url = None,
) -> None:
    """Write readings or usage of channels as a file: CSV, Parquet, Arrow, Green Button, NEM12, NEM13."""
    if not (channels or area or utility or usage_point or customer):
        raise typer.BadParameter("name channels, or --area, --utility, --usage-point or --customer")
    known = _ENDINGS.get(to.suffix.lower()) if to else "csv"
    if format is None and known is None:
        raise typer.BadParameter(f"{to}: end it in one of {', '.join(_ENDINGS)}, or say --format")
    form = (format or known or "").lower().replace("-", "_")
    if grain is None:
        grain = "1h" if form in ("csv", "parquet", "arrow") else "readings"
    written = 0
    with city(data, url) as place:
        pieces = place.export(
            channels or [],
            format=form,
            grain=grain,
            start=start,
            end=end,
            area=area,
            utility=utility,
            usage_point=usage_point,
            customer=customer,
        )
        with progress(f"export as {form}", None, "bytes") as bar, _opened(to) as file:
            for piece in pieces:
                file.write(piece)
                written += len(piece)
                bar.advance(len(piece))
    if as_json and to is not None and str(to) != "-":
        sys.stdout.write(json.dumps({"file": str(to), "format": form, "grain": grain, "bytes": written}) + "\n")
    else:
        say(f"{written} bytes of {form} to {to or 'standard output'}")


@contextmanager
def _opened(to: Path | None) -> Iterator[BinaryIO]:
    """Standard output, or a file that bears its name only when it is whole."""
    if to is None or str(to) == "-":
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    part = to.with_name(to.name + ".part")
    try:
        with open(part, "wb") as file:
            yield file
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
