"""`meterpulse config show`: what is in force, and where it comes from."""

from __future__ import annotations

from typing import Any

import typer

from meterpulse.cli.options import Data, Json
from meterpulse.cli.output import put_json, put_table


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(no_args_is_help=True, help="Settings: flags > METERPULSE_* > ./meterpulse.toml > defaults.")
    group.command()(show)
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


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return value if isinstance(value, int | float | None) else str(value)
