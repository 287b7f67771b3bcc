"""Readings as Arrow streams."""

from __future__ import annotations

import json
import struct
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from meterpulse.ingest import ARROW, NDJSON, BodyError

MIDNIGHT_MS = 1_772_841_600_000
UTC_MS = pa.timestamp("ms", "UTC")
START = pa.array([MIDNIGHT_MS] * 3, UTC_MS)
QUANTITY = pa.array([1, 2, 3], pa.int64())
TEXT = pa.array(["E-1", "G-1", "E-1"])


def one(bench, stream, quantity: pa.Array, channel: str = "E-1"):
    """The quantity of a row, or its reason."""
    n = len(quantity)
    columns = {"channel": pa.array([channel] * n), "start": pa.array([MIDNIGHT_MS] * n, UTC_MS), "quantity": quantity}
    decoded = bench.decode(stream(columns), ARROW)
    return decoded.readings.quantity.tolist(), [r.reason for r in decoded.rejected]


@pytest.mark.parametrize(
    "channel",
    [
        TEXT,
        TEXT.cast(pa.large_string()),
        TEXT.cast(pa.string_view()),
        TEXT.dictionary_encode(),
        TEXT.cast(pa.large_string()).dictionary_encode(),
        pc.run_end_encode(TEXT),
        pa.array([0, 1, 0], pa.uint32()),
        pa.array([0, 1, 0], pa.int8()),
        pa.array([0, 1, 0], pa.uint64()),
        pa.array([0, 1, 0], pa.uint32()).dictionary_encode(),
        pc.run_end_encode(pa.array([0, 1, 0], pa.uint32())),
    ],
    ids=lambda c: str(c.type),
)
def test_a_channel_is_a_text_or_a_dense_index_in_any_encoding(bench, stream, channel):
    decoded = bench.decode(stream({"channel": channel, "start": START, "quantity": QUANTITY}), ARROW)
    assert bench.rows(decoded) == [
        (0, MIDNIGHT_MS, 300, 1, 0),
        (1, MIDNIGHT_MS, 900, 2, 0),
        (0, MIDNIGHT_MS, 300, 3, 0),
    ]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "+05:45"])
def test_a_start_is_an_instant_in_any_unit_and_zone(bench, stream, unit, zone):
    start = START.cast(pa.timestamp(unit, zone))
    for column in (start, start.dictionary_encode(), pc.run_end_encode(start)):
        decoded = bench.decode(stream({"channel": TEXT, "start": column, "quantity": QUANTITY}), ARROW)
        assert [row[1] for row in bench.rows(decoded)] == [MIDNIGHT_MS] * 3


def test_a_start_finer_than_a_millisecond_or_out_of_range_is_refused(bench, stream):
    start = pa.array([MIDNIGHT_MS * 1000 + 1, -1, 2**62, MIDNIGHT_MS * 1000], pa.timestamp("us", "UTC"))
    columns = {"channel": pa.array([0] * 4, pa.uint32()), "start": start, "quantity": pa.array([1] * 4, pa.int64())}
    decoded = bench.decode(stream(columns), ARROW)
    assert [r.reason for r in decoded.rejected] == ["bad_time"] * 3
    assert [json.loads(r.original)["start"] for r in decoded.rejected][0] == "2026-03-07T00:00:00.000001Z"
    assert len(decoded.readings) == 1


@pytest.mark.parametrize("seconds", [pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64()], ids=str)
def test_whole_numbers_come_in_any_width(bench, stream, seconds):
    values = pa.array([60, 60, 61], seconds)
    columns = {"channel": TEXT, "start": START, "seconds": values, "quantity": QUANTITY, "revision": values}
    decoded = bench.decode(stream(columns), ARROW)
    assert [(row[2], row[4]) for row in bench.rows(decoded)] == [(60, 60), (60, 60), (61, 61)]


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("seconds", pa.array([0, 300], pa.int32()), "bad_seconds"),
        ("seconds", pa.array([-300, 300], pa.int64()), "bad_seconds"),
        ("seconds", pa.array([2**40, 300], pa.int64()), "bad_seconds"),
        ("seconds", pa.array([2**64 - 1, 300], pa.uint64()), "bad_seconds"),
        ("revision", pa.array([-1, 0], pa.int64()), "bad_revision"),
        ("revision", pa.array([2**63, 0], pa.uint64()), "bad_revision"),
        ("channel", pa.array(["nobody", "E-1"]), "unknown_channel"),
        ("channel", pa.array([None, "E-1"]), "missing_field"),
        ("channel", pa.array([None, "E-1"]).dictionary_encode(), "missing_field"),
        ("channel", pa.array([99, 0], pa.uint32()), "unknown_channel"),
        ("channel", pa.array([-1, 0], pa.int64()), "unknown_channel"),
        ("channel", pa.array([2**32, 0], pa.int64()), "unknown_channel"),
        ("channel", pa.array([2**32 - 1, 0], pa.uint32()), "unknown_channel"),
        ("channel", pa.array([None, 0], pa.uint32()), "missing_field"),
        ("start", pa.array([None, MIDNIGHT_MS], UTC_MS), "missing_field"),
        ("start", pa.array([MIDNIGHT_MS + 2 * 86_400_000, MIDNIGHT_MS], UTC_MS), "future"),
        ("quantity", pa.array([None, 1], pa.int64()), "missing_field"),
        ("quantity", pa.array([None, 1.0], pa.float64()), "missing_field"),
        ("quantity", pa.array([None, Decimal(1)], pa.decimal128(9, 3)), "missing_field"),
        ("quantity", pa.array([-1, 1], pa.int64()), "negative"),
        ("quantity", pa.array([2**63, 1], pa.uint64()), "overflow"),
        ("quantity", pa.array([-(2**63), 1], pa.int64()), "overflow"),
    ],
)
def test_a_bad_row_costs_one_row_and_is_kept_as_json(bench, stream, column, values, reason):
    columns = {
        "channel": pa.array(["E-1", "E-1"]),
        "start": pa.array([MIDNIGHT_MS] * 2, UTC_MS),
        "seconds": pa.array([300] * 2, pa.int32()),
        "quantity": pa.array([1] * 2, pa.int64()),
        "revision": pa.array([0] * 2, pa.int64()),
    }
    decoded = bench.decode(stream(columns | {column: values}), ARROW)
    assert [r.reason for r in decoded.rejected] == [reason]
    assert len(decoded.readings) == 1 and decoded.readings.channel[0] == 0
    assert isinstance(json.loads(decoded.rejected[0].original), dict)


def test_null_seconds_and_revisions_take_their_defaults(bench, stream):
    empty = pa.array([None, 60, None], pa.int32())
    columns = {"channel": TEXT, "start": START, "seconds": empty, "quantity": QUANTITY, "revision": empty}
    assert [(r[2], r[4]) for r in bench.rows(bench.decode(stream(columns), ARROW))] == [(300, 0), (60, 60), (300, 0)]


def taken(expected):
    """The quantities that a meter can measure, and one refusal for each of the others."""
    good = [q for q in expected if abs(q) <= 10**14]
    return good, ["overflow"] * (len(expected) - len(good))


TIES = [
    0.0000005,
    0.0000015,
    0.0000025,
    0.1,
    0.3,
    1.234,
    1e-300,
    4503599627.370497,
    9007199254740.993,
    1e12 / 3,
    5e-324,
]


@pytest.mark.parametrize("channel", ["E-1", "Wg-1", "W-1", "G-1"])
def test_a_float_stands_for_its_shortest_decimal(bench, stream, channel):
    rng = np.random.default_rng(5)
    values = [*TIES, *rng.random(500).tolist(), *(rng.integers(0, 2**40, 500) / 2_000_000).tolist()]
    scale = {"E-1": 10**6, "G-1": 10**6, "W-1": 10**3, "Wg-1": Decimal("3785.411784")}[channel]
    expected = [round(Decimal(repr(x)) * scale) for x in values]
    assert one(bench, stream, pa.array(values), channel) == taken(expected)


def test_a_float32_stands_for_its_shortest_decimal(bench, stream):
    rng = np.random.default_rng(6)
    values = np.concatenate([rng.random(2_000), rng.integers(0, 2**30, 2_000) / 1_000, 2.0 ** np.arange(-40, 40)])
    values = np.concatenate([values.astype(np.float32), np.array([0.1, 16777216, 8388608.5, 1e-45, 0], np.float32)])
    expected = [round(Decimal(str(x)) * 10**6) for x in values]
    assert one(bench, stream, pa.array(values)) == taken(expected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "not_a_number"),
        (float("inf"), "not_a_number"),
        (-float("inf"), "not_a_number"),
        (-1.0, "negative"),
        (-0.0, "negative"),
        (-1e-300, "negative"),
        (1e14, "overflow"),
        (1e38, "overflow"),
    ],
)
@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()], ids=str)
def test_a_hostile_float_is_refused(bench, stream, value, reason, kind):
    assert one(bench, stream, pa.array([value, 1.5], kind)) == ([1_500_000], [reason])


def test_a_gauge_may_be_negative(bench, stream):
    assert one(bench, stream, pa.array([-1.5, -0.0, 1e-9, -1e-9]), "V-1") == ([-1_500, 0, 0, 0], [])
    assert one(bench, stream, pa.array([-1500], pa.int64()), "V-1") == ([-1_500], [])


@pytest.mark.parametrize(
    "kind",
    [pa.decimal32(9, 3), pa.decimal64(18, 3), pa.decimal128(18, 3), pa.decimal128(38, 20), pa.decimal256(76, 30)],
    ids=str,
)
def test_decimals_are_exact(bench, stream, kind):
    values = pa.array([Decimal("0.125"), Decimal("1.5"), Decimal("123456.789")], kind)
    assert one(bench, stream, values) == ([125_000, 1_500_000, 123_456_789_000], [])


def test_wide_decimals_round_once_or_overflow(bench, stream):
    values = [Decimal("0.00000250000000000000000000000000000001"), Decimal("0.0000025"), Decimal(10) ** 30, Decimal(-1)]
    wide = pa.array(values, pa.decimal256(76, 38))
    assert one(bench, stream, wide) == ([3, 2], ["overflow", "negative"])
    assert one(bench, stream, pa.array([Decimal("-1e20")], pa.decimal128(38, 3)), "V-1") == ([], ["overflow"])


def test_decimal_texts_are_taken_too(bench, stream):
    values = ["1.5", "2", "3e-3", "NaN", "", "12,5", "9" * 30, "0.1"]
    for kind in (pa.string(), pa.large_string()):
        good, bad = one(bench, stream, pa.array(values, kind))
        assert good == [1_500_000, 2_000_000, 3_000, 100_000]
        assert bad == ["not_a_number"] * 3 + ["overflow"]


def test_constant_columns_are_kept_once_and_others_whole(bench, stream):
    columns = {
        "channel": pa.array(np.zeros(5_000, np.uint32)),
        "start": pa.array(np.full(5_000, MIDNIGHT_MS), UTC_MS),
        "seconds": pa.array(np.full(5_000, 5, np.int32)),
        "quantity": pa.array(np.arange(5_000)),
        "revision": pa.array(np.zeros(5_000, np.int64)),
    }
    readings = bench.decode(stream(columns, cuts=[100, 100, 4_000]), ARROW).readings
    assert [len(c) for c in (readings.start, readings.seconds, readings.revision)] == [1, 1, 1]
    assert readings.quantity.tolist() == list(range(5_000))
    moving = columns | {"start": pa.array(MIDNIGHT_MS + np.arange(5_000), UTC_MS)}
    assert bench.decode(stream(moving), ARROW).readings.start.tolist() == list(range(MIDNIGHT_MS, MIDNIGHT_MS + 5_000))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_taken_up_to_the_limit(bench, stream, codec):
    n = 100_000
    columns = {
        "channel": pa.array(np.zeros(n, np.uint32)),
        "start": pa.array(np.full(n, MIDNIGHT_MS), UTC_MS),
        "quantity": pa.array(np.zeros(n, np.int64)),
    }
    body = stream(columns, compression=codec)
    assert len(body) < 20_000 and len(bench.decode(body, ARROW).readings) == n
    with pytest.raises(BodyError) as error:
        bench.decode(body, ARROW, max_bytes=1_000_000)
    assert error.value.status == 413


def test_a_run_of_a_billion_rows_is_refused_before_it_is_unpacked(bench, stream):
    n = 2**30
    run = pa.RunEndEncodedArray.from_arrays(pa.array([n], pa.int32()), pa.array([0], pa.uint32()))
    start = pa.RunEndEncodedArray.from_arrays(pa.array([n], pa.int32()), pa.array([MIDNIGHT_MS], UTC_MS))
    quantity = pa.RunEndEncodedArray.from_arrays(pa.array([n], pa.int32()), pa.array([1], pa.int64()))
    with pytest.raises(BodyError) as error:
        bench.decode(stream({"channel": run, "start": start, "quantity": quantity}), ARROW)
    assert error.value.status == 413


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("channel", None),
        ("start", None),
        ("quantity", None),
        ("channel", pa.array([1.0, 2.0, 3.0])),
        ("channel", pa.array([b"E-1"] * 3)),
        ("start", pa.array([MIDNIGHT_MS] * 3, pa.timestamp("ms"))),
        ("start", pa.array([MIDNIGHT_MS] * 3, pa.int64())),
        ("start", pa.array(["2026-03-07T00:00:00Z"] * 3)),
        ("seconds", pa.array([300.0] * 3)),
        ("quantity", pa.array([True] * 3)),
        ("quantity", pa.nulls(3)),
        ("revision", pa.array(["0"] * 3)),
    ],
)
def test_a_wrong_column_is_named(bench, stream, column, values):
    columns = {"channel": TEXT, "start": START, "quantity": QUANTITY} | {column: values}
    with pytest.raises(BodyError) as error:
        bench.decode(stream({k: v for k, v in columns.items() if v is not None}), ARROW)
    assert error.value.status == 422 and column in error.value.detail


def test_other_columns_are_not_even_unpacked(bench, stream):
    columns = {
        "note": pa.array([[1], None, [2]]),
        "channel": TEXT,
        "x": pa.nulls(3),
        "start": START,
        "quantity": QUANTITY,
    }
    assert len(bench.decode(stream(columns), ARROW).readings) == 3
    assert len(bench.decode(stream(columns, compression="zstd"), ARROW).readings) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 100,
        b"ARROW1\x00\x00",
        b"\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"{}",
        b"\xff" * 99,
    ],
)
def test_what_is_no_stream_is_refused(bench, body):
    with pytest.raises(BodyError) as error:
        bench.decode(body, ARROW)
    assert error.value.status == 400


def test_a_stream_that_breaks_off_is_refused_whole(bench, stream):
    body = stream({"channel": TEXT, "start": START, "quantity": QUANTITY})
    for size in range(8, len(body) - 8, 16):
        try:
            decoded = bench.decode(body[:size], ARROW)
        except BodyError as error:
            assert error.status == 400
        else:
            assert len(decoded.readings) in (0, 3)  # cut between two messages: what arrived is whole


def test_flipped_bytes_never_crash_and_never_raise_anything_else(bench, stream):
    rng = np.random.default_rng(11)
    columns = {"channel": TEXT, "start": START, "seconds": pa.array([300] * 3, pa.int32()), "quantity": QUANTITY}
    encoded = {"channel": TEXT.dictionary_encode(), "start": pc.run_end_encode(START), "quantity": QUANTITY}
    for body in (stream(columns), stream(columns, compression="zstd"), stream(encoded), stream(encoded, cuts=[1])):
        for _ in range(400):
            bad = bytearray(body)
            for at in rng.integers(0, len(body), rng.integers(1, 6)).tolist():
                bad[at] = rng.integers(0, 256)
            if rng.random() < 0.3:
                struct.pack_into(
                    "<q", bad, int(rng.integers(0, len(body) - 8)), int(rng.choice([-1, 2**31, 2**62, -(2**63)]))
                )
            try:
                bench.decode(bytes(bad), ARROW)
            except BodyError as error:
                assert error.status in (400, 413, 422)


def test_a_refused_row_can_be_replayed(bench, stream):
    columns = {
        "channel": pa.array(["E-1", "G-1", "V-1", "Wg-1", "E-1"]),
        "start": pa.array([MIDNIGHT_MS + 1] * 5, UTC_MS),
        "seconds": pa.array([60] * 5, pa.int16()),
        "quantity": pa.array([1, 1_234_567, 2, 12_345, 10**14], pa.int64()),
        "revision": pa.array([3] * 5, pa.int64()),
    }
    for channel in (columns["channel"], pa.array([0, 1, 3, 5, 0], pa.uint32())):
        refused = bench.decode(stream(columns | {"channel": channel, "revision": pa.array([-1] * 5)}), ARROW).rejected
        assert [r.reason for r in refused] == ["bad_revision"] * 5
        mended = b"\n".join(r.original.replace(b'"revision": -1', b'"revision": 3') for r in refused)
        wanted = bench.rows(bench.decode(stream(columns), ARROW))
        assert bench.rows(bench.decode(mended, NDJSON)) == wanted
        assert bench.rows(bench.decode(mended * 1, NDJSON + "; charset=utf-8")) == wanted
