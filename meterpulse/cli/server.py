"""`meterpulse up`: everything on this machine."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from meterpulse.cli.options import Data, settings
from meterpulse.cli.output import FAILURE, complain, say


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(up)


def up(
    data: Data = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one (default: 8321).")] = None,
    demo: Annotated[
        bool | None, typer.Option("--demo/--no-demo", help="A demo city that lives (default: yes).")
    ] = None,
    households: Annotated[int | None, typer.Option(help="Households of the demo city (default: 10000).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the demo city (default: 1).")] = None,
) -> None:
    """Run everything: log, views, lake, rebuilds, API and pages. Ctrl-C ends it; the next start goes on from there."""
    config = settings(
        data,
        server={"host": host, "port": port},
        demo={"enabled": demo, "households": households, "seed": seed},
    )
    listener = _listen(config.server.host, config.server.port)
    say("starting; the first start of a new version compiles the kernels and takes some seconds longer")
    from meterpulse.pipeline import up as run

    run(config, listener)


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket; ends the command where that is not possible."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        complain(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "choose another with --host and --port (0 takes a free one)"
        )
        raise typer.Exit(FAILURE) from None
