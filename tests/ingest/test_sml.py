"""SML: every value of a telegram whose checksums are right, at a time that somebody told, and no other."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterpulse.ingest import BodyError, files
from meterpulse.ingest.checksum import crc16_kermit, crc16_x25
from meterpulse.ingest.contract import RowError
from meterpulse.ingest.sml_list import Listed, lists
from meterpulse.ingest.sml_tree import Frames
from meterpulse.registry import Registry
from tests.conformance.sampled import taken

METER = bytes.fromhex("0a01454d480000123456")  # printed on it as 1EMH0001193046
IMPORT, EXPORT, POWER, PAST = (
    bytes.fromhex(code) for code in ("0100010800ff", "0100020800ff", "0100100700ff", "010001080060")
)
AT = 1_767_222_900  # 2025-12-31T23:15:00Z


def octets(content: bytes) -> bytes:
    length = len(content) + 1
    return (bytes([length]) if length < 16 else bytes([0x80 | length >> 4, length & 15])) + content


def unsigned(value: int, size: int) -> bytes:
    return bytes([0x60 | size + 1]) + value.to_bytes(size, "big")


def signed(value: int, size: int) -> bytes:
    return bytes([0x50 | size + 1]) + value.to_bytes(size, "big", signed=True)


def listed(*items: bytes) -> bytes:
    head = bytes([0x70 | len(items)]) if len(items) < 16 else bytes([0xF0 | len(items) >> 4, len(items) & 15])
    return head + b"".join(items)


def message(kind: int, body: bytes, crc=crc16_x25) -> bytes:
    content = bytes([0x76]) + octets(b"\x01\x02") + unsigned(0, 1) + unsigned(0, 1)
    content += listed(unsigned(kind, 2), body)
    return content + b"\x63" + crc(content).to_bytes(2, "little") + b"\x00"


def entry(obis: bytes, unit: int, scaler: int, value: bytes) -> bytes:
    return listed(octets(obis), b"\x01", b"\x01", unsigned(unit, 1), signed(scaler, 1), value, b"\x01")


def telegram(*entries: bytes, time: bytes, meter: bytes = METER, crc=crc16_x25) -> bytes:
    opening = message(0x101, listed(b"\x01", b"\x01", octets(b"abc"), octets(meter), b"\x01", b"\x01"), crc)
    values = listed(b"\x01", octets(meter), b"\x01", time, listed(*entries), b"\x01", b"\x01")
    messages = opening + message(0x701, values, crc) + message(0x201, listed(b"\x01"), crc)
    padding = -len(messages) % 4
    escaped = messages.replace(b"\x1b" * 4, b"\x1b" * 8)
    body = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" + escaped + bytes(padding)
    body += b"\x1b\x1b\x1b\x1b\x1a" + bytes([padding])
    return body + crc(body).to_bytes(2, "little")


def counted(seconds: int) -> bytes:
    return listed(unsigned(1, 1), unsigned(seconds, 4))


def at(seconds: int) -> bytes:
    return listed(unsigned(2, 1), unsigned(seconds, 4))


def energy(tenths: int) -> bytes:
    return entry(IMPORT, 30, -1, signed(tenths, 8))


@pytest.fixture
def read(tmp_path):
    def read(content: bytes):
        path = tmp_path / "port.bin"
        path.write_bytes(content)
        with Registry.open(tmp_path / "registry") as registry:
            found = taken(files.format_of("sml").read(path), registry)
        return [(row[0], row[1] // 1_000, row[3]) for row in found.rows], found.refused

    return read


def test_values_come_in_exact_thousandths_at_the_time_that_the_meter_tells(read):
    entries = energy(123_456), entry(EXPORT, 30, 2, unsigned(7, 1)), entry(POWER, 27, -2, signed(-2_997, 4))
    rows, refused = read(telegram(*entries, entry(PAST, 30, 0, signed(5, 2)), time=at(AT)))
    assert not refused
    assert rows == [
        ("1EMH0001193046:1-0:1.8.0", AT, 12_345_600),
        ("1EMH0001193046:1-0:2.8.0", AT, 700_000),
        ("1EMH0001193046:1-0:16.7.0", AT, -29_970),
    ]


def test_a_count_of_seconds_is_no_time(read):
    rows, refused = read(telegram(energy(1), time=counted(77)))
    assert (rows, refused) == ([], ["bad_time"])


def test_a_line_with_a_time_dates_the_telegram_behind_it_and_the_count_dates_the_next(read):
    told = (
        b"2025-12-31T23:15:00Z\n"
        + telegram(energy(9), time=counted(90))[-60:]
        + telegram(energy(10), time=counted(100))
    )
    rows, refused = read(told + telegram(energy(20), time=counted(130)) + telegram(energy(5), time=counted(3)))
    assert [(start, value) for _, start, value in rows] == [(AT, 1_000), (AT + 30, 2_000)]
    assert refused == ["bad_time"]  # it began to count anew, and nobody knows when


def test_hexadecimal_text_is_read_as_the_bytes_are(read):
    one, two = (telegram(energy(n), time=counted(n)) for n in (10, 20))
    lines = b"2025-12-31T23:15:00Z " + one.hex().encode() + b"\n" + two.hex(" ").upper().encode() + b"\n"
    assert read(lines) == read(b"2025-12-31T23:15:00Z\n" + one + two)
    assert len(read(lines)[0]) == 2


def test_a_telegram_with_four_escapes_in_it_comes_whole(read):
    value = int.from_bytes(b"\x1b" * 5, "big")
    rows, refused = read(telegram(entry(IMPORT, 30, -3, unsigned(value, 8)), time=at(AT)))
    assert not refused and [row[2] for row in rows] == [value]


def test_meters_that_send_the_other_checksum_are_read(read):
    assert len(read(telegram(energy(1), time=at(AT), crc=crc16_kermit))[0]) == 1


def test_a_telegram_that_another_cuts_off_costs_only_itself(read):
    good = telegram(energy(1), time=at(AT))
    rows, refused = read(good[:60] + good + good[:-20])
    assert (len(rows), refused) == (1, ["truncated", "truncated"])


def test_a_sign_that_nobody_can_tell_is_no_number(read):
    old = b"\x0a\x01DZG\x00" + (40_051_478).to_bytes(4, "big")
    entries = entry(POWER, 27, -2, signed(-31_064, 2)), energy(1)
    assert [row[0][-5:] for row in read(telegram(*entries, time=at(AT), meter=old))[0]] == ["1.8.0"]
    assert len(read(telegram(*entries, time=at(AT)))[0]) == 2


def test_lists_without_an_end_and_deep_ones_are_refused(read):
    for body in (b"\xff\xff\xff\x0f", b"\x71" * 4_000, b"\x76\x01"):
        framed = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" + body + b"\x1b\x1b\x1b\x1b\x1a\x00"
        rows, refused = read(framed + crc16_x25(framed).to_bytes(2, "little"))
        assert (rows, refused) == ([], ["wrong_type"])


def test_what_never_ends_takes_no_memory(read):
    rows, refused = read(b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" + b"\x71" * 300_000 + telegram(energy(3), time=at(AT)))
    assert [row[2] for row in rows] == [300] and refused == ["truncated"]


def test_a_file_without_a_telegram_says_so(read):
    with pytest.raises(BodyError, match="1B 1B 1B 1B"):
        read(b"no telegram")


GOOD = b"".join(telegram(energy(1_000 + n), entry(POWER, 27, 0, signed(n, 2)), time=at(AT + n)) for n in range(3))
KNOWN = {("1EMH0001193046:1-0:1.8.0", AT + n, str(1_000 + n)) for n in range(3)}
KNOWN |= {("1EMH0001193046:1-0:16.7.0", AT + n, str(n)) for n in range(3)}


def numbers(content: bytes):
    """Channel, second and number of every value."""
    for frame in Frames().feed(content):
        with contextlib.suppress(RowError):
            found = lists(frame.body, None) if not frame.problem else Listed()
            yield from ((value.channel.id, value.start_ms // 1_000, value.text) for value in found.values)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 2), st.binary(min_size=1, max_size=2))
def test_bytes_that_were_changed_never_make_a_number(place, other):
    assert set(numbers(GOOD[:place] + other + GOOD[place + len(other) :])) <= KNOWN


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_between_telegrams_costs_no_telegram_before_or_behind_it(noise):
    found = list(numbers(GOOD + noise + b"\n" + GOOD))
    assert set(found) == KNOWN and len(found) == 12


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_tree_is_read_or_refused(body):
    with contextlib.suppress(RowError):
        lists(body, 0)
