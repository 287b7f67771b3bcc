"""`meterpulse ingest` over every format at once: folders and archives, taken in once, gone on with where it was stopped."""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile

import pytest

from meterpulse.cli import main, taking
from tests.conformance.sampled import SAMPLES

CHOSEN = list({sample.format: sample for sample in SAMPLES if sample.format != "mapping"}.values())
FILES = {f"{sample.format}/{sample.path.name}" for sample in CHOSEN}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("city") / "data"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A sample of every format in one archive, and something that is none."""
    path = tmp_path_factory.mktemp("files") / "samples.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for sample in CHOSEN:
            archive.write(sample.path, f"{sample.format}/{sample.path.name}")
        archive.writestr("README.txt", "not a reading in it")
    return path


def ingest(run, *arguments):
    code, out = run("ingest", *arguments, "--no-wait", "--json")
    told = json.loads(out)
    return code, told, {"/".join(file["file"].split("/")[-2:]): file for file in told["files"]}


def test_every_format_is_taken_in_from_one_archive_and_once(run, data, samples, tmp_path):
    code, first, files = ingest(run, samples, "--register", "--data", data)
    assert code == 4 and first["accepted"] > 300 and first["channels_created"] > 25
    assert {name for name, file in files.items() if file["state"] == "done"} == FILES
    assert (
        files["samples.zip/README.txt"]["state"] == "skipped"
        and "no known format" in files["samples.zip/README.txt"]["error"]
    )
    for sample in CHOSEN:
        assert files[f"{sample.format}/{sample.path.name}"]["accepted"] == sample.expected.count(
            "\n"
        ) - sample.expected.count("!")
    unpacked = tmp_path / "elsewhere"
    for sample in CHOSEN:
        (unpacked / sample.format).mkdir(parents=True)
        shutil.copy(sample.path, unpacked / sample.format)
    _, again, files = ingest(run, unpacked, "--register", "--data", data)
    assert {name for name, file in files.items() if file["state"] == "taken in before"} == FILES
    assert again["channels_created"] == 0 and again["reasons"] == first["reasons"]
    status = json.loads(run("status", "--json", "--data", data)[1])
    assert (status["accepted"], status["quarantined"]) == (first["accepted"], first["quarantined"])


def test_an_ingest_that_was_stopped_goes_on_behind_what_was_sent(run, tmp_path, monkeypatch):
    lines = "".join(f"E-1,2026-03-07T{i // 60:02d}:{i % 60:02d}:00Z,60,0.001,kWh\n" for i in range(600))
    (tmp_path / "x.csv").write_text("channel,start,seconds,quantity,unit\n" + lines)
    monkeypatch.setattr("meterpulse.ingest.files.CHUNK_BYTES", 4_000)
    sent = taking.Taking._send_batch

    def stopped(self, batch, source, progress):
        if progress.accepted > 200:
            raise KeyboardInterrupt
        sent(self, batch, source, progress)

    monkeypatch.setattr(taking.Taking, "_send_batch", stopped)
    arguments = [str(tmp_path / "x.csv"), "--register", "--no-wait", "--json", "--data", str(tmp_path / "data")]
    try:
        assert main(["ingest", *arguments]) in (1, 130)
    except KeyboardInterrupt:
        pass
    monkeypatch.setattr(taking.Taking, "_send_batch", sent)
    before = json.loads(run("status", "--json", "--data", tmp_path / "data")[1])["accepted"]
    assert 200 < before < 600
    code, out = run("ingest", *arguments)
    after = json.loads(run("status", "--json", "--data", tmp_path / "data")[1])["accepted"]
    assert (code, json.loads(out)["accepted"], after) == (0, 600, 600)


def test_names_and_mappings_and_standard_input(run, tmp_path, monkeypatch):
    text = "day;clock;use\n1.3.2026;0:15;0,25\n1.3.2026;0:30;0,5\n"
    (tmp_path / "m.toml").write_text(
        'stamp = ["day", "clock"]\npattern = ["%d.%m.%Y", "%H:%M"]\nzone = "Europe/Berlin"\ninterval = "end"\n'
        'decimal = ","\nvalue = "use"\nid = "flat-7"\nseconds = 900\n'
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    options = (
        "--mapping",
        tmp_path / "m.toml",
        "--id-template",
        "house/{id}",
        "--register",
        "--data",
        tmp_path / "data",
    )
    code, told, _ = ingest(run, "-", *options)
    assert (code, told["accepted"], told["channels_created"]) == (0, 2, 1)
    rows = json.loads(run("sql", "select id, time_zone from channels", "--json", "--data", tmp_path / "data")[1])
    assert rows == [{"id": "house/flat-7", "time_zone": "Europe/Berlin"}]
    (tmp_path / "m.toml").write_text('stamp = "day"\npattern = "%d.%m.%Y"\nvalue = "use"\nzone = "Mars/Olympus"\n')
    assert run("ingest", "-", *options, "--json")[0] == 2
    assert run("ingest", tmp_path / "m.toml", "--id-template", "{nobody}", "--data", tmp_path / "data")[0] == 2
