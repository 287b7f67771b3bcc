"""`meterpulse vee`: the rules as the manual has them, and what they find in stored values."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meterpulse.cli import main
from meterpulse.cli.output import FINDINGS
from meterpulse.vee.catalogue import rules
from meterpulse.vee.estimation import DEFAULT_ORDER, estimators

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "validate.md"
START = datetime(2026, 3, 1, tzinfo=UTC)
SPAN = ("--start", "2026-03-01", "--end", "2026-03-03")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two days of quarter hours: a spike, a gap of two intervals, a number of all ones."""
    folder = tmp_path_factory.mktemp("vee")
    lines = ["channel,start,seconds,quantity,unit"]
    for slot in range(192):
        quantity = {40: "9.5", 130: "16.777215"}.get(slot, f"0.{100 + slot % 7}")
        if slot not in (100, 101):
            at = (START + timedelta(minutes=15 * slot)).isoformat().replace("+00:00", "Z")
            lines.append(f"E-1,{at},900,{quantity},kWh")
    file = folder / "readings.csv"
    file.write_text("\n".join(lines) + "\n")
    assert main(["ingest", str(file), "--register", "--data", str(folder / "data")]) == 0
    return folder / "data"


def test_every_rule_and_setting_is_in_the_manual_with_its_default():
    text = GUIDE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (V\d\d \w+)\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == [f"{id} {rule.name}" for id, rule in rules().items()]
    for title, section in sections.items():
        defaults = rules()[title[:3]].settings().model_dump(mode="json")
        told = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", section, re.MULTILINE))
        assert told == {name: "none" if v is None else f"`{v}`" for name, v in defaults.items()}, title


def test_every_estimator_is_in_the_manual_with_its_settings():
    text = GUIDE.read_text(encoding="utf-8").partition("## Estimators")[2]
    assert re.findall(r"`(\w+)`", text.partition(".")[0]) == list(DEFAULT_ORDER)
    told = dict(re.findall(r"^- `(\w+)`:(.*?)(?=^- |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(told) == set(estimators())
    for name, estimator in estimators().items():
        for setting, default in estimator.settings().model_dump(mode="json").items():
            assert f"`{setting}` ({default})" in " ".join(told[name].split()), name


def test_the_rules_are_listed_with_what_is_in_force_for_a_channel(run, data):
    listed = json.loads(run("vee", "rules", "--json")[1])
    assert [row["rule"] for row in listed["rules"]] == list(rules())
    assert all(row["on"] for row in listed["rules"])
    Path("meterpulse.toml").write_text(
        '[[vee.groups]]\nname = "a"\nchannels = ["E-*"]\nfrom = 2026-03-02\n'
        "[vee.groups.rules.V10]\nk = 99\n[vee.groups.rules.V06]\non = false\n"
    )
    asked = ("vee", "rules", "--channel", "E-1", "--data", data, "--json")
    before, after = (json.loads(run(*asked, "--day", day)[1]) for day in ("2026-03-01", "2026-03-02"))
    assert before["rules_version"] == listed["rules_version"] != after["rules_version"]
    rows = {row["rule"]: row for row in after["rules"]}
    assert (rows["V10"]["settings"]["k"], rows["V06"]["on"]) == ("99", False)


def test_a_check_tells_what_is_wrong_with_exit_code_4(run, data):
    code, out = run("vee", "check", "E-1", *SPAN, "--data", data, "--json")
    assert code == FINDINGS
    found = {(row["rule"], row["start"], row["end"]): (row["measured"], row["limit"]) for row in json.loads(out)}
    assert found[("V10", "2026-03-01T10:00:00Z", "2026-03-01T10:15:00Z")] == ("9.5", "0.2968")
    assert found[("V07", "2026-03-02T01:00:00Z", "2026-03-02T01:30:00Z")] == ("2", "0")
    assert found[("V06", "2026-03-02T08:30:00Z", "2026-03-02T08:45:00Z")] == ("16.777215", "16.777215")


def test_a_check_can_be_of_one_rule_and_finds_nothing_where_nothing_is_wrong(run, data):
    code, out = run("vee", "check", "E-1", *SPAN, "--rule", "V14", "--data", data, "--json")
    assert (code, out) == (0, "[]\n")
    code, out = run("vee", "check", "E-1", *SPAN, "--rule", "V10", "--data", data, "--csv")
    assert code == FINDINGS and len(out.splitlines()) == 3


def test_a_check_without_a_time_or_of_an_unknown_channel_is_a_wrong_command(run, data):
    assert run("vee", "check", "E-1", "--data", data)[0] == 2
    assert run("vee", "check", "E-9", *SPAN, "--data", data)[0] == 2
    assert run("vee", "check", "E-1", "--start", "soon", "--end", "2026-03-02", "--data", data)[0] == 2
    assert run("vee", "rules", "--channel", "E-1", "--day", "soon", "--data", data)[0] == 2
