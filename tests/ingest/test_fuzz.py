"""Whatever comes in, what comes out is readings and refused rows, or a BodyError; and every number is right."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.ingest import CSV, JSON, MEDIA_TYPES, NDJSON, BodyError, decompress

RELAXED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = st.sampled_from(
    [
        b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1}',
        b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": ',
        b"channel,start,quantity\n",
        b"E-1,2026-03-07T00:00:00Z,1\n",
        *[bytes([c]) for c in b'"\\{}[]:,\n\r 01.e-'],
        b"\xef\xbb\xbf",
        b'"quantity"',
        b"null",
        b"\x00",
        b"\xff",
    ]
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.lists(PIECES, max_size=40).map(b"".join),
    st.lists(PIECES, min_size=99, max_size=120).map(b"".join),
)


@RELAXED
@given(BODIES, st.sampled_from(MEDIA_TYPES), st.sampled_from(["canonical", "utilityapi"]))
def test_any_bytes_give_readings_or_a_body_error(bench, body, media_type, layout):
    try:
        decoded = bench.decode(body, media_type, layout=layout)
    except BodyError as error:
        assert error.status in (400, 413, 422) and error.detail
        return
    for name in ("start", "seconds", "revision"):
        assert len(getattr(decoded.readings, name)) in (1, len(decoded.readings))
    assert all(r.reason and r.detail and isinstance(r.original, bytes) for r in decoded.rejected)


@RELAXED
@given(st.decimals(0, 10**8, places=9), st.sampled_from(["E-1", "G-1", "W-1"]))
def test_every_form_gives_the_same_number(bench, value, channel):
    scale = {"E-1": 10**6, "G-1": 10**6, "W-1": 10**3}[channel]
    expected = [round(value * scale)]
    text = f"{value:f}"
    line = f'{{"channel": "{channel}", "start": "2026-03-07T00:00:00Z", "quantity": %s}}'
    for body, media_type in (
        (line % text, NDJSON),
        (line % f'"{text}"', NDJSON),
        ("\n".join([line % text] * 30), NDJSON),
        ("[" + line % text + "]", JSON),
        (f"channel,start,quantity\n{channel},2026-03-07T00:00:00Z,{text}", CSV),
    ):
        assert set(bench.decode(body.encode(), media_type).readings.quantity.tolist()) == set(expected)


@pytest.mark.parametrize("media_type", ["image/png", "", "application/xml", "text/plain; charset=utf-8"])
def test_another_media_type_is_told_which_ones_are_taken(bench, media_type):
    with pytest.raises(BodyError) as error:
        bench.decode(b"x", media_type)
    assert error.value.status == 415 and all(taken in error.value.detail for taken in MEDIA_TYPES)


@pytest.mark.parametrize(
    "media_type", ["application/x-ndjson; charset=utf-8", "APPLICATION/X-NDJSON", "application/jsonl"]
)
def test_parameters_and_case_of_a_media_type_do_not_matter(bench, record, media_type):
    assert len(bench.decode(record(), media_type).readings) == 1


def test_an_unknown_layout_and_a_large_body_are_refused(bench, record):
    with pytest.raises(BodyError) as error:
        bench.decode(record(), layout="x")
    assert error.value.status == 422
    with pytest.raises(BodyError) as error:
        bench.decode(record(), max_bytes=10)
    assert error.value.status == 413


def test_a_body_of_bad_rows_only_is_refused_as_a_whole(bench, monkeypatch, record):
    monkeypatch.setattr("meterpulse.ingest.rows.REFUSED_MAX", 50)
    assert len(bench.decode(b"\n".join([record(channel="x")] * 50)).rejected) == 50
    with pytest.raises(BodyError) as error:
        bench.decode(b"\n".join([record(channel="x")] * 51))
    assert error.value.status == 422 and "unknown_channel" in error.value.detail


def test_gzip_is_unpacked_up_to_the_limit():
    body = json.dumps({"a": 1}).encode() * 100_000
    packed = gzip.compress(body)
    assert decompress(packed, "gzip", len(body)) == decompress(body, None, len(body)) == body
    assert decompress(packed + gzip.compress(b"x") + b"\0\0", " GZIP ", len(body) + 1) == body + b"x"
    for limit in (len(body) - 1, 10):
        with pytest.raises(BodyError) as error:
            decompress(packed, "gzip", limit)
        assert error.value.status == 413


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b"abc" * 99)[:-9], "gzip", 400),
        (gzip.compress(b"abc")[:5], "gzip", 400),
        (gzip.compress(b"abc") + b"junk", "gzip", 400),
        (b"", "gzip", 400),
        (b"abc", "gzip", 400),
        (b"abc", "br", 415),
        (b"abc", "identity", 413),
    ],
    ids=["cut", "its head", "junk behind", "empty", "plain", "unknown", "none"],
)
def test_a_broken_encoding_is_refused(body, encoding, status):
    with pytest.raises(BodyError) as error:
        decompress(body, encoding, 2 if status == 413 else 1_000)
    assert error.value.status == status


def test_a_thousand_to_one_bomb_ends_early_in_bounded_memory():
    bomb = gzip.compress(gzip.compress(bytes(50_000_000), 9) * 1, 9)
    with pytest.raises(BodyError):
        decompress(decompress(bomb, "gzip", 10**6), "gzip", 10**6)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_gzip_give_bytes_or_a_body_error(body):
    for packed in (body, gzip.compress(b"abc")[: len(body)] + body):
        try:
            decompress(packed, "gzip", 10_000)
        except BodyError as error:
            assert error.status in (400, 413)
