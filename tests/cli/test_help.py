"""Every command explains itself, is documented, and is there at once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from meterpulse.cli import app, main

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md"


def commands(group=None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


ALL = list(commands())


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_command_explains_itself(command, capsys):
    assert main([*command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"meterpulse {' '.join(command)}" in printed


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_option_and_argument_is_explained(command):
    found = get_command(app)
    for name in command:
        found = found.commands[name]
    assert found.help
    assert [parameter.name for parameter in found.params if not getattr(parameter, "help", None)] == []


def test_every_command_is_in_the_guide_and_nothing_else():
    listed = re.findall(r"^\| `([a-z -]+)` \|", GUIDE.read_text(encoding="utf-8").partition("## Exit")[0], re.MULTILINE)
    assert sorted(listed) == sorted(" ".join(command) for command in ALL)


def test_the_promised_commands_are_there():
    promised = "up ingest simulate rebuild usage sql status doctor bench export compact"
    assert set(promised.split()) <= {command[0] for command in ALL}
    assert {("config", "show"), ("quarantine", "list"), ("quarantine", "replay")} <= set(ALL)


def test_help_loads_nothing_heavy():
    code = "import sys; from meterpulse.cli import main; main(['--version']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "numpy",
        "pyarrow",
        "numba",
        "duckdb",
        "deltalake",
        "fastapi",
        "uvicorn",
        "sqlalchemy",
        "pydantic_settings",
        "lmdb",
    }
    assert heavy & set(loaded) == set()


def test_a_module_run_is_the_command():
    run = subprocess.run([sys.executable, "-m", "meterpulse", "--version"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "0.1.0\n")
