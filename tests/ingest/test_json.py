"""Readings as NDJSON, a JSON array or one object."""

from __future__ import annotations

import json
import random

import pytest

from meterpulse.ingest import JSON, NDJSON, BodyError
from meterpulse.model.reading import Readings

MIDNIGHT_MS = 1_772_841_600_000


def quantity(bench, text: bytes, channel="E-1", unit=None):
    fields = b'"channel": "%s", "start": "2026-03-07T00:00:00Z", "quantity": %s' % (channel.encode(), text)
    decoded = bench.both(b"{" + fields + (b', "unit": "%s"}' % unit.encode() if unit else b"}"))
    return bench.rows(decoded)[0][3] if len(decoded.readings) else decoded.rejected[0].reason


def start(bench, text: str):
    decoded = bench.both(json.dumps({"channel": "E-1", "start": text, "quantity": 1}).encode())
    return bench.rows(decoded)[0][1] - MIDNIGHT_MS if len(decoded.readings) else decoded.rejected[0].reason


def reason(bench, line: bytes) -> str:
    decoded = bench.both(line)
    assert len(decoded.readings) == 0 and len(decoded.rejected) == 1
    assert decoded.rejected[0].original == line and decoded.rejected[0].media_type == NDJSON
    return decoded.rejected[0].reason


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [
        (b"0.125", 125_000),
        (b'"0.125"', 125_000),
        (b"1e-3", 1_000),
        (b'"1.5E+2"', 150_000_000),
        (b"0", 0),
        (b"0.0", 0),
        (b"0e5", 0),
        (b'"007.50"', 7_500_000),
        (b'"+2"', 2_000_000),
        (b'".5"', 500_000),
        (b"12345678.123456", 12_345_678_123_456),
        (b"100000000", 10**14),
        (b"100000000.0000005", 10**14),
        (b"100000000.000001", "overflow"),
        (b"9223372036854.775808", "overflow"),
        (b"0.0000005", 0),  # ties go to the even neighbour
        (b"0.0000015", 2),
        (b"0.0000025", 2),
        (b"0.00000250000000000000000000001", 3),
        (b"1e-400", 0),
        (b"1e400", "overflow"),
        (b"99999999999999999999999999999999", "overflow"),
        (b"-0", "negative"),
        (b"-0.0000000001", "negative"),
        (b"-1", "negative"),
    ],
)
def test_a_quantity_is_exact_and_rounds_half_to_even_once(bench, text, thousandths):
    assert quantity(bench, text) == thousandths


@pytest.mark.parametrize(
    ("channel", "unit", "text", "thousandths"),
    [
        ("E-1", "Wh", b"1", 1_000),
        ("E-1", "kwh", b"1", 1_000_000),
        ("E-1", "MWh", b"0.001", 1_000_000),
        ("G-1", None, b"1", 1_000_000),
        ("G-1", "ft3", b"1", 28_317),  # 28,316.846592 mL
        ("W-1", None, b"1", 1_000),
        ("Wg-1", None, b"1", 3_785),  # 3,785.411784 mL
        ("Wg-1", None, b"1000000", 3_785_411_784),
        ("Wg-1", None, b"9999999999.999", 37_854_117_839_996),
        ("Wg-1", "L", b"2", 2_000),
        ("V-1", None, b"229.8", 229_800),
        ("V-1", None, b"-0", 0),
        ("V-1", None, b"-3.5", -3_500),
        ("P-1", "kW", b"1.5", 1_500_000),
        ("R-1", None, b"-1", "negative"),
        ("E-1", "L", b"1", "bad_unit"),
        ("W-1", "kWh", b"1", "bad_unit"),
        ("E-1", "kW", b"1", "bad_unit"),
        ("E-1", "furlong", b"1", "bad_unit"),
        ("É-1", None, b"1", 1_000),
    ],
)
def test_units_convert_in_exact_decimals(bench, channel, unit, text, thousandths):
    assert quantity(bench, text, channel, unit) == thousandths


@pytest.mark.parametrize(
    "text",
    [b'"NaN"', b'"-Infinity"', b'"12,5"', b'""', b'" 1"', b'"1_0"', b'"0x1"', b'"\xd9\xa1"', b"true", b"[1]", b"{}"],
)
def test_what_is_no_finite_decimal_is_no_quantity(bench, text):
    assert quantity(bench, text) == "not_a_number"


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity"])
def test_nan_and_infinity_are_refused_in_any_field(bench, text):
    line = b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "note": %s}' % text
    assert reason(bench, line) == "not_a_number"
    assert quantity(bench, text) == "not_a_number"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-07T00:00:00Z", 0),
        ("2026-03-07T00:00:00.000Z", 0),
        ("2026-03-07T00:00:00.001Z", 1),
        ("2026-03-07T00:00:00.5Z", 500),
        ("2026-03-07T00:00:00.123000000Z", 123),
        ("2026-03-07T00:00:00.1230000000000Z", 123),
        ("2026-03-07T00:00:00.1234Z", "bad_time"),
        ("2026-03-07T01:00:00+01:00", 0),
        ("2026-03-06T19:00:00-05:00", 0),
        ("2026-03-07T05:45:00+05:45", 0),
        ("2026-03-07t00:00:00z", 0),
        ("2026-03-07 00:00:00Z", 0),
        ("2026-03-07T00:00Z", 0),
        ("2026-03-07T01:00:00+0100", 0),
        ("2026-03-07T00:00:00", "no_offset"),
        ("2026-03-07T00:00", "no_offset"),
        ("2026-03-07", "bad_time"),
        ("2026-03-07T24:00:00Z", "bad_time"),
        ("2026-03-07T00:60:00Z", "bad_time"),
        ("2026-02-29T00:00:00Z", "bad_time"),
        ("2026-13-07T00:00:00Z", "bad_time"),
        ("2026-00-07T00:00:00Z", "bad_time"),
        ("2026-03-00T00:00:00Z", "bad_time"),
        ("2016-12-31T23:59:60Z", "bad_time"),
        ("1969-12-31T23:59:59Z", "bad_time"),
        ("1970-01-01T00:00:00+00:01", "bad_time"),
        ("2201-01-01T00:00:00Z", "bad_time"),
        ("0000-01-01T00:00:00Z", "bad_time"),
        ("2026-03-07T00:00:00+24:00", "bad_time"),
        ("2026-W10-6T00:00:00Z", "bad_time"),
        ("20260307T000000Z", "bad_time"),
        ("٢٠٢٦-03-07T00:00:00Z", "bad_time"),
        ("yesterday", "bad_time"),
        ("", "bad_time"),
        ("2026-03-07T12:05:00Z", 43_500_000),
        ("2026-03-07T12:05:00.001Z", "future"),
    ],
)
def test_a_start_is_iso_8601_with_an_offset_in_whole_milliseconds(bench, text, expected):
    assert start(bench, text) == expected


def test_leap_days_of_four_centuries_are_the_calendars(bench):
    assert start(bench, "2000-02-29T00:00:00Z") == 951_782_400_000 - MIDNIGHT_MS
    assert start(bench, "1970-01-01T00:00:00Z") == -MIDNIGHT_MS
    assert start(bench, "2100-02-29T00:00:00Z") == "bad_time"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"seconds": 0}, "bad_seconds"),
        ({"seconds": -300}, "bad_seconds"),
        ({"seconds": "x"}, "bad_seconds"),
        ({"seconds": "300"}, "bad_seconds"),
        ({"seconds": 0.5}, "bad_seconds"),
        ({"seconds": True}, "bad_seconds"),
        ({"seconds": 366 * 86_400 + 1}, "bad_seconds"),
        ({"seconds": 10**30}, "bad_seconds"),
        ({"revision": "b"}, "bad_revision"),
        ({"revision": -1}, "bad_revision"),
        ({"revision": 2**63}, "bad_revision"),
        ({"revision": 1.5}, "bad_revision"),
        ({"unit": 7}, "bad_unit"),
        ({"unit": ""}, "bad_unit"),
        ({"channel": None}, "missing_field"),
        ({"channel": ...}, "missing_field"),
        ({"channel": 7}, "wrong_type"),
        ({"channel": ["E-1"]}, "wrong_type"),
        ({"channel": ""}, "unknown_channel"),
        ({"channel": "E-1 "}, "unknown_channel"),
        ({"channel": "\ud800"}, "unknown_channel"),
        ({"channel": "nobody"}, "unknown_channel"),
        ({"start": ...}, "missing_field"),
        ({"start": 12}, "bad_time"),
        ({"start": True}, "bad_time"),
        ({"quantity": ...}, "missing_field"),
        ({"quantity": None}, "missing_field"),
        ({"quantity": "9" * 30}, "overflow"),
    ],
)
def test_a_bad_field_has_its_reason(bench, record, fields, expected):
    assert reason(bench, record(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "seconds", "revision"),
    [
        ({"seconds": ...}, 300, 0),
        ({"seconds": None, "revision": None, "unit": None}, 300, 0),
        ({"seconds": 366 * 86_400}, 366 * 86_400, 0),
        ({"revision": 2**63 - 1}, 300, 2**63 - 1),
        ({"revision": 7}, 300, 7),
        ({"channel": "G-1", "seconds": ...}, 900, 0),
    ],
)
def test_optional_fields_have_defaults(bench, record, fields, seconds, revision):
    (row,) = bench.rows(bench.both(record(**fields)))
    assert (row[2], row[4]) == (seconds, revision)


@pytest.mark.parametrize(("text", "seconds"), [(b"300.0", 300), (b"3e2", 300), (b"300e0", 300), (b"1e400", None)])
def test_a_whole_number_may_be_written_in_any_way(bench, record, text, seconds):
    decoded = bench.both(record(seconds=1).replace(b'"seconds": 1', b'"seconds": ' + text))
    assert [row[2] for row in bench.rows(decoded)] == ([seconds] if seconds else [])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", "bad_json"),
        (b"[]", "bad_json"),
        (b"null", "bad_json"),
        (b"true", "bad_json"),
        (b"7", "bad_json"),
        (b'"text"', "bad_json"),
        (b"\x00", "bad_json"),
        (b"[" * 5000, "bad_json"),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, "bad_json"),
        (b'{"channel": NaN}', "not_a_number"),
        (b'\xff\xfe{"channel": "E-1"}', "bad_utf8"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1,}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 01}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1.}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": .5}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": +1}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1} {}', "bad_json"),
        (b"{'channel': 'E-1'}", "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "x": tru}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "x": "\x01"}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "x": "\\q"}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "x": "\xe9"}', "bad_utf8"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": "1\x005"}', "bad_json"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "quantity": 2}', "duplicate_key"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "x": 1, "x": 2}', "duplicate_key"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "quantit\\u0079": 2}', "duplicate_key"),
        (b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1, "x": {"a": 1, "a": 1}}', "duplicate_key"),
    ],
)
def test_what_is_no_json_is_set_aside_byte_for_byte(bench, line, expected):
    assert reason(bench, line) == expected


@pytest.mark.parametrize(
    "extra",
    [
        b'"x": "a\\u00e9\\n\\"b"',
        b'"x": "\xc3\xa9"',
        b'"x": [1, {"y": [null, true]}]',
        b'"x": -1.5e-300',
        b'"x": null, "y": false, "z": {}',
        b'"\xc3\xa9": 1',
        b'"": ""',
        b'"Channel": "G-1", "QUANTITY": 5',
    ],
)
def test_unknown_fields_are_ignored(bench, record, extra):
    decoded = bench.both(record()[:-1] + b", " + extra + b"}")
    assert bench.rows(decoded) == [(0, MIDNIGHT_MS, 300, 1_500_000, 0)]


def test_escapes_and_other_alphabets_in_an_id_are_the_same_id(bench, record):
    for id in (b"\xc3\x89-1", b"\\u00c9-1", b"\\u00C9\\u002d1"):
        assert bench.rows(bench.both(record().replace(b"E-1", id))) == [(6, MIDNIGHT_MS, 300, 1_500, 0)]


def test_lines_may_end_in_crlf_and_blank_ones_are_skipped(bench, record):
    body = b"\xef\xbb\xbf" + b"\r\n \t\r\n\n".join([record()] * 40) + b"\r\n\r\n"
    for decoded in (bench.decode(body), bench.decode(b"\n".join([record(), b"", b" ", record()]))):
        assert not decoded.rejected and set(bench.rows(decoded)) == {(0, MIDNIGHT_MS, 300, 1_500_000, 0)}
    assert len(bench.decode(body).readings) == 40


def test_an_empty_ndjson_body_has_no_readings(bench):
    assert bench.decode(b"").readings == bench.decode(b"\n \n").readings == Readings.empty()


def test_constant_columns_are_kept_once(bench, record):
    readings = bench.decode(b"\n".join([record()] * 100)).readings
    assert [len(c) for c in (readings.start, readings.seconds, readings.revision)] == [1, 1, 1]
    assert len(readings) == 100


def test_records_of_changing_layouts_are_read_alike(bench):
    rng, lines, expected = random.Random(7), [], []
    for i in range(2_000):
        fields = [
            ("channel", "E-1"),
            ("start", "2026-03-07T00:00:00Z"),
            ("quantity", str(i)),
            ("x", "y" * rng.randrange(200)),
        ]
        fields += [("seconds", 600)] if i % 3 else []
        rng.shuffle(fields)
        separators = (",", ":") if i % 5 else (", ", ": ")
        lines.append(json.dumps(dict(fields), separators=separators))
        expected.append((0, MIDNIGHT_MS, 600 if i % 3 else 300, i * 1_000_000, 0))
    assert bench.rows(bench.decode("\n".join(lines).encode())) == expected
    array = bench.decode(("[" + ",\n".join(lines) + "]").encode(), JSON)
    assert bench.rows(array) == expected and not array.rejected


@pytest.mark.parametrize(
    "line", [b"null", b"7", b"[1, 2]", b'{"channel": "no, ]body"}', b'"a ] , b"', b"{}", b"[[{}]]"]
)
def test_a_bad_element_of_an_array_is_kept_as_its_source_text(bench, line):
    decoded = bench.both(line, JSON)
    assert [r.original for r in decoded.rejected] == [line] and len(decoded.readings) == 0


def test_a_bad_element_costs_one_row(bench, record):
    elements = [record()] * 50 + [b'{"channel": "E-1", "quantity": NaN}', b"", b"null"] + [record()] * 50
    decoded = bench.decode(b" [ " + b" ,\n ".join(elements) + b" ] ", JSON)
    assert len(decoded.readings) == 100
    assert [r.original for r in decoded.rejected] == [b'{"channel": "E-1", "quantity": NaN}', b"", b"null"]
    assert {r.media_type for r in decoded.rejected} == {JSON}


def test_an_array_that_breaks_off_keeps_what_arrived(bench, record):
    for body in (b"[" + b",".join([record()] * 50), b"[" + record() + b"," + record()):
        n = body.count(b"E-1")
        decoded = bench.decode(body, JSON)
        assert len(decoded.readings) == n and [r.reason for r in decoded.rejected] == ["bad_json"]
        half = bench.decode(body + b',{"channel": "E-', JSON)
        assert len(half.readings) == n and half.rejected[0].original == b'{"channel": "E-'


def test_more_behind_an_array_is_set_aside(bench, record):
    decoded = bench.decode(b"[" + record() + b"] x", JSON)
    assert len(decoded.readings) == 1 and [r.original for r in decoded.rejected] == [b"x"]


def test_one_object_is_one_reading(bench, record):
    assert len(bench.decode(record(), JSON).readings) == 1
    assert len(bench.decode(b"[]", JSON).readings) == len(bench.decode(b" [ ] ", JSON).readings) == 0


@pytest.mark.parametrize("body", [b"", b" ", b"x", b"null", b'"a"', b"7", b"\xff", b"}"])
def test_a_body_that_is_neither_array_nor_object_is_refused(bench, body):
    with pytest.raises(BodyError) as error:
        bench.decode(body, JSON)
    assert error.value.status == 400


def utilityapi(i: int, **fields) -> dict:
    return {
        "interval_start": f"2026-03-07T00:{i % 60:02d}:00Z",
        "interval_end": "2026-03-06T17:05:00.000000-08:00",
        "interval_kW": "0.15",
        "interval_kWh": f"{i / 1000:.3f}",
        "service_uid": "E-1",
        "source": "Interval Data",
        "updated": "2026-03-07T00:05:03Z",
        "utility": "PG&E",
        "utility_meter_number": f"1009{i}",
        "utility_service_address": "12 Some Street",
        "utility_service_id": f"S{i}",
        "utility_tariff_name": "E-1",
    } | fields  # fmt: skip


def test_records_after_utilityapi_are_read_by_their_own_names(bench):
    lines = [json.dumps(utilityapi(i)) for i in range(300)]
    expected = [(0, MIDNIGHT_MS + i % 60 * 60_000, (65 - i % 60) * 60, i * 1_000, 0) for i in range(300)]
    for body, media_type in (("\n".join(lines), NDJSON), ("[" + ",".join(lines) + "]", JSON)):
        decoded = bench.decode(body.encode(), media_type, layout="utilityapi")
        assert bench.rows(decoded) == expected and not decoded.rejected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"interval_end": "2026-03-06T00:00:00Z"}, "bad_seconds"),
        ({"interval_end": "2026-03-07T00:00:00.5Z", "interval_start": "2026-03-07T00:00:00Z"}, "bad_seconds"),
        ({"service_uid": "W-1"}, "bad_unit"),
        ({"service_uid": "V-1"}, "bad_unit"),
        ({"interval_start": "2026-03-07T00:00:00"}, "no_offset"),
        ({"interval_kWh": None}, "missing_field"),
    ],
)
def test_bad_records_after_utilityapi_have_their_reason(bench, fields, reason):
    lines = [json.dumps(utilityapi(1, **fields))] + [json.dumps(utilityapi(1))] * 20
    for body in (lines[0], "\n".join(lines)):
        (row,) = bench.decode(body.encode(), layout="utilityapi").rejected
        assert row.reason == reason
        assert [r.reason for r in bench.decode(row.original, row.media_type).rejected] == [reason]  # by itself, as kept
