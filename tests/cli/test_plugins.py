"""A plugin is one file whose name is its name in the configuration."""

from __future__ import annotations

import subprocess
import sys

import pytest

from meterpulse import plugins


def test_listing_what_exists_imports_nothing():
    code = (
        "import sys; from meterpulse.plugins import available; available('log'); available('stores'); available('lake')"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"lmdb", "deltalake", "pyarrow", "numpy"} & set(loaded)


def test_a_plugin_is_found_by_its_file_name():
    assert plugins.load("log", "lmdb").__name__ == "meterpulse.log.lmdb"
    assert plugins.implementation("log", "lmdb").__name__ == "LmdbLog"


def test_helpers_beside_a_plugin_are_not_plugins():
    assert "commits" not in plugins.available("lake")


def test_an_unknown_name_is_answered_with_those_that_exist():
    with pytest.raises(plugins.PluginError, match="no such engine; built in: .*lmdb"):
        plugins.load("log", "postgres")


def test_a_missing_library_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "__init__.py").write_text("class Log(ABC): ...\n", encoding="utf-8")
    (folder / "redis.py").write_text("import redis\nclass RedisLog(Log): ...\n", encoding="utf-8")
    monkeypatch.setattr(plugins, "_HERE", tmp_path)

    def without_redis(name):
        raise ModuleNotFoundError("No module named 'redis'", name="redis")

    monkeypatch.setattr(plugins, "import_module", without_redis)
    with pytest.raises(plugins.PluginError, match=r"log/redis needs redis; run: pip install 'meterpulse\[redis\]'"):
        plugins.load("log", "redis")
