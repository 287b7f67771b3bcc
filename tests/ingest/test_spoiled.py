"""Lines that must not count, strewn among lines that must: the good ones count, the bad ones are kept byte for byte."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from meterpulse.ingest import CSV, NDJSON

MIDNIGHT_MS = 1_772_841_600_000
OK = {"channel": "E-1", "start": "2026-03-07T00:00:00.000Z", "seconds": 300, "quantity": "1.5"}
TEXT = json.dumps(OK).encode()


def changed(**fields) -> bytes:
    return json.dumps({**OK, **fields}).encode()


SPOILED = [
    *[changed(channel=c) for c in ("nobody", None, 7)],
    *[changed(quantity=q) for q in ("NaN", "-Infinity", "12,5", "", None, [1], True, "1e400", "9" * 30, "-3")],
    *[
        changed(start=s)
        for s in ("yesterday", "2026-03-07T00:00:00", "2026-13-07T00:00:00Z", "2026-03-08T00:00:00Z", 12)
    ],
    *[changed(seconds=s) for s in (-300, "x", 0)],
    changed(unit="furlong"),
    changed(revision="b"),
    TEXT[:-9],
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe" + TEXT,
    TEXT.replace(b"1.5", b"1\x005"),
    b'{"channel": NaN}',
    TEXT[:-1] + b', "quantity": "2.5"}',
    TEXT.replace(b'"1.5"', b"Infinity"),
    b"[" * 5000,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
]


@pytest.mark.parametrize("seed", range(5))
def test_the_good_ones_count_and_the_bad_ones_are_kept(bench, seed):
    rng = random.Random(seed)
    for size in (3, 50, 500):
        good = [changed(quantity=f"{rng.randrange(10**6) / 1000}") for _ in range(size)]
        lines = [(line, None) for line in rng.choices(SPOILED, k=size)] + [(line, 1) for line in good]
        rng.shuffle(lines)
        decoded = bench.decode(b"\n".join(line for line, _ in lines), NDJSON)
        wanted = [round(float(json.loads(line)["quantity"]) * 1000) * 1000 for line, is_good in lines if is_good]
        assert decoded.readings.quantity.tolist() == wanted
        assert [r.original for r in decoded.rejected] == [line for line, is_good in lines if not is_good]


def test_one_bad_row_in_a_hundred_thousand_costs_one_row(bench):
    rows = [f"E-1,2026-03-07T00:{i % 60:02d}:00Z,{i / 1000:.3f}" for i in range(100_000)]
    rows[77_777] = "E-1,2026-03-07T00:00:00Z,NaN"
    decoded = bench.decode(("channel,start,quantity\n" + "\n".join(rows)).encode(), CSV)
    assert [r.original.decode() for r in decoded.rejected] == [rows[77_777]]
    wanted = np.delete(np.arange(100_000), 77_777) * 1_000
    assert np.array_equal(decoded.readings.quantity, wanted)
    assert np.array_equal(decoded.readings.start, MIDNIGHT_MS + np.delete(np.arange(100_000), 77_777) % 60 * 60_000)
