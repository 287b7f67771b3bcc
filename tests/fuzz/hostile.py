"""Files as nobody should send them: samples changed by a row of bytes, so that Hypothesis and atheris steer the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meterpulse.ingest import BodyError, decode
from meterpulse.model.channel import ChannelTable
from meterpulse.model.quantity import QUANTITY_MAX
from tests.conformance.sampled import NOW_MS, SAMPLES, Sample

TOKENS = [
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", b"\r", b"\n", b"\r\n\r\n", b'"', b"'", b",", b";", b"\t", b" ", b"/", b"!",
    b"-", b"NaN", b"Infinity", b"1e400", b"1e-400", b"-0", b"0x10", b"9" * 40, b"0." + b"0" * 60 + b"1", b"1,5", b"1.5.5", b"null",
    b"900\r\n", b"300,20230402,", b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>", b"&a;", b"</feed>", b"]]>", b"{", b"}", b"[" * 50,
    b"9999-99-99 99:99:99", b"1969-12-31 23:59:59", b"2013-03-31 01:30:00", "é٣５".encode(), b"=cmd|'/C calc'!A0",
]  # fmt: skip
LINES = [
    b"\0" * 20, b'"unclosed', b"\xff\xfe\0x", b"," * 60, b";" * 60, b"a" * 5_000, b"{", b"<x>", b"=1+1", b"NaN,NaN,NaN,NaN",
    b"1e999,1e999,1e999,1e999", b"'; drop table readings; --", b"\xc3\x28,\xc3\x28", b"-", b"null", b'""""', b"\x1a", b"...",
]  # fmt: skip


def mutated(content: bytes, choices: bytes) -> bytes:
    """The content changed in one place for every four of the bytes."""
    for at in range(0, len(choices) - 3, 4):
        what, high, low, more = choices[at : at + 4]
        place = (high << 8 | low) % (len(content) + 1)
        span = content[place : place + more + 1]
        if what % 8 == 0 and place < len(content):
            content = content[:place] + bytes([content[place] ^ (1 << more % 8)]) + content[place + 1 :]
        elif what % 8 == 1:
            content = content[:place] + content[place + more + 1 :]
        elif what % 8 in (2, 3):
            content = content[:place] + TOKENS[more % len(TOKENS)] + content[place + what % 2 :]
        elif what % 8 == 4:
            content = content[:place] + span * 3 + content[place + more :]
        elif what % 8 == 5:
            content = content[:place]
        elif what % 8 == 6:
            other = SAMPLES[more % len(SAMPLES)].path.read_bytes()
            content = content[:place] + other[place % len(other) :][:300] + content[place:]
        else:
            lines = content.split(b"\n")
            lines.insert(place % len(lines), lines[more % len(lines)])
            content = b"\n".join(lines)
    return content


def check(sample: Sample, content: bytes, path: Path, table: ChannelTable) -> None:
    """What comes of it is readings within bounds and refused rows, or an error that says something; nothing else."""
    path.write_bytes(content)
    position = -1
    try:
        for batch in sample.reader.read(path):
            assert batch.position > position
            position = batch.position
            assert all(row.reason and row.detail for row in batch.rejected)
            if batch.rows:
                readings = decode(batch.body, batch.media_type, table, NOW_MS).readings
                assert (np.abs(readings.quantity) <= QUANTITY_MAX).all()
                assert (readings.start >= 0).all() and (readings.start <= NOW_MS + 300_000).all()
    except BodyError as error:
        assert error.status in (400, 413, 415, 422) and error.detail
