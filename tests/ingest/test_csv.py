"""Readings as CSV."""

from __future__ import annotations

import pytest

from meterpulse.ingest import CSV, BodyError

MIDNIGHT_MS = 1_772_841_600_000
GOOD = (0, MIDNIGHT_MS, 300, 1_500_000, 0)


@pytest.mark.parametrize(
    "line",
    [
        b"E-1,2026-03-07T00:00:00Z,300,1.5,kWh,0",
        b"E-1,2026-03-07T00:00:00Z,,1.5,,",
        b"E-1,2026-03-07T00:00:00.000+00:00,300,1500,Wh,0",
        b'"E-1","2026-03-07T00:00:00Z","300","1.5","kwh","0"',
        b"E-1, 2026-03-07T00:00:00Z , 300 , 1.5 , kWh , 0 ",
        b"E-1,2026-03-07T00:00:00Z,3e2,15e-1,,0.0",
        b"E-1,2026-03-07T00:00:00Z,300,1.5,kWh,0\r",
    ],
)
def test_a_row_may_be_written_in_any_usual_way(bench, line):
    assert bench.rows(bench.both(line, CSV)) == [GOOD]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"E-1,2026-03-07T00:00:00Z,300,1.5,kWh", "bad_csv"),
        (b"E-1,2026-03-07T00:00:00Z,300,1.5,kWh,0,", "bad_csv"),
        (b"E-1,2026-03-07T00:00:00Z,300,12,5,,0", "bad_csv"),
        (b'E-1,2026-03-07T00:00:00Z,300,"12,5",,0', "not_a_number"),
        (b'"E-1,2026-03-07T00:00:00Z,300,1.5,,0', "bad_csv"),
        (b'E-1,2026-03-07T00:00:00Z,300,1.5,"kWh"x,0', "bad_csv"),
        (b"E-1,2026-03-07T00:00:00Z,300,1\x005,,0", "bad_csv"),
        (b"E-\xff,2026-03-07T00:00:00Z,300,1.5,,0", "bad_utf8"),
        (b",2026-03-07T00:00:00Z,300,1.5,,0", "missing_field"),
        (b"E-1,,300,1.5,,0", "missing_field"),
        (b"E-1,2026-03-07T00:00:00Z,300,,,0", "missing_field"),
        (b"E-9,2026-03-07T00:00:00Z,300,1.5,,0", "unknown_channel"),
        (b"0,2026-03-07T00:00:00Z,300,1.5,,0", "unknown_channel"),
        (b"E-1,2026-03-07T00:00:00,300,1.5,,0", "no_offset"),
        (b"E-1,7/3/2026,300,1.5,,0", "bad_time"),
        (b"E-1,2026-03-07T00:00:00Z,-300,1.5,,0", "bad_seconds"),
        (b"E-1,2026-03-07T00:00:00Z,x,1.5,,0", "bad_seconds"),
        ("E-1,2026-03-07T00:00:00Z,٣٠٠,1.5,,0".encode(), "bad_seconds"),
        (b"E-1,2026-03-07T00:00:00Z,300,NaN,,0", "not_a_number"),
        (b"E-1,2026-03-07T00:00:00Z,300,inf,,0", "not_a_number"),
        (b"E-1,2026-03-07T00:00:00Z,300,1e400,,0", "overflow"),
        (b"E-1,2026-03-07T00:00:00Z,300,-3,,0", "negative"),
        (b"E-1,2026-03-07T00:00:00Z,300,-0,,0", "negative"),
        (b"E-1,2026-03-07T00:00:00Z,300,1.5,furlong,0", "bad_unit"),
        (b"E-1,2026-03-07T00:00:00Z,300,1.5,,b", "bad_revision"),
        (b"E-1,2026-03-07T00:00:00Z,300,1.5,,-1", "bad_revision"),
        (b"E-1,2036-03-07T00:00:00Z,300,1.5,,0", "future"),
    ],
)
def test_a_bad_row_is_kept_as_its_line(bench, line, reason):
    decoded = bench.both(line, CSV)
    assert [(r.reason, r.original) for r in decoded.rejected] == [(reason, line)]


def test_a_refused_row_can_be_read_again_by_itself(bench):
    body = b"note,quantity,start,channel\nx,1.5,2026-03-07T00:00:00Z,E-9\n"
    (row,) = bench.decode(body, CSV).rejected
    assert [r.reason for r in bench.decode(row.original, row.media_type).rejected] == ["unknown_channel"]
    assert bench.rows(bench.decode(row.original.replace(b"E-9", b"E-1"), row.media_type)) == [GOOD]


def test_columns_come_in_any_order_and_others_are_ignored(bench):
    body = b"\xef\xbb\xbfnote,Quantity, start ,CHANNEL\r\nx,1.5,2026-03-07T00:00:00Z,E-1\r\n\r\n"
    body += b",2,2026-03-07T00:05:00Z,G-1"
    assert bench.rows(bench.decode(body, CSV)) == [GOOD, (1, MIDNIGHT_MS + 300_000, 900, 2_000_000, 0)]


def test_a_quoted_field_may_hold_newlines_commas_and_quotes(bench):
    body = (
        b'channel,start,quantity,note\nE-1,2026-03-07T00:00:00Z,1.5,"a\nb, ""c""\r\n"\nE-1,2026-03-07T00:00:00Z,1.5,d\n'
    )
    assert bench.rows(bench.decode(body, CSV)) == [GOOD, GOOD]


def test_a_stray_quote_costs_its_own_line_only(bench):
    line = b"E-1,2026-03-07T00:00:00Z,300,1.5,,0\n"
    body = b"channel,start,seconds,quantity,unit,revision\n" + line * 50
    for stray in (b'"E-1,2026-03-07T00:00:00Z,300,1.5,,0', b'E-1,2026-03-07T00:00:00Z,300,1.5,,"0'):
        decoded = bench.decode(body + stray + b"\n" + line * 200, CSV)
        assert len(decoded.readings) == 250 and [r.original for r in decoded.rejected] == [stray]


def test_a_header_alone_has_no_readings(bench):
    for body in (b"channel,start,quantity", b"channel,start,quantity\r\n", b'"channel","start","quantity"\n\n'):
        decoded = bench.decode(body, CSV)
        assert len(decoded.readings) == len(decoded.rejected) == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\n\n", 400),
        (b"not,a,header\n1,2,3", 422),
        (b"channel,start\nE-1,2026-03-07T00:00:00Z", 422),
        (b"channel,start,quantity,quantity\n", 400),
        (b"channel,start,quantity,\xff\n", 400),
        (b"channel,start,quantity,\x00\n", 400),
        (b"x" * 100_000, 422),
    ],
)
def test_a_body_without_the_columns_is_refused(bench, body, status):
    with pytest.raises(BodyError) as error:
        bench.decode(body, CSV)
    assert error.value.status == status


def test_records_after_utilityapi_may_come_as_csv(bench):
    body = (
        b"service_uid,interval_start,interval_end,interval_kW,interval_kWh\n"
        b"E-1,2026-03-06T16:00:00-08:00,2026-03-06T16:05:00-08:00,18,1.5\n"
    )
    assert bench.rows(bench.decode(body, CSV, layout="utilityapi")) == [GOOD]
