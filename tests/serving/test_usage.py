"""/v1/usage: every form says the same exact numbers, unknown is shown as unknown, and wrong questions say what to ask."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterpulse.config import load
from meterpulse.model.channel import Channel
from meterpulse.model.problem import Problem
from meterpulse.model.quantity import UNITS, decimal_text
from meterpulse.pipeline import Pipeline
from meterpulse.serving.answers import Answer, as_bytes, as_json
from meterpulse.serving.queries import UsageQuery, usage
from meterpulse.stores import Rows

DAY = int(datetime(2026, 3, 8, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000
CHANNELS = [
    Channel("E-1", "electricity", "kWh", area="10001", time_zone="America/New_York"),
    Channel("G-1", "water", "gal", interval_seconds=3600, area="10001"),
    Channel("S-1", "electricity", "kWh", direction="received", area="10001"),
    Channel("R-1", "electricity", "kWh", kind="register", area="10001"),
    Channel("V-1", "electricity", "V", kind="gauge", area="10001"),
]


@pytest.fixture(scope="module")
def p(tmp_path_factory):
    data = tmp_path_factory.mktemp("usage") / "data"
    config = load({"data": str(data), "log": {"max_bytes": 1 << 28}, "stores": {"max_bytes": 1 << 28}})
    with Pipeline.open(config, clock=lambda: DAY + 30 * HOUR) as p:
        p.registry.register(CHANNELS)
        lines = []
        for k in range(24):
            if k in (3, 4):
                continue
            at = f"2026-03-08T{k:02d}:00:00Z"
            lines.append({"channel": "E-1", "start": at, "seconds": 300, "quantity": f"0.{k:06d}"})
            lines.append({"channel": "G-1", "start": at, "seconds": 3600, "quantity": f"{k}.123"})
            lines.append({"channel": "S-1", "start": at, "seconds": 300, "quantity": 1})
            lines.append({"channel": "R-1", "start": at, "seconds": 1, "quantity": 1000 + k})
            lines.append({"channel": "V-1", "start": at, "seconds": 1, "quantity": 230})
        decoded = p.take("\n".join(map(json.dumps, lines)).encode(), "application/x-ndjson")
        assert not decoded.rejected
        p.ingest(decoded, "http")
        while p.engine.applied < p.log.end:
            pass
        yield p


def ask(p: Pipeline, **query) -> dict:
    query = {"start": "2026-03-07T00:00:00Z", "end": "2026-03-10T00:00:00Z"} | query
    return json.loads(as_json(usage(p, UsageQuery(**query))), parse_float=Decimal, parse_int=Decimal)


# -- exact numbers in every form -------------------------------------------------------------------------------------------


def answer_of(quantities: list[int], unit: str) -> Answer:
    rows = np.array([[1, q, q, q, q] for q in quantities], np.int64).reshape(-1, 5)
    starts = DAY + np.arange(len(quantities), dtype=np.int64) * 300_000
    return Answer(
        {"channel": "E-1", "time_zone": "UTC"}, "5m", UNITS[unit], None, Rows(starts, rows, np.zeros(len(starts), bool))
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-(10**15), 10**15)), max_size=8),
    st.sampled_from(sorted(UNITS)),
)
def test_json_csv_arrow_and_parquet_say_the_same_exact_decimals(quantities, unit):
    answer = answer_of(quantities, unit)
    want = [Decimal(decimal_text(q, UNITS[unit])) for q in quantities]
    document = json.loads(as_json(answer), parse_float=Decimal, parse_int=Decimal)
    assert [row["quantity"] for row in document["rows"]] == want
    assert all(row["quantity"] == row["min"] == row["max"] == row["last"] for row in document["rows"])
    lines = list(csv.DictReader(io.StringIO(as_bytes(answer, "csv").decode())))
    assert [Decimal(line["quantity"]) for line in lines] == want
    assert not any("e" in line["quantity"].lower() for line in lines)
    for table in (
        pa.ipc.open_stream(as_bytes(answer, "arrow")).read_all(),
        pq.read_table(io.BytesIO(as_bytes(answer, "parquet"))),
    ):
        assert table["quantity"].to_pylist() == want and table["last"].to_pylist() == want
        assert [t.timestamp() * 1000 for t in table["start"].to_pylist()] == answer.rows.start.tolist()


def test_a_json_document_carries_how_fresh_and_how_good_it_is(p):
    found = ask(p, channel="E-1")
    assert (
        found["fresh_until"]
        and found["unit"] == "kWh"
        and found["grain"] == "1h"
        and found["time_zone"] == "America/New_York"
    )
    assert {(row["quality"], row["source"], row["unit"]) for row in found["rows"]} == {("raw", "speed", "kWh")}
    assert [row["start"] for row in found["rows"]] == sorted(row["start"] for row in found["rows"])


# -- windows ---------------------------------------------------------------------------------------------------------------


def test_windows_without_readings_are_left_out_and_with_fill_they_are_nulls_and_never_zeros(p):
    plain = ask(p, channel="E-1", start="2026-03-08T00:00:00Z", end="2026-03-08T08:00:00Z")["rows"]
    assert [row["start"][11:13] for row in plain] == ["00", "01", "02", "05", "06", "07"]
    filled = ask(p, channel="E-1", start="2026-03-08T00:00:00Z", end="2026-03-08T08:00:00Z", fill="null")["rows"]
    assert [row["start"][11:13] for row in filled] == [f"{h:02d}" for h in range(8)]
    assert [row["quantity"] for row in filled][3:5] == [None, None] and filled[3]["count"] == 0
    assert [row for row in filled if row["count"]] == plain


def test_days_are_filled_with_the_local_days_of_the_channel(p):
    rows = ask(p, channel="E-1", grain="1d", start="2026-03-06T05:00:00Z", end="2026-03-11T04:00:00Z", fill="null")[
        "rows"
    ]
    assert [row["start"] for row in rows] == [
        "2026-03-06T05:00:00Z", "2026-03-07T05:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", "2026-03-10T04:00:00Z",
    ]  # fmt: skip
    assert [row["count"] for row in rows] == [0, 3, 19, 0, 0]


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        ("05:00", "07:00", ["05", "06"]),
        ("05:01", "07:00", ["06"]),
        ("05:00", "06:01", ["05", "06"]),
        ("05:00", "05:00:00.001", ["05"]),
    ],
)
def test_an_answer_holds_the_windows_that_start_in_the_span_whole(p, start, end, hours):
    rows = ask(p, channel="E-1", start=f"2026-03-08T{start}Z", end=f"2026-03-08T{end}Z")["rows"]
    assert [row["start"][11:13] for row in rows] == hours and all(row["count"] == 1 for row in rows)


def test_without_a_span_the_newest_windows_are_shown(p):
    rows = json.loads(as_json(usage(p, UsageQuery(channel="E-1"))))["rows"]
    assert len(rows) == 22 and rows[-1]["start"] == "2026-03-08T23:00:00Z"


def test_areas_add_up_what_was_delivered_and_received_apart_and_only_intervals(p):
    delivered = ask(p, area="10001", utility="electricity", grain="1h")
    assert delivered["direction"] == "delivered" and sum(row["count"] for row in delivered["rows"]) == 22
    assert sum(row["quantity"] for row in delivered["rows"]) == sum(
        Decimal(f"0.{k:06d}") for k in range(24) if k not in (3, 4)
    )
    received = ask(p, area="10001", utility="electricity", direction="received", grain="1m")
    assert [row["quantity"] for row in received["rows"]] == [1] * 22
    assert ask(p, area="10001", utility="gas")["rows"] == []


def test_a_sum_of_registers_or_volts_means_nothing_and_is_not_told(p):
    for channel in ("R-1", "V-1"):
        rows = ask(p, channel=channel)["rows"]
        assert len(rows) == 22 and all(row["quantity"] is None and row["last"] is not None for row in rows)
        assert as_bytes(
            usage(p, UsageQuery(channel=channel, start="2026-03-08T00:00:00Z", end="2026-03-09T00:00:00Z")), "csv"
        )
    assert ask(p, channel="R-1")["rows"][-1]["last"] == 1023


def test_gallons_are_told_to_nine_decimals(p):
    # 0.123 gal are 465.605649432 mL, kept as 465606 thousandths of a millilitre.
    [row] = ask(p, channel="G-1", start="2026-03-08T00:00:00Z", end="2026-03-08T01:00:00Z")["rows"]
    assert row["quantity"] == Decimal(decimal_text(round(Decimal("0.123") * Decimal("3785.411784")), UNITS["gal"]))


# -- wrong questions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({}, 422, "channel=, or area="),
        ({"channel": "E-1", "area": "10001"}, 422, "channel=, or area="),
        ({"channel": "nobody"}, 404, "not registered"),
        ({"area": "nowhere", "utility": "gas"}, 404, "/v1/areas"),
        ({"area": "10001"}, 422, "electricity, gas or water"),
        ({"area": "10001", "utility": "steam"}, 422, "electricity, gas or water"),
        ({"area": "10001", "utility": "gas", "direction": "up"}, 422, "delivered or received"),
        ({"channel": "E-1", "grain": "2h"}, 422, "1m, 5m, 1h, 1d"),
        ({"channel": "E-1", "grain": "1m"}, 422, "5m, 1h and 1d"),
        ({"channel": "E-1", "fill": "zero"}, 422, "null"),
        ({"channel": "E-1", "as_of": "2026-03-08T00:00:00Z"}, 422, "/v1/intervals takes as_of"),
        ({"channel": "E-1", "start": "2026-03-08T00:00:00"}, 422, "no offset"),
        ({"channel": "E-1", "start": "2026-03-09T00:00:00Z", "end": "2026-03-08T00:00:00Z"}, 422, "after start"),
        ({"channel": "E-1", "start": "1900-01-01T00:00:00Z", "grain": "5m"}, 422, "coarser grain"),
    ],
)
def test_a_wrong_question_says_what_to_ask(p, query, status, says):
    with pytest.raises(Problem) as wrong:
        usage(p, UsageQuery(**{"end": "2026-03-09T00:00:00Z", **query}))
    assert wrong.value.status == status and says in f"{wrong.value.title} {wrong.value.detail}"
