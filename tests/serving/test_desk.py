"""Exceptions and edits over the API: look, try, decide, take back; and every wrong question says what to ask."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meterpulse.config import load
from meterpulse.model.channel import Channel
from meterpulse.model.window import iso
from meterpulse.pipeline import Pipeline, answer, replay_quarantine
from meterpulse.serving.http import create_app
from meterpulse.worklist import Found

DAY = int(datetime(2026, 3, 18, tzinfo=UTC).timestamp() * 1000)
STEP, KWH = 900_000, 10**6
GAP, SPIKE = 40, 60  # intervals of the day: two are missing from GAP on, SPIKE is a hundred times too high
WHO = {"author": "ana", "reason": "the meter was wet"}


class Api:
    """The application, asked without a socket."""

    def __init__(self, p: Pipeline):
        self.p, self._app = p, create_app(p, answer_of=answer, replay=replay_quarantine)

    def raw(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        path, _, query = path.partition("?")
        sent: list[dict] = []

        async def receive() -> dict:
            return {"type": "http.request", "body": json.dumps(body).encode() if body is not None else b""}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
                 "query_string": query.encode(), "headers": [(b"content-type", b"application/json")]}  # fmt: skip
        asyncio.run(self._app(scope, receive, send))
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])

    def get(self, path: str) -> Any:
        status, body = self.raw("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, body: Any) -> Any:
        status, answered = self.raw("POST", path, body)
        assert status == 200, answered
        return json.loads(answered)

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        status, answered = self.raw(method, path, body)
        document = json.loads(answered)
        assert document["status"] == status and document["type"].startswith("urn:meterpulse:problem:")
        return status, document["detail"]


def at(interval: int) -> str:
    return iso(DAY + interval * STEP)


@contextmanager
def city(data: Path) -> Iterator[Api]:
    """Two weeks' Wednesdays of E-1, with a gap and a spike in the work list."""
    config = load(
        {"data": str(data), "log": {"max_bytes": 1 << 28}, "stores": {"max_bytes": 1 << 28}, "vee": {"record": False}}
    )
    with Pipeline.open(config, clock=lambda: DAY + 2 * 86_400_000) as p:
        shared = {"interval_seconds": 900, "area": "10001"}
        p.registry.register(
            [
                Channel("E-1", "electricity", "kWh", **shared),
                Channel("E-2", "electricity", "kWh", **shared),
                Channel("V-1", "electricity", "V", kind="gauge", **shared),
            ]
        )
        lines = []
        for day in (-7, 0):
            for k in range(96):
                if day == 0 and k in (GAP, GAP + 1):
                    continue
                quantity = 100 if (day, k) == (0, SPIKE) else k / 4
                start = iso(DAY + day * 86_400_000 + k * STEP)
                lines.append({"channel": "E-1", "start": start, "seconds": 900, "quantity": str(quantity)})
        decoded = p.take("\n".join(map(json.dumps, lines)).encode(), "application/x-ndjson")
        assert not decoded.rejected
        p.ingest(decoded, "http")
        assert p.settle(60)
        gap, spike = (GAP, GAP + 2, 2, 0, 20 * KWH), (SPIKE, SPIKE + 1, 100 * KWH, 30 * KWH, 85 * KWH)
        offer(p, ("V07", *gap), ("V10", *spike))
        yield Api(p)


@pytest.fixture
def api(tmp_path) -> Iterator[Api]:
    with city(tmp_path / "data") as api:
        yield api


@pytest.fixture(scope="module")
def still(tmp_path_factory) -> Iterator[Api]:
    """One for all tests that change nothing."""
    with city(tmp_path_factory.mktemp("desk") / "data") as api:
        yield api


def offer(p: Pipeline, *rows: tuple) -> None:
    rule, first, after, measured, limit, quantity = zip(*rows, strict=True)
    n, numbers = len(rows), [np.array(c, np.int64) for c in (measured, limit, quantity)]
    start, end = (DAY + np.array(c, np.int64) * STEP for c in (first, after))
    found = Found(np.zeros(n, np.uint32), list(rule), start, end, np.full(n, STEP), *numbers, numbers[2] // 4000,
                  ["electricity"] * n, ["10001"] * n)  # fmt: skip
    p.desk.exceptions.offer(DAY // 86_400_000, found, p.clock())


def stands(api: Api, number: int) -> dict[str, tuple]:
    return {row["start"]: (row["effective"], row["mark"]) for row in api.get(f"/v1/exceptions/{number}")["intervals"]}


def test_the_heaviest_is_first_and_everything_about_it_is_told(still):
    page = still.get("/v1/exceptions?state=waiting")
    assert [(e["rule"], e["channel"], e["quantity"], e["unit"], e["weight"]) for e in page["exceptions"]] == [
        ("V10", "E-1", 85.0, "kWh", 21.25), ("V07", "E-1", 20.0, "kWh", 5.0)]  # fmt: skip
    assert {(c["rule"], c["state"], c["count"]) for c in page["counts"]} == {("V07", "open", 1), ("V10", "open", 1)}
    one = still.get("/v1/exceptions/1")
    by_start = {row["start"]: row for row in one["intervals"]}
    assert by_start[at(GAP)] == {"start": at(GAP), "raw": None, "effective": None, "quality": None, "mark": None}
    assert by_start[at(GAP - 1)] == {
        "start": at(GAP - 1),
        "raw": 9.75,
        "effective": 9.75,
        "quality": "raw",
        "mark": "A",
    }
    assert [event["event"] for event in one["history"]] == ["opened"]


def test_what_is_wrong_is_said_in_words(still):
    told = [(e["title"], e["words"]) for e in still.get("/v1/exceptions")["exceptions"]]
    assert told == [
        ("Spike", "100 kWh, where the day's other values allow 30 kWh, 3.33 times that."),
        ("Missing", "2 intervals without a value."),
    ]


def test_the_values_around_come_with_the_list_where_asked_for(still):
    spike, gap = (one["around"] for one in still.get("/v1/exceptions?around=values")["exceptions"])
    assert (spike["start"], spike["seconds"]) == (at(SPIKE - 48), 900)
    assert len(spike["measured"]) == 97 and spike["measured"][48] == 100.0
    assert gap["measured"][47:51] == [9.75, None, None, 10.5] == gap["effective"][47:51]
    assert "around" not in still.get("/v1/exceptions")["exceptions"][0]
    assert still.refused("GET", "/v1/exceptions?around=corners")[0] == 422


def test_the_list_narrows_to_what_has_waited_long(still):
    now, later = (iso(still.p.clock() + ms) for ms in (0, 1000))
    assert still.get(f"/v1/exceptions?opened_before={now}")["exceptions"] == []
    assert len(still.get(f"/v1/exceptions?opened_before={later}")["exceptions"]) == 2


def test_csv_has_the_same_rows(still):
    status, body = still.raw("GET", "/v1/exceptions.csv?sort=age")
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    told = [(row["number"], row["rule"], row["quantity"]) for row in rows]
    assert (status, told) == (200, [("1", "V07", "20"), ("2", "V10", "85")])


def test_a_preview_says_what_a_commit_then_does_and_writes_nothing(api):
    question = {"exceptions": [1, 2], "action": "interpolate"}
    seen = api.post("/v1/edits/preview", question)
    assert seen["totals"] == [
        {
            "utility": "electricity",
            "unit": "kWh",
            "before": 100.0,
            "after": 35.25,
            "difference": -64.75,
            "moved": 105.25,
        }
    ]
    assert [row["proposed"] for item in seen["items"] for row in item["intervals"]] == [10.0, 10.25, 15.0]
    assert api.get("/v1/edits")["changes"] == [] and len(api.get("/v1/exceptions?state=waiting")["exceptions"]) == 2
    done = api.post("/v1/edits", question | WHO | {"fingerprint": seen["fingerprint"]})
    assert done == {"change": 1, "resolved": 2, "edits": 2, "days": ["2026-03-18"], "refused": [], "refused_count": 0}
    now = stands(api, 1)
    assert (now[at(GAP)], now[at(GAP + 1)], now[at(GAP + 2)]) == ((10.0, "F17"), (10.25, "F17"), (10.5, "A"))
    assert api.get("/v1/exceptions?state=waiting")["exceptions"] == []


def test_what_was_decided_is_told_and_taken_back(api):
    api.post("/v1/edits", {"exceptions": [1], "action": "copy week"} | WHO)
    assert stands(api, 1)[at(GAP)] == (10.0, "F14")
    undone = api.post("/v1/edits/1/undo", {"author": "ben", "reason": "it was a holiday"})
    assert undone == {"undone": 1, "edits": 1, "days": ["2026-03-18"]}
    assert stands(api, 1)[at(GAP)] == (None, None)
    told = [(c["change"], c["author"], c["action"], c["undoes"], c["undone"]) for c in api.get("/v1/edits")["changes"]]
    assert told == [(2, "ben", "undo", 1, None), (1, "ana", "copy week", None, 2)]
    assert [e["event"] for e in api.get("/v1/exceptions/1")["history"]] == ["opened", "resolved", "reopened"]
    assert api.get("/v1/edits/2")["spans"] == [{"channel": "E-1", "start": at(GAP), "end": at(GAP + 2)}]
    assert api.refused("POST", "/v1/edits/1/undo", WHO)[0] == 409


def test_a_decision_makes_its_day_dirty_and_the_rebuild_cleans_it(api):
    api.post("/v1/edits", {"exceptions": [2], "action": "accept raw"} | WHO)
    assert api.p.desk.edits.pending() or api.p.status()["rebuilds"]["done"]
    assert api.p.settle(60) and api.p.desk.edits.pending() == {}


def test_values_that_changed_since_the_preview_are_not_committed(api):
    seen = api.post("/v1/edits/preview", {"exceptions": [1], "action": "interpolate"})
    neighbour = {"channel": "E-1", "start": at(GAP - 1), "end": at(GAP), "action": "set", "values": ["1"]}
    api.post("/v1/edits", neighbour | WHO)
    late = {"exceptions": [1], "action": "interpolate", "fingerprint": seen["fingerprint"]} | WHO
    assert api.refused("POST", "/v1/edits", late) == (409, "They are not those of the preview; look again.")


def test_what_cannot_be_done_to_some_is_said_and_done_to_the_others(api):
    seen = api.post("/v1/edits/preview", {"filter": {"utility": "electricity"}, "action": "accept raw"})
    assert (seen["count"], seen["refused_count"]) == (1, 1)
    assert "2 of 2 intervals have no measured value" in seen["refused"][0]["reason"]
    done = api.post("/v1/edits", {"filter": {"utility": "electricity"}, "action": "accept raw"} | WHO)
    assert (done["resolved"], done["refused_count"]) == (1, 1)
    assert [e["number"] for e in api.get("/v1/exceptions?state=waiting")["exceptions"]] == [1]
    assert stands(api, 2)[at(SPIKE)] == (100.0, "A")


def test_assigned_work_is_found_by_its_name(api):
    api.post("/v1/exceptions/assign", {"exceptions": [1], "assignee": "ben", "author": "ana"})
    assert [e["number"] for e in api.get("/v1/exceptions?assignee=ben")["exceptions"]] == [1]
    api.post("/v1/exceptions/assign", {"exceptions": [1], "assignee": None, "author": "ben"})
    assert api.get("/v1/exceptions?state=assigned")["exceptions"] == []


SPAN = {"channel": "E-1", "start": at(0), "end": at(1), "action": "set", "values": [1]}


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/edits", {"exceptions": [9], "action": "leave"} | WHO, 404, "no exception 9"),
        ("/v1/edits", {"exceptions": [], "action": "leave"} | WHO, 422, "none of that kind"),
        ("/v1/edits", {"action": "leave"} | WHO, 422, "either exceptions"),
        ("/v1/edits", {"exceptions": [1], "action": "guess"} | WHO, 422, "accept estimate"),
        ("/v1/edits", {"exceptions": [1], "action": "leave", "author": "", "reason": "x"}, 422, "author takes"),
        ("/v1/edits", {"exceptions": [1], "action": "leave", "author": "x"}, 422, "reason"),
        ("/v1/edits", {"exceptions": [1], "action": "accept raw"} | WHO, 422, "no measured value"),
        ("/v1/edits", SPAN | WHO | {"values": ["NaN"]}, 422, "numbers in kWh"),
        ("/v1/edits", SPAN | WHO | {"values": [1, 2]}, 422, "one for each of the 1"),
        ("/v1/edits", SPAN | WHO | {"start": "2026-03-18T00:01:00Z"}, 422, "multiples of 900 s"),
        ("/v1/edits", SPAN | WHO | {"start": "2026-03-18"}, 422, "no offset"),
        ("/v1/edits", SPAN | WHO | {"channel": "E-9"}, 404, "not registered"),
        ("/v1/edits", SPAN | WHO | {"channel": "V-1", "end": at(1)}, 422, "a gauge has no values"),
        (
            "/v1/edits",
            SPAN | WHO | {"start": "2027-01-01T00:00:00Z", "end": "2027-01-01T01:00:00Z"},
            422,
            "not over yet",
        ),
        ("/v1/edits", SPAN | WHO | {"exceptions": [1]}, 422, "without exceptions"),
        ("/v1/edits/preview", {"exceptions": [1], "action": "leave", "colour": 1}, 422, "colour"),
        ("/v1/exceptions/assign", {"exceptions": [7], "assignee": "ben", "author": "ana"}, 404, "no exception 7"),
    ],
)
def test_a_wrong_decision_is_refused_with_what_to_do(still, path, body, status, says):
    got, detail = still.refused("POST", path, body)
    assert (got, says in detail) == (status, True), detail
    assert still.get("/v1/edits")["changes"] == []


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/exceptions?state=done", 422, "waiting, open"),
        ("/v1/exceptions?sort=size", 422, "weight, age"),
        ("/v1/exceptions?after=x", 422, "`next`"),
        ("/v1/exceptions?channel=E-9", 404, "not registered"),
        ("/v1/exceptions?start=2026-03-18", 422, "no offset"),
        ("/v1/exceptions/9", 404, "no exception 9"),
        ("/v1/edits/9", 404, "no change 9"),
    ],
)
def test_a_wrong_question_is_answered_with_what_to_ask(still, path, status, says):
    got, detail = still.refused("GET", path)
    assert (got, says in detail) == (status, True), detail
