"""The commands on data that nobody serves: what they print, and how they end."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import meterpulse
from meterpulse.cli import main


@pytest.fixture(scope="module")
def data(tmp_path_factory, london) -> Path:
    """A folder into which the file has gone once."""
    folder = tmp_path_factory.mktemp("city") / "data"
    assert main(["ingest", str(london), "--register", "--data", str(folder)]) == 4
    return folder


def plain_sums(file: Path, digits: int) -> dict[tuple[str, str], Decimal]:
    """(household, first `digits` characters of the stamp) -> kWh, as a plain loop reads the file."""
    seen: dict[tuple[str, str], Decimal] = {}
    with file.open(newline="") as lines:
        for household, _, stamp, value in list(csv.reader(lines))[1:]:
            if value.strip() != "Null":
                seen.setdefault((household, stamp), round(Decimal(value.strip()), 6))
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for (household, stamp), kwh in seen.items():
        sums[household, stamp[:digits]] += kwh
    return dict(sums)


@pytest.mark.parametrize(("grain", "digits"), [("1h", 13), ("1d", 10)])
def test_usage_is_what_a_plain_loop_over_the_file_gives(run, data, london, grain, digits):
    found = {}
    for household in ("MAC1", "MAC2"):
        code, out = run(
            "usage",
            household,
            "--grain",
            grain,
            "--start",
            "2013-01-01",
            "--end",
            "2014-01-01",
            "--json",
            "--data",
            data,
        )
        assert code == 0
        for row in json.loads(out, parse_float=Decimal)["rows"]:
            found[household, row["start"].replace("T", " ")[:digits]] = Decimal(row["quantity"])
    assert found == plain_sums(london, digits)


def test_taking_in_a_file_twice_changes_nothing(run, data, london):
    before = run("usage", "MAC1", "--start", "2013-03-30", "--end", "2013-04-01", "--json", "--data", data)
    code, out = run("ingest", london, "--json", "--data", data)
    assert (code, json.loads(out)["accepted"], json.loads(out)["reasons"]) == (4, 7, {"missing": 1})
    assert run("usage", "MAC1", "--start", "2013-03-30", "--end", "2013-04-01", "--json", "--data", data) == before


def test_usage_as_csv_has_the_same_rows(run, data):
    query = ("usage", "MAC1", "--start", "2013-03-30", "--end", "2013-04-01", "--data", data)
    rows = json.loads(run(*query, "--json")[1])["rows"]
    lines = list(csv.DictReader(run(*query, "--csv")[1].splitlines()))
    assert [line["start"] for line in lines] == [row["start"] for row in rows]
    assert [Decimal(line["quantity"]) for line in lines] == [Decimal(str(row["quantity"])) for row in rows]


def test_sql_gives_the_same_sums_as_usage(run, data, london):
    code, out = run("sql", "select channel, start, quantity from usage_1d order by all", "--json", "--data", data)
    assert code == 0
    found = {(row["channel"], row["start"][:10]): Decimal(str(row["quantity"])) for row in json.loads(out)}
    assert found == plain_sums(london, 10)


def test_sql_sees_every_reading_as_it_arrived(run, data):
    out = run(
        "sql",
        "select count(distinct start) n, sum(quantity) q from readings where channel = 'MAC2'",
        "--json",
        "--data",
        data,
    )[1]
    assert json.loads(out)[0]["n"] == 2


@pytest.mark.parametrize(
    "statement",
    [
        "copy channels to 'stolen.csv'",
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "attach 'other.db'",
        "install httpfs",
        "select 1; select 2",
        "set enable_external_access = true",
        "selct 1",
    ],
)
def test_sql_reads_its_tables_and_nothing_else(run, data, statement, capsys):
    assert main(["sql", statement, "--data", str(data)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "readings" in printed.err
    assert not Path("stolen.csv").exists()


def test_export_writes_the_usage_of_several_channels(run, data):
    assert (
        run(
            "export", "MAC1", "MAC2", "-o", "u.parquet", "--start", "2013-03-30", "--end", "2013-04-01", "--data", data
        )[0]
        == 0
    )
    table = pq.read_table("u.parquet")
    assert set(table["channel"].to_pylist()) == {"MAC1", "MAC2"}
    assert sum(table["quantity"].to_pylist()) == Decimal("1.589")


def test_export_to_an_unknown_kind_is_a_wrong_command(run, data):
    assert run("export", "MAC1", "-o", "u.xlsx", "--data", data)[0] == 2


def test_a_refused_row_can_be_seen_with_its_bytes(run, data, london):
    rows = json.loads(run("quarantine", "list", "--json", "--data", data)[1])
    assert {(row["reason"], row["original"]) for row in rows} == {
        ("missing", "MAC1,Std,2013-03-31 00:42:27.0000000,Null")
    }
    code, out = run("quarantine", "show", rows[0]["key"], "--data", data)
    assert (code, json.loads(out)["detail"]) == (0, rows[0]["detail"])
    assert run("quarantine", "show", 999, "--data", data)[0] == 1


def test_refused_rows_go_out_as_they_came(run, data):
    assert run("quarantine", "export", "-o", "bad.txt", "--data", data)[0] == 0
    assert set(Path("bad.txt").read_bytes().splitlines()) == {b"MAC1,Std,2013-03-31 00:42:27.0000000,Null"}


def test_a_row_of_an_unknown_channel_counts_after_its_channel_is_registered(run, tmp_path):
    Path("r.ndjson").write_text('{"channel":"W","start":"2026-01-01T00:00:00Z","seconds":300,"quantity":"2.5"}\n')
    Path("c.ndjson").write_text('{"id":"W","utility":"water","unit":"L"}\n')
    Path("none.csv").write_text("channel,start,seconds,quantity\n")
    data = tmp_path / "d"
    assert run("ingest", "r.ndjson", "--data", data)[0] == 4
    assert run("ingest", "none.csv", "--channels", "c.ndjson", "--data", data)[0] == 0
    code, out = run("quarantine", "replay", "--json", "--data", data)
    assert (code, json.loads(out)) == (0, {"accepted": 1, "quarantined": 0})
    out = run("usage", "W", "--start", "2026-01-01", "--end", "2026-01-02", "--grain", "1d", "--json", "--data", data)[
        1
    ]
    assert [row["quantity"] for row in json.loads(out)["rows"]] == [2.5]


def test_status_says_that_everything_is_in_the_answers(run, data):
    code, out = run("status", "--json", "--data", data)
    status = json.loads(out)
    assert (code, status["dirty_days"], status["lag"]["readings"], status["channels"]) == (0, 0, 0, 2)


def test_rebuilding_and_compacting_change_no_answer(run, data):
    query = ("usage", "MAC2", "--start", "2013-03-30", "--end", "2013-04-01", "--json", "--data", data)
    before = run(*query)
    assert run("rebuild", "--all", "--data", data)[0] == 0
    assert run("rebuild", "--day", "2013-03-31", "--data", data)[0] == 0
    assert run("compact", "--data", data)[0] == 0
    assert run(*query) == before


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (2, "usage"),
        (2, "usage MAC1 --area x"),
        (2, "usage --area x"),
        (2, "usage MAC1 --grain 7m"),
        (2, "usage MAC1 --start 2013-02-30"),
        (2, "usage MAC1 --start 2013-02-28T00:00:00"),
        (1, "usage nobody"),
        (2, "rebuild --all --dirty"),
        (2, "rebuild --day someday"),
        (2, "no-such-command"),
        (2, "status --no-such-option"),
        (2, "ingest missing.csv"),
        (2, "simulate --to x.parquet --utilities gold"),
        (2, "simulate --to x.parquet --faults gremlins"),
    ],
)
def test_how_a_command_ends_when_it_cannot_be_done(data, code, command, capsys):
    words = command.split()
    place = [] if words[0] in ("no-such-command", "simulate") else ["--data", str(data)]
    assert main([*words, *place]) == code
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.strip()


def test_no_server_at_an_address_is_unreachable(capsys):
    assert main(["status", "--url", "http://127.0.0.1:9"]) == 3
    assert "meterpulse up" in capsys.readouterr().err


def test_a_wrong_setting_is_a_wrong_command(capsys, monkeypatch):
    monkeypatch.setenv("METERPULSE_SERVER__PORT", "many")
    assert main(["config", "show"]) == 2
    assert "METERPULSE_SERVER__PORT" in capsys.readouterr().err


def test_config_show_tells_each_value_and_its_origin(run, monkeypatch):
    monkeypatch.setenv("METERPULSE_LAKE__COMMIT_SECONDS", "3")
    shown = json.loads(run("config", "show", "--json")[1])
    assert shown["lake.commit_seconds"] == {"value": 3, "origin": "METERPULSE_LAKE__COMMIT_SECONDS"}
    assert shown["server.port"] == {"value": 8321, "origin": "default"}


def test_a_port_that_is_taken_is_said_with_what_to_do(capsys, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["up", "--no-demo", "--port", str(port), "--data", str(tmp_path / "d")]) == 1
    assert "--port" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_doctor_finds_nothing_wrong_with_sound_data(run, data):
    code, out = run("doctor", "--json", "--data", data)
    assert (code, {finding["verdict"] for finding in json.loads(out)} - {"note"}) == (0, {"fine"})


def test_doctor_names_a_damaged_file(run, data, tmp_path):
    hurt = tmp_path / "hurt"
    shutil.copytree(data, hurt)
    file = next(hurt.glob("lake/readings/day=*/*.parquet"))
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    code, out = run("doctor", "--json", "--data", hurt)
    damaged = [finding["detail"] for finding in json.loads(out) if finding["verdict"] == "damaged"]
    assert code == 4 and len(damaged) == 1 and file.name in damaged[0]


def test_simulated_readings_come_back_whole(run, tmp_path):
    assert (
        run("simulate", "--to", "s.parquet", "--households", 3, "--hours", 0.02, "--start", "2026-01-31T12:00:00Z")[0]
        == 0
    )
    sent = pq.read_table("s.parquet")
    code, out = run("ingest", "s.parquet", "--channels", "s.channels.parquet", "--json", "--data", tmp_path / "d")
    assert (code, json.loads(out)["accepted"]) == (0, len(sent))
    out = run("sql", "select count(*) n from readings", "--json", "--data", tmp_path / "d")[1]
    assert json.loads(out) == [{"n": len(sent)}]


def test_the_same_seed_simulates_the_same_readings(run):
    for name in ("a.csv", "b.csv"):
        run(
            "simulate", "--to", name, "--households", 2, "--hours", 0.02, "--start", "2026-01-31T12:00:00Z", "--seed", 7
        )
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


def test_python_gets_tables_that_know_their_zone(data):
    with meterpulse.open(data) as city:
        table = city.usage("MAC1", start="2013-03-31", end="2013-04-01", grain="1h")
        assert str(table.schema.field("start").type) == "timestamp[ms, tz=UTC]"
        assert table["quantity"].to_pylist() == [Decimal("1.245"), Decimal(0)]
        assert city.channels()["id"].to_pylist() == ["MAC1", "MAC2"]
        assert city.status()["channels"] == 2
        assert "dirty_days" in city._repr_html_()
        with pytest.raises(ValueError, match="time zone"):
            city.usage("MAC1", start=datetime(2013, 1, 1))


def test_data_that_another_process_has_open_is_not_opened_twice(data, capsys):
    with meterpulse.open(data):
        assert main(["status", "--data", str(data)]) == 1
    assert "open in another process" in capsys.readouterr().err
