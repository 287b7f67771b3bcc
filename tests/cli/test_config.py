"""Settings: which source wins, what is refused and how, and that every one is documented."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from meterpulse import views
from meterpulse.config import Config, ConfigError, keep_ms, load, load_with_origins, settings

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "configure.md"


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch, tmp_path):
    import os

    for name in [name for name in os.environ if name.startswith("METERPULSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str) -> None:
    Path("meterpulse.toml").write_text(text, encoding="utf-8")


def test_nothing_needs_to_be_configured():
    assert load().server.port == 8321
    assert load().data == Path("meterpulse-data")


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(monkeypatch):
    write("[server]\nport = 1111\nhost = '127.0.0.2'\n[lake]\ncommit_seconds = 3")
    monkeypatch.setenv("METERPULSE_SERVER__PORT", "2222")
    monkeypatch.setenv("METERPULSE_SERVER__HOST", "127.0.0.3")
    config, origins = load_with_origins({"server": {"port": 3333}})
    assert (config.server.port, config.server.host, config.lake.commit_seconds) == (3333, "127.0.0.3", 3)
    assert config.speed.watermark_delay_seconds == 10
    assert origins["server.port"] == "command line"
    assert origins["server.host"] == "METERPULSE_SERVER__HOST"
    assert origins["lake.commit_seconds"] == "meterpulse.toml"
    assert origins["speed.watermark_delay_seconds"] == "default"


def test_a_flag_that_was_not_given_changes_nothing(monkeypatch):
    monkeypatch.setenv("METERPULSE_SERVER__PORT", "2222")
    assert load({"data": None, "server": {"port": None}}).server.port == 2222


def test_the_data_folder_can_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("METERPULSE_DATA", "elsewhere")
    assert load().data == Path("elsewhere")


def test_an_engine_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match=r"log\.engine = 'lmbd': no such engine; built in: .*lmdb"):
        load({"log": {"engine": "lmbd"}})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"server": {"port": 99999}}, "server.port = 99999: takes"),
        ({"server": {"prt": 1}}, "server.prt: no such setting (from command line); did you mean server.port"),
        ({"sever": {"port": 1}}, "sever: no such setting"),
        ({"retention": {"readings": "3 weeks"}}, "retention.readings = '3 weeks': takes a time such as 36h, 30d"),
        ({"demo": {"enabled": "perhaps"}}, "demo.enabled = 'perhaps': takes"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_takes(flags, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(flags)


def test_every_wrong_setting_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        load({"server": {"port": "x"}, "lake": {"commit_seconds": 0}})
    assert "server.port" in str(caught.value) and "lake.commit_seconds" in str(caught.value)


def test_a_misspelt_variable_is_an_error_and_not_ignored(monkeypatch):
    monkeypatch.setenv("METERPULSE_SERVER__PROT", "1")
    with pytest.raises(ConfigError, match="METERPULSE_SERVER__PROT: no such setting; did you mean"):
        load()


def test_a_setting_without_its_section_is_found(monkeypatch):
    monkeypatch.setenv("METERPULSE_PORT", "1")
    with pytest.raises(ConfigError, match="METERPULSE_PORT: no such setting; did you mean METERPULSE_SERVER__PORT"):
        load()


def test_an_error_tells_where_the_value_came_from(monkeypatch):
    monkeypatch.setenv("METERPULSE_SERVER__PORT", "many")
    with pytest.raises(ConfigError, match=r"from METERPULSE_SERVER__PORT"):
        load()
    monkeypatch.delenv("METERPULSE_SERVER__PORT")
    write("[server]\nport = 'many'")
    with pytest.raises(ConfigError, match=r"from meterpulse\.toml"):
        load()


def test_a_broken_file_is_named():
    write("[server\nport = 1")
    with pytest.raises(ConfigError, match=r"meterpulse\.toml cannot be read"):
        load()


def test_a_section_given_as_a_value_is_explained():
    write("server = 8000")
    with pytest.raises(ConfigError, match="server"):
        load()


def test_settings_are_frozen():
    with pytest.raises(ValueError):
        load().server.port = 1


@pytest.mark.parametrize(
    ("text", "ms"), [("36h", 129_600_000), ("30d", 2_592_000_000), ("8w", 4_838_400_000), ("forever", None)]
)
def test_a_time_to_keep_is_read_in_whole_units(text, ms):
    assert keep_ms(text) == ms


def test_retention_starts_from_what_each_view_declares():
    retention = Config().retention
    assert {name: getattr(retention, name) for name in views.declared()} == {
        name: view.keep for name, view in views.declared().items()
    }


def test_every_setting_is_documented_with_its_default():
    guide = dict(re.findall(r"^\| `([a-z_0-9.]+)` \| (.+?) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    defaults = {name: value for name, value in settings(Config())}
    assert set(guide) == set(defaults)
    for name, value in defaults.items():
        shown = "none" if value is None else f"`{json.dumps(value) if isinstance(value, bool | tuple) else value}`"
        assert guide[name] == shown, name
