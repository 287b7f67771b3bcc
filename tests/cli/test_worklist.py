"""Deciding from the command line, with and without a server: the same ledger, the same answers."""

from __future__ import annotations

import json

import pytest

import meterpulse
from meterpulse.cli import main
from meterpulse.cli.output import FINDINGS

SPAN = ("--start", "2013-03-31T00:00:00Z", "--end", "2013-03-31T01:00:00Z")


@pytest.fixture(scope="module")
def data(london, tmp_path_factory):
    folder = tmp_path_factory.mktemp("worklist") / "data"
    assert main(["ingest", str(london), "--register", "--data", str(folder)]) == FINDINGS
    return folder


def test_a_value_is_tried_set_listed_and_taken_back(run, data):
    value = ("--value", "0.5", "--value", "0.25", "--data", data)
    code, tried = run("edits", "set", "MAC1", *SPAN, *value, "--preview", "--json")
    assert code == 0 and json.loads(tried)["totals"][0]["after"] == 0.75
    assert run("edits", "list", "--data", data, "--json") == (0, "[]\n")
    code, done = run("edits", "set", "MAC1", *SPAN, *value, "--reason", "read off", "--author", "ana", "--json")
    assert code == 0 and json.loads(done)["days"] == ["2013-03-31"]
    code, undone = run("edits", "undo", 1, "--reason", "wrong house", "--author", "ben", "--data", data, "--json")
    assert code == 0 and json.loads(undone) == {"undone": 1, "edits": 1, "days": ["2013-03-31"]}
    rows = json.loads(run("edits", "list", "--data", data, "--json")[1])
    assert [(row["author"], row["action"], row["undone"]) for row in rows] == [("ben", "undo", None), ("ana", "set", 2)]
    assert run("edits", "undo", 1, "--reason", "again", "--data", data)[0] == 1


@pytest.mark.parametrize(
    "wrong",
    [("interpolate",), ("interpolate", "1", "--rule", "V10", "--reason", "x"), ("leave", "1"), ("set", "1", "--reason", "x"),
     ("undo", "1")],
)  # fmt: skip
def test_a_decision_without_its_reason_or_its_object_is_a_wrong_command(run, tmp_path, wrong):
    assert run("exceptions", *wrong, "--data", tmp_path / "none")[0] == 2
    assert not (tmp_path / "none").exists(), "nothing was opened"


def test_the_empty_list_says_that_nothing_waits(run, data, capsys):
    code, out = run("exceptions", "list", "--data", data)
    assert code == 0 and out.startswith("number")
    assert run("exceptions", "show", 7, "--data", data)[0] == 1
    code, out = run("exceptions", "list", "--data", data, "--json")
    assert json.loads(out) == {"exceptions": [], "next": None, "counts": []}


def test_python_decides_as_the_command_line_does(data):
    with meterpulse.open(data) as city:
        which = {"channel": "MAC1", "start": "2013-03-31T00:00:00Z", "end": "2013-03-31T00:30:00Z", "values": ["0.5"]}
        seen = city.preview("set", **which)
        done = city.decide("set", author="ana", reason="why not", fingerprint=seen["fingerprint"], **which)
        assert city.undo(done["change"], author="ana", reason="because")["edits"] == 1
        newest = [change["change"] for change in city.changes(channel="MAC1", limit=2)]
        assert newest == [done["change"] + 1, done["change"]]
        assert city.exceptions(state="waiting") == []
