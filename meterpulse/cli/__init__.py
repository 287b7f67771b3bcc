"""The command line. stdout is data, stderr is progress; one file here is one group of commands.

Exit codes: 0 ok, 1 failure, 2 usage, 3 unreachable, 4 data-quality findings, 130 interrupted. Everything heavy is
imported inside the command that needs it, so that `meterpulse --help` is there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from meterpulse.cli import (
    care,
    differences,
    edits,
    exceptions,
    exporting,
    figures,
    fingerprints,
    intake,
    query,
    replay,
    server,
    settings,
    simulation,
    vee,
)
from meterpulse.cli.output import FAILURE, UNREACHABLE, USAGE, complain

app = typer.Typer(
    name="meterpulse",
    help="A city's electricity, gas and water meters: every reading kept, every answer exact.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    server, intake, replay, query, exporting, exceptions, edits, differences, vee, care, fingerprints, simulation, settings,
    figures,
):  # fmt: skip
    group.add_to(app)


@app.callback(invoke_without_command=True)
def main_options(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    """A city's electricity, gas and water meters: every reading kept, every answer exact."""
    if version:
        import meterpulse

        print(meterpulse.__version__)
        raise typer.Exit


def run() -> None:
    """The entry point of the command `meterpulse`."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code; errors meant for people are one line on stderr."""
    try:
        app(None if arguments is None else list(arguments), prog_name="meterpulse")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILURE
    except Exception as error:
        return _explained(error)
    return 0


def _explained(error: Exception) -> int:
    """The exit code of an error that carries its own explanation; anything else is a bug and keeps its traceback."""
    from meterpulse.client import Unreachable
    from meterpulse.model.problem import Problem

    if isinstance(error, Unreachable):
        code = UNREACHABLE
    elif isinstance(error, Problem):
        code = USAGE if error.status in (400, 415, 422) else FAILURE
    elif type(error).__name__ in ("ConfigError", "MappingError", "PluginError", "UsageError"):
        code = USAGE
    elif isinstance(error, OSError):
        code = FAILURE
    else:
        raise error
    complain(str(error))
    return code
