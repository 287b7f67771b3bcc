"""`meterpulse bench NAME`: the benchmarks of the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from meterpulse.cli.output import USAGE, complain

_FOLDER = Path(__file__).resolve().parents[2] / "bench"


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    options = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(context_settings=options)(bench)


def benchmarks() -> list[str]:
    """The names of the benchmarks in the repository; none in an installed wheel."""
    return sorted(file.stem for file in _FOLDER.glob("[!_]*.py"))


def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One of the benchmarks; without it they are listed.")] = None,
) -> None:
    """Run a benchmark with its own options, as in `meterpulse bench fleet --minutes 1`; its table goes to stdout."""
    if not benchmarks():
        complain(
            f"there is no {_FOLDER.name}/ beside the package: benchmarks come with the repository, not with the wheel"
        )
        raise typer.Exit(USAGE)
    if name is None:
        print("\n".join(benchmarks()))
        return
    # `json.py` beside the others would be taken for the module: so its name is longer, and its beginning is enough.
    name = next((known for known in benchmarks() if known == name or known.split("_")[0] == name), name)
    if f"{name}_records" in benchmarks():  # bench/json.py would hide the library's json from its neighbours
        name = f"{name}_records"
    if name not in benchmarks():
        complain(f"no benchmark {name!r}; there are {', '.join(benchmarks())}")
        raise typer.Exit(USAGE)
    raise typer.Exit(subprocess.call([sys.executable, str(_FOLDER / f"{name}.py"), *context.args]))
