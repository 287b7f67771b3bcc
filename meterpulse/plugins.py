"""Implementations by their name in the configuration: `speed.engine = "embedded"` is the file `speed/embedded.py`.

A plugin is a module with a class that derives from a contract of its folder; a contract is an abstract class or a
protocol in the folder's `__init__.py`. Listing reads the source text and imports nothing, so that a technology that was
not chosen is never loaded. A folder without contracts (views, alarms) holds declarations, and each of its files is one.
A new plugin is a new file; nothing else names it.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).parent
_CONTRACT = re.compile(r"^class (\w+)\((?:[\w.\[\], ]*\b)?(?:ABC|Protocol)\b", re.MULTILINE)
_EXTRAS = {
    "psycopg": "postgresql",
    "pymysql": "mysql",
    "confluent_kafka": "kafka",
    "fastavro": "kafka",
    "mqtt5": "mqtt",
}


class PluginError(ValueError):
    """There is no such implementation, or its library is not installed; the message says what to do."""


def contracts(folder: str) -> list[str]:
    """The names of the contracts that `meterpulse/<folder>/__init__.py` declares."""
    init = _HERE / folder / "__init__.py"
    return _CONTRACT.findall(init.read_text(encoding="utf-8")) if init.is_file() else []


def available(folder: str, contract: str | None = None) -> list[str]:
    """The plugin names of a folder, sorted; of one contract where the folder has several. Nothing is imported.

    >>> "lmdb" in available("log")
    True
    """
    files = sorted((_HERE / folder).glob("[!_]*.py"))
    names = contracts(folder) if contract is None else [contract]
    if not names:
        return [file.stem for file in files]
    derived = re.compile(rf"^class \w+\([^)]*\b(?:{'|'.join(names)})\b[^)]*\)", re.MULTILINE)
    return [file.stem for file in files if derived.search(file.read_text(encoding="utf-8"))]


def load(folder: str, name: str, contract: str | None = None) -> ModuleType:
    """Import `meterpulse.<folder>.<name>`; raises PluginError where it does not exist or its library is missing."""
    known = available(folder, contract)
    if name not in known:
        raise PluginError(f"no such engine; built in: {', '.join(known) or 'none'}")
    try:
        return import_module(f"meterpulse.{folder}.{name}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "meterpulse"):
            raise
        extra = _EXTRAS.get(missing, name)
        raise PluginError(f"{folder}/{name} needs {missing}; run: pip install 'meterpulse[{extra}]'") from None


def implementation(folder: str, name: str, contract: str | None = None) -> type[Any]:
    """The class in `meterpulse.<folder>.<name>` that fulfils the folder's contract; raises PluginError.

    >>> implementation("log", "lmdb").__name__
    'LmdbLog'
    """
    module = load(folder, name, contract)
    names = contracts(folder) if contract is None else [contract]
    bases = tuple(getattr(import_module(f"meterpulse.{folder}"), each) for each in names)
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__ and issubclass(value, bases):
            return value
    raise PluginError(f"meterpulse/{folder}/{name}.py has no class that derives from {', '.join(names)}")
