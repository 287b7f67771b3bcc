"""NEM12 and NEM13: every value with its day, quality and reason, and nothing made up."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.ingest import BodyError, files, gathered

NEM = timezone(timedelta(hours=10))
HALF = ",".join(f"{i}.5" for i in range(48))
QUARTERS = ",".join(str(i) for i in range(96))
NEM12 = f"""100,NEM12,202304120954,MDP1,RET1
200,4103035421,E1B1,1,E1,N1,METER1,kWh,30,20230501
300,20230402,{HALF},A,,,20230403010203,20230403020304
300,20230403,{HALF},V,,,20230404010203,
400,1,20,A,,
400,21,30,S14,53,estimated by hand
400,31,47,F52,,
400,48,48,N,,
500,O,S01009,20230401000000,100.5
200,4103035421,E1B1,2,B1,N1,METER1,Wh,15,
300,20230402,{QUARTERS},E52,79,,20230403010203,
900
"""
NEM13 = """100,NEM13,202304120954,MDP1,RET1
250,NEM1315082,1141,1,41,41,M-41,E,06427,20040415080629,A,,,06858,20040609085559,A,,,431,KWH,20050519,20040610103615,
550,N,,E,
250,NEM1315082,1141,1,41,41,M-41,E,99858,20040609085559,A,,,00462,20040919000000,E62,77,,604,KWH,20040712,20040820083657,
250,NEM1312022,12,1,12,12,12022,I,43501,20040819085442,A,,,44991,20041117093247,S61,,,-14900,KWH,20050519,20041118175126,
900
"""


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=NEM).timestamp() * 1000)


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "file.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_every_value_has_its_interval_quality_and_reason(rows_in, write):
    batches, rows = rows_in(write(NEM12), "nem12")
    want = [("4103035421:E1", ms(2023, 4, 2) + i * 1_800_000, 1800, i * 10**6 + 500_000, "A") for i in range(48)]
    told = ["A"] * 20 + ["S14:53"] * 10 + ["F52"] * 17
    want += [
        ("4103035421:E1", ms(2023, 4, 3) + i * 1_800_000, 1800, i * 10**6 + 500_000, q) for i, q in enumerate(told)
    ]
    want += [("4103035421:B1", ms(2023, 4, 2) + i * 900_000, 900, i * 1_000, "E52:79") for i in range(96)]
    assert [(*row[:4], row[5]) for row in rows] == want
    assert {row[4] for row in rows} == {ms(2023, 4, 3, 1, 2, 3) // 1000, ms(2023, 4, 4, 1, 2, 3) // 1000}
    assert [(r.reason, r.detail) for b in batches for r in b.rejected] == [
        ("missing", "20230403: intervals 48 to 48: quality N: they have no value")
    ]
    assert [b.ignored for b in batches] == [{"500 B2B details": 1}]


def test_the_summer_time_of_the_cities_does_not_touch_a_day_of_the_market(rows_in, write):
    # Sydney set its clock back on 2023-04-02: its day had 25 hours, the market's 24.
    _, rows = rows_in(write(NEM12), "nem12")
    starts = sorted(row[1] for row in rows if row[0].endswith("E1"))
    assert len(starts) == 95 and {b - a for a, b in zip(starts[:-1], starts[1:], strict=True)} == {1_800_000}


def test_channels_say_what_the_file_knows_of_them(rows_in, write):
    batches, _ = rows_in(write(NEM12), "nem12")
    known = {
        c.id: (c.unit, c.direction, c.kind, c.interval_seconds, c.usage_point, c.meter) for c in batches[0].channels
    }
    assert known == {
        "4103035421:E1": ("kWh", "delivered", "interval", 1800, "4103035421", "METER1"),
        "4103035421:B1": ("kWh", "received", "interval", 900, "4103035421", "METER1"),
    }


def test_reads_of_nem13_are_registers_and_a_dial_that_passed_zero_tells_its_digits(rows_in, write):
    batches, rows = rows_in(write(NEM13), "nem13")
    first, second = "NEM1315082:41", "NEM1312022:12"
    assert [(*row[:4], row[5]) for row in rows] == [
        (first, ms(2004, 4, 15, 8, 6, 29), 1, 6_427 * 10**6, "A"),
        (first, ms(2004, 6, 9, 8, 55, 59), 1, 6_858 * 10**6, "A"),
        (first, ms(2004, 6, 9, 8, 55, 59), 1, 99_858 * 10**6, "A"),
        (first, ms(2004, 9, 19), 1, 462 * 10**6, "E62:77"),
        (second, ms(2004, 8, 19, 8, 54, 42), 1, 435_010 * 10**6, "A"),  # Quantity is ten times what the dial moved
        (second, ms(2004, 11, 17, 9, 32, 47), 1, 449_910 * 10**6, "S61"),
    ]
    assert [(c.id, c.kind, c.direction, c.digits) for c in batches[0].channels] == [
        (first, "register", "delivered", 5),
        (second, "register", "received", None),
    ]
    assert batches[0].ignored == {"550 B2B details": 1} and not batches[0].rejected


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("20230402,0.5", "20230431,0.5", "bad_time"),
        ("20230402,0.5", "20230402,0.5,9", "bad_csv"),
        ("20230402,0.5", "20230402,x", "not_a_number"),
        ("20230402,0.5", "20230402,", "not_a_number"),
        ("20230402,0.5", "20230402,1e99", "overflow"),
        ("A,,,20230403010203", "Q,,,20230403010203", "bad_quality"),
        ("A,,,20230403010203", "S,,,20230403010203", "bad_quality"),
        ("A,,,20230403010203", "A,,,2023", "bad_time"),
        ("400,21,30", "400,21,49", "bad_csv"),
        ("400,1,20,A,,\n", "", "bad_quality"),
        ("kWh,30", "pf,30", "bad_unit"),
        ("kWh,30", "kWh,7", "bad_seconds"),
        ("200,4103035421,E1B1,1,E1", "200,,E1B1,1,E1", "missing_field"),
        ("500,O", "501,O", "bad_csv"),
        ("900\n", "", "truncated"),
    ],
)
def test_what_is_wrong_costs_its_record_only(bench, rows_in, write, old, new, reason):
    whole = set(rows_in(write(NEM12), "nem12")[1])
    assert NEM12.count(old) >= 1
    batches, rows = rows_in(write(NEM12.replace(old, new, 1)), "nem12")
    assert reason in {r.reason for b in batches for r in b.rejected}
    assert set(rows) <= whole
    if reason not in ("bad_unit", "bad_seconds", "missing_field"):
        assert len(rows) >= len(whole) - 48


@pytest.mark.parametrize("text", ["", "\n\n", "200,1,E1,,E1,,,kWh,30,\n900\n"])
def test_a_file_without_its_header_is_refused_with_what_it_lacks(write, text):
    with pytest.raises(BodyError, match="100,NEM12"):
        list(files.read(write(text), "nem12"))


@pytest.mark.parametrize(("text", "format"), [(NEM12, "nem12"), (NEM13, "nem13")])
def test_reading_goes_on_behind_any_batch(rows_in, write, monkeypatch, text, format):
    monkeypatch.setattr(f"meterpulse.ingest.{format}.BATCH_ROWS", 2)
    path = write(text)
    batches, rows = rows_in(path, format)
    assert len(batches) > 2
    done = 0
    for batch in batches:
        done += batch.rows
        assert rows_in(path, format, batch.position)[1] == rows[done:]


@pytest.mark.parametrize(("text", "format"), [(NEM12, "nem12"), (NEM13, "nem13")])
def test_a_file_cut_at_any_byte_gives_a_part_of_its_rows_and_says_so(rows_in, write, text, format):
    whole = rows_in(write(text), format)[1]
    end = text.rindex("900")
    for cut in range(12, end, 61):
        batches, rows = rows_in(write(text[:cut]), format)
        assert set(rows) <= set(whole)
        assert {r.reason for b in batches for r in b.rejected} & {"truncated"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([NEM12, NEM13]), st.integers(12, 2_000), st.binary(min_size=1, max_size=12))
def test_damage_never_ends_in_anything_but_rows_and_reasons(write, text, at, damage):
    body = text.encode()
    path = write(body[:at] + damage + body[at + len(damage) :])
    for batch in files.read(path):
        assert batch.rows == batch.table.num_rows


def test_a_line_without_an_end_is_refused_without_being_held(rows_in, write):
    long = "300,20230402," + "1.5," * 1_000_000
    batches, rows = rows_in(write(NEM12.replace("900\n", long + "\n900\n")), "nem12")
    assert len(rows) == 191
    refused = [r for b in batches for r in b.rejected if r.reason == "bad_csv"]
    assert len(refused) == 1 and len(refused[0].original) == gathered.SHOWN_BYTES
