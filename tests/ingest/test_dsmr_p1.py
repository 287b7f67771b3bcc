"""P1 telegrams: every register with the time that the meter gave it, also in the hour that comes twice."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.ingest import BodyError, files

V5 = """/KFM5KAIFA-METER

1-3:0.2.8(50)
0-0:1.0.0({stamp})
0-0:96.1.1(4530303033)
1-0:1.8.1({night}*kWh)
1-0:1.8.2(001435.706*kWh)
1-0:2.8.1(000000.005*kWh)
0-0:96.14.0(0002)
1-0:1.7.0(02.027*kW)
1-0:22.7.0(00.100*kW)
0-0:17.0.0(999.9*kW)
1-0:99.97.0(1)(0-0:96.7.19)(000104180320W)(0000237126*s)
1-0:32.7.0(230.1*V)
1-0:31.7.0(006*A)
0-1:24.1.0(003)
0-1:96.1.0(4730303031)
0-1:24.2.1(231029025500S)(00981.443*m3)
0-2:24.1.0(007)
0-2:96.1.1(5730303031)
0-2:24.2.1(231029024500W)(00008.579*m3)
0-3:24.1.0(004)
0-3:96.1.1(4830303031)
0-3:24.2.1(231029024500W)(00012.000*GJ)
!"""
V3 = """/ISk5\\2MT382-1000

0-0:96.1.1(4B3845)
1-0:1.8.1(12345.678*kWh)
1-0:1.7.0(001.19*kW)
0-1:96.1.0(473032)
0-1:24.1.0(03)
0-1:24.3.0({gas})(08)(60)(1)(0-1:24.2.1)(m3)
(00123.456)
!
"""


def crc(data: bytes) -> int:
    """Bit by bit, as the companion standard tells it."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value


def telegram(stamp="231029025959S", night="001581.123") -> bytes:
    body = V5.format(stamp=stamp, night=night).replace("\n", "\r\n").encode()
    return body + f"{crc(body):04X}\r\n".encode()


def ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def write(tmp_path):
    def write(body: bytes):
        path = tmp_path / "telegrams.txt"
        path.write_bytes(body)
        return path

    return write


def test_a_telegram_gives_its_registers_and_gauges_and_those_of_the_meters_behind_it(rows_in, write):
    batches, rows = rows_in(write(telegram()), "dsmr_p1")
    at, gas, water = ms(2023, 10, 29, 0, 59, 59), ms(2023, 10, 29, 0, 55), ms(2023, 10, 29, 1, 45)
    assert [row[:4] for row in rows] == [
        ("E0003:1-0:1.8.1", at, 1, 1_581_123_000),
        ("E0003:1-0:1.8.2", at, 1, 1_435_706_000),
        ("E0003:1-0:2.8.1", at, 1, 5_000),
        ("E0003:1-0:1.7.0", at, 1, 2_027_000),
        ("E0003:1-0:22.7.0", at, 1, 100_000),
        ("E0003:1-0:32.7.0", at, 1, 230_100),
        ("E0003:1-0:31.7.0", at, 1, 6_000),
        ("G0001:0-1:24.2.1", gas, 300, 981_443_000),
        ("W0001:0-2:24.2.1", water, 300, 8_579_000),
    ]
    shapes = {c.id.partition(":")[2]: (c.utility, c.unit, c.kind, c.direction) for c in batches[0].channels}
    assert shapes["1-0:2.8.1"] == ("electricity", "kWh", "register", "received")
    assert shapes["1-0:22.7.0"] == ("electricity", "kW", "gauge", "received")
    assert shapes["0-2:24.2.1"] == ("water", "m3", "register", "delivered") and shapes["0-1:24.2.1"][0] == "gas"
    assert not batches[0].rejected


def test_the_hour_that_comes_twice_is_told_apart_by_its_s_and_w(rows_in, write):
    stamps = ["231029015959S", "231029020000S", "231029025959S", "231029020000W", "231029025959W", "231029030000W"]
    body = b"".join(telegram(stamp, f"{i:06d}.000") for i, stamp in enumerate(stamps))
    _, rows = rows_in(write(body), "dsmr_p1")
    night = [(row[1], row[3]) for row in rows if row[0] == "E0003:1-0:1.8.1"]
    midnight = ms(2023, 10, 29)
    seconds = [-1, 0, 3_599, 3_600, 7_199, 7_200]
    assert night == [(midnight + s * 1_000, i * 10**6) for i, s in enumerate(seconds)]


def test_a_telegram_of_old_has_no_time_for_electricity_unless_the_line_before_tells_one(rows_in, write):
    text = V3.format(gas="120517020000")
    batches, rows = rows_in(write(text.encode()), "dsmr_p1")
    assert [row[:4] for row in rows] == [("G02:0-1:24.2.1", ms(2012, 5, 17), 3600, 123_456_000)]
    assert [r.reason for r in batches[0].rejected] == ["bad_time"]
    batches, rows = rows_in(write(b"2012-05-17T02:10:00+02:00\n" + text.encode()), "dsmr_p1")
    at = ms(2012, 5, 17, 0, 10)
    assert [row[:4] for row in rows][:2] == [
        ("K8E:1-0:1.8.1", at, 10, 12_345_678_000),
        ("K8E:1-0:1.7.0", at, 10, 1_190_000),
    ]
    assert not batches[0].rejected
    # No S or W, in the hour that came twice: refused, never guessed.
    batches, rows = rows_in(write(V3.format(gas="121028023000").encode()), "dsmr_p1")
    assert not rows and {r.reason for r in batches[0].rejected} == {"bad_time"}


def test_line_ends_that_a_tool_changed_do_not_break_the_checksum(rows_in, write):
    want = rows_in(write(telegram()), "dsmr_p1")[1]
    assert rows_in(write(telegram().replace(b"\r\n", b"\n")), "dsmr_p1")[1] == want


@pytest.mark.parametrize("at", range(30, 520, 49))
def test_a_flipped_digit_costs_its_telegram_only(rows_in, write, at):
    bad = bytearray(telegram())
    bad[at] ^= 1
    batches, rows = rows_in(write(telegram("231029015959S") + bytes(bad) + telegram("231029030000W")), "dsmr_p1")
    assert {row[1] for row in rows if row[0].startswith("E")} == {ms(2023, 10, 28, 23, 59, 59), ms(2023, 10, 29, 2)}
    assert {r.reason for r in batches[0].rejected} <= {"bad_checksum", "truncated"} and batches[0].rejected


def test_a_file_cut_anywhere_gives_whole_telegrams_only(rows_in, write):
    body = telegram("231029015959S") + telegram("231029030000W")
    first = rows_in(write(telegram("231029015959S")), "dsmr_p1")[1]
    for cut in range(len(body) // 2 + 1, len(body) - 2, 97):
        batches, rows = rows_in(write(body[:cut]), "dsmr_p1")
        assert rows == first and {r.reason for r in batches[0].rejected} <= {"truncated", "bad_checksum"}
    for cut in range(len(body) - 6, len(body) - 2):
        assert rows_in(write(body[:cut]), "dsmr_p1")[1] == first


def test_reading_goes_on_behind_any_batch(rows_in, write, monkeypatch):
    monkeypatch.setattr("meterpulse.ingest.dsmr_p1.BATCH_ROWS", 20)
    path = write(b"".join(telegram(f"2310290100{i:02d}S") for i in range(12)))
    batches, rows = rows_in(path, "dsmr_p1")
    assert len(batches) > 2 and len(rows) == 12 * 9
    done = 0
    for batch in batches:
        done += batch.rows
        assert rows_in(path, "dsmr_p1", batch.position)[1] == rows[done:]


def test_what_holds_no_telegram_is_refused(write):
    with pytest.raises(BodyError, match="no telegram"):
        list(files.read(write(b"hello\nworld\n"), "dsmr_p1"))


def test_a_telegram_without_an_end_is_let_go_before_it_fills_the_memory(write):
    batches = list(files.read(write(b"/ABC5METER\n\n" + b"1-0:1.8.1(1*kWh)\n" * 200_000 + telegram()), "dsmr_p1"))
    assert sum(batch.rows for batch in batches) == 9
    assert {r.reason for batch in batches for r in batch.rejected} == {"truncated"}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 500), st.binary(max_size=6))
def test_damage_ends_in_rows_and_reasons(write, at, damage):
    body = V3.format(gas="120517020000").encode()
    path = write(body[: at % len(body)] + damage + body[at % len(body) + len(damage) :])
    try:
        for batch in files.read(path, "dsmr_p1"):
            assert batch.rows == batch.table.num_rows
    except BodyError as error:
        assert error.status == 422
