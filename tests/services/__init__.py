"""Real servers for tests, started as plain processes on free loopback ports, each in a folder of its own: one file per server.

A server's file has `missing()`, why it cannot be started on this machine (None where it can), `fetch()`, which brings it here
(`make services` calls it), and a class that derives from `Server`.

>>> broker = require("mosquitto").Mosquitto(tmp_path)
>>> broker.start()
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tests.services.process import Server, free_port

__all__ = ["Server", "free_port", "names", "require"]


def names() -> list[str]:
    """The servers there are: modules beside this one with a `fetch`."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return [file.stem for file in files if "\ndef fetch(" in file.read_text(encoding="utf-8")]


def require(name: str) -> ModuleType:
    """The module of a server that can be started here. Skips with the reason where it cannot; in CI that is a failure,
    because tests that silently do not run promise nothing."""
    module = import_module(f"tests.services.{name}")
    why = module.missing()
    if why is None:
        return module
    text = f"{name} is not here: {why}; `make services` brings it"
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text, allow_module_level=True)
