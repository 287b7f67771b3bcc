"""The commands beside a running server, and how that starts and ends."""

from __future__ import annotations

import json
import threading
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest

import meterpulse
from meterpulse.client import Client

pytestmark = pytest.mark.slow


def test_commands_talk_to_the_server_that_has_the_data_open(run, server, london):
    assert run("ingest", london, "--register", "--data", server.data)[0] == 4
    status = json.loads(run("status", "--json", "--data", server.data)[1])
    assert (status["accepted"], status["quarantined"], status["channels"]) == (7, 1, 2)
    rows = json.loads(run("quarantine", "list", "--json", "--url", server.url)[1])
    assert [row["original"] for row in rows] == ["MAC1,Std,2013-03-31 00:42:27.0000000,Null"]


def test_usage_json_is_the_body_that_the_server_answers(run, server):
    query = "channel=MAC1&grain=1h&start=2013-03-30T00:00:00Z&end=2013-04-01T00:00:00Z"
    with urllib.request.urlopen(f"{server.url}/v1/usage?{query}") as answer:
        body = answer.read().decode()
    code, out = run("usage", "MAC1", "--start", "2013-03-30", "--end", "2013-04-01", "--json", "--data", server.data)
    assert (code, out) == (0, body + "\n")
    assert len(json.loads(body)["rows"]) == 3


def test_an_export_is_the_file_that_the_server_sends(run, server):
    with urllib.request.urlopen(f"{server.url}/v1/export?channel=MAC1&format=green-button") as answer:
        body = answer.read()
        assert (
            "attachment" in answer.headers["content-disposition"]
            and answer.headers.get_content_type() == "application/atom+xml"
        )
    assert body.count(b"<IntervalReading>") == 4 and body.endswith(b"</feed>\n")
    assert run("export", "MAC1", "--to", "mine.xml", "--data", server.data)[0] == 0
    entries = [text.split(b"<published>")[0] for text in (body, Path("mine.xml").read_bytes())]
    assert entries[0].split(b"<entry>")[1:] == entries[1].split(b"<entry>")[1:]
    assert run("export", "nobody", "--to", "none.csv", "--data", server.data)[0] == 1
    assert sorted(path.name for path in Path().iterdir()) == ["mine.xml"]
    assert run("export", "MAC1", "--format", "nem12", "--data", server.data)[0] == 0


def test_sql_works_beside_the_server(run, server):
    code, out = run("sql", "select sum(quantity) q from usage_1h", "--json", "--data", server.data)
    assert (code, json.loads(out)) == (0, [{"q": 1.589}])


def test_python_talks_to_the_server(server):
    with meterpulse.open(server.data) as by_folder, meterpulse.open(server.url) as by_address:
        assert server.url in repr(by_folder)
        tables = [
            city.usage("MAC2", start="2013-03-31", end="2013-04-01", grain="1d") for city in (by_folder, by_address)
        ]
    assert tables[0] == tables[1]
    assert tables[0]["quantity"].to_pylist() == [Decimal("0.125")]


def test_rebuild_and_compact_are_done_by_the_server(run, server):
    report = json.loads(run("rebuild", "--all", "--json", "--data", server.data)[1])
    assert [day["day"] for day in report["days"]] == ["2013-03-30", "2013-03-31"]
    assert run("compact", "--data", server.data)[0] == 0


def test_doctor_examines_data_that_is_being_served(run, server):
    code, out = run("doctor", "--json", "--data", server.data)
    found = json.loads(out)
    assert code == 0
    assert any(finding["what"] == "server" and server.url in finding["detail"] for finding in found)


def test_ctrl_c_ends_the_server_within_3_seconds_with_a_stream_open(start, tmp_path):
    running = start(tmp_path / "data", "--no-demo")
    first = threading.Event()

    def listen() -> None:
        for _ in Client(running.url).events("/v1/live"):
            first.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        assert first.wait(10)
        assert running.stop() < 3
        assert running.process.returncode == 0
        assert not (running.data / "server.json").exists()
    finally:
        running.process.kill()
        running.process.wait()


def test_a_second_start_continues_where_the_first_stopped(start, tmp_path):
    reading = b'{"channel":"A","start":"2026-01-01T00:00:00Z","seconds":300,"quantity":"1.5"}'
    query = {"channel": "A", "grain": "1d", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    for attempt in (1, 2):
        running = start(tmp_path / "data", "--no-demo")
        try:
            client = Client(running.url)
            client.post("/v1/channels", b'[{"id":"A","utility":"gas","unit":"m3"}]')
            client.post("/v1/readings", reading, "application/x-ndjson")
            with meterpulse.open(running.url) as city:
                assert city.settle(60)
            rows = client.get_json("/v1/usage", query)["rows"]
            assert [(row["quantity"], row["count"]) for row in rows] == [(1.5, 1)]
            assert client.get_json("/v1/status")["accepted"] == attempt
        finally:
            running.stop()
