"""`meterpulse config show`: what is in force, and where it comes from."""

from __future__ import annotations

import tomllib
from typing import Annotated, Any

import typer

from meterpulse.cli.options import Data, Json
from meterpulse.cli.output import USAGE, complain, put_json, put_table


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(no_args_is_help=True, help="Settings: flags > METERPULSE_* > ./meterpulse.toml > defaults.")
    group.command()(show)
    group.command()(dialect)
    app.add_typer(group, name="config")


def show(data: Data = None, as_json: Json = False) -> None:
    """Print every setting with its value and its origin."""
    from meterpulse.config import load_with_origins, settings

    config, origins = load_with_origins({"data": data})
    if config.vee.groups:
        from meterpulse.vee.groups import VeeSettings

        VeeSettings.of(config.vee.groups)  # says what is wrong with them, as the start does
    rows = [(name, _plain(value), origins[name]) for name, value in settings(config)]
    if as_json:
        put_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
    else:
        put_table(
            [(name, "none" if value is None else str(value), origin) for name, value, origin in rows],
            ["setting", "value", "origin"],
        )


def dialect(
    name: Annotated[
        str | None, typer.Argument(help="One of those that come along; without it they are listed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print how a family of devices is understood over MQTT: a file to copy and change."""
    from meterpulse.ingest.dialects import built_in, source_of
    from meterpulse.ingest.dialects import dialect as known

    if name is None:
        put_json(built_in()) if as_json else print("\n".join(built_in()))
        return
    try:
        known(name)
    except ValueError as error:
        complain(str(error))
        raise typer.Exit(USAGE) from None
    text = source_of(name).read_text(encoding="utf-8")
    put_json(tomllib.loads(text)) if as_json else print(text, end="")


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return value if isinstance(value, int | float | None) else str(value)
