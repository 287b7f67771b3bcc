"""What is installed is what is imported; locks carry hashes and no addresses."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = ["requirements.txt", "requirements-dev.txt"]


def imported(folder: Path) -> set[str]:
    """Top-level names of other people's modules that the sources import anywhere."""
    found: set[str] = set()
    for file in folder.rglob("*.py"):
        if "node_modules" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"meterpulse"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[ \[<>=!~;]", name)[0]).lower()


@cache
def installed() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def distributions(module: str) -> set[str]:
    return {normal(name) for name in installed().get(module, [module])}


def test_every_library_that_is_imported_is_declared():
    extras = [PROJECT["optional-dependencies"][extra] for extra in ("kafka", "mqtt")]
    declared = {normal(name) for names in (PROJECT["dependencies"], *extras) for name in names}
    # Made once, by hand, from the packages that hold the shapes; see the scripts.
    scripts = {"zipcodes", "shapely"}
    missing = {module for module in imported(ROOT / "meterpulse") - scripts if not distributions(module) & declared}
    # They come with what is declared: starlette with fastapi, llvmlite with numba.
    assert missing - {"starlette", "llvmlite"} == set()


def test_every_library_that_is_declared_is_used():
    used = {name for module in imported(ROOT / "meterpulse") for name in distributions(module)}
    # Named by their string: the server's loop and parser, and the zones where the system has none.
    assert {normal(name) for name in PROJECT["dependencies"]} - used == {"uvloop", "httptools", "tzdata"}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_hash_for_every_package_and_no_address(lock):
    text = (ROOT / lock).read_text(encoding="utf-8")
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(packages) > 40
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert re.findall(r"https?://|--index|--find-links|file:|/home/|/root/", text) == []


def test_the_locks_agree():
    runtime, dev = (set(re.findall(r"^([a-z0-9-]+==\S+)", (ROOT / lock).read_text(), re.MULTILINE)) for lock in LOCKS)
    assert runtime - dev == set()


def test_the_lock_holds_every_dependency():
    locked = {normal(name) for name in re.findall(r"^([a-z0-9-]+)==", (ROOT / LOCKS[0]).read_text(), re.MULTILINE)}
    assert {normal(name) for name in PROJECT["dependencies"]} - locked == set()
