"""The compiled scanners and the strict Python reading agree on every row: same values, or the same refusal."""

from __future__ import annotations

import csv
import io
import json
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterpulse.ingest import CSV, JSON, NDJSON
from meterpulse.ingest.few import SMALL_BYTES

MIDNIGHT_MS = 1_772_841_600_000
RELAXED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CHANNELS = st.sampled_from(["E-1", "G-1", "W-1", "V-1", "R-1", "Wg-1", "É-1", "P-1", "nobody", "", "E-1 ", None, 7])
STARTS = st.one_of(
    st.integers(0, 2**41).map(
        lambda ms: f"{ms % 2000:04d}-{ms % 13:02d}-{ms % 32:02d}T{ms % 25:02d}:{ms % 61:02d}:00Z"
    ),
    st.datetimes().map(lambda t: t.isoformat() + "Z"),
    st.datetimes().map(lambda t: t.isoformat(timespec="milliseconds") + "+01:00"),
    st.sampled_from(["2026-03-07T00:00:00Z", "2026-03-07T00:00:00.120000-08:00", "2026-03-07T00:00:00", "x", 5, None]),
)
QUANTITIES = st.one_of(
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
    st.decimals(-(10**6), 10**13, places=3).map(str),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=5),
    st.sampled_from([True, None, [], {}, "-0", "1.", ".5", "00.1", "1e5"]),
)
WHOLE = st.one_of(
    st.integers(-10, 10**5), st.integers(-(2**65), 2**65), st.floats(), st.sampled_from(["300", None, True])
)
UNITS = st.sampled_from(["kWh", "Wh", "kwh", "MWh", "m3", "L", "gal", "ft3", "ccf", "V", "W", "furlong", "", None, 3])
OTHERS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=80)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
RECORDS = st.fixed_dictionaries(
    {"channel": CHANNELS, "start": STARTS, "quantity": QUANTITIES},
    optional={"seconds": WHOLE, "unit": UNITS, "revision": WHOLE, "note": OTHERS, "étage": OTHERS},
)


def rows_alone(bench, lines: list[bytes], media_type: str = NDJSON):
    """Every line by itself, which takes the Python path."""
    good, bad = [], []
    for line in lines:
        assert len(line) < SMALL_BYTES
        decoded = bench.decode(line, media_type)
        good += bench.rows(decoded)
        bad += decoded.rejected
    return good, bad


@RELAXED
@given(st.lists(RECORDS, min_size=1, max_size=20), st.randoms(use_true_random=False), st.booleans())
def test_records(bench, records, rng: random.Random, ascii_only):
    lines = []
    for record in records:
        items = list(record.items())
        rng.shuffle(items)
        separators = rng.choice([(",", ":"), (", ", ": "), (" ,\t", " : ")])
        lines.append(json.dumps(dict(items), separators=separators, ensure_ascii=ascii_only).encode(errors="replace"))
    filler = b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 0}'
    lines += [filler] * (SMALL_BYTES // len(filler) + 1)
    good, bad = rows_alone(bench, lines)
    together = bench.decode(b"\n".join(lines))
    assert bench.rows(together) == good
    assert together.rejected == bad
    array = bench.decode(b"[" + b",\n".join(lines) + b"]", JSON)
    assert bench.rows(array) == good
    assert [(r.reason, r.detail, r.original) for r in array.rejected] == [(r.reason, r.detail, r.original) for r in bad]


@RELAXED
@given(st.data())
def test_records_with_a_changed_byte(bench, data):
    record = {
        "channel": "E-1",
        "start": "2026-03-07T00:00:00.000Z",
        "seconds": 300,
        "quantity": "1.5",
        "note": [1, "a"],
    }
    record = data.draw(st.sampled_from([record, {k: v for k, v in record.items() if k != "note"}]))
    lines = [json.dumps(record).encode()] * 20
    for _ in range(data.draw(st.integers(1, 12))):
        row = data.draw(st.integers(0, 19))
        line = bytearray(lines[row])
        at = data.draw(st.integers(0, len(line) - 1))
        new = data.draw(st.sampled_from(b'"\\{}[]:,.-+eE0159 \tZTx\x00\x1f\x7f\x80\xc3\xff') | st.integers(0, 255))
        how = data.draw(st.integers(0, 2))
        line[at : at + (how != 1)] = [new] if how < 2 else []
        lines[row] = bytes(line)
    lines = [part for line in lines for part in line.split(b"\n") if part.strip(b" \t\r")]
    lines = [line.removesuffix(b"\r") for line in lines]
    good, bad = rows_alone(bench, lines)
    together = bench.decode(b"\n".join(lines))
    assert bench.rows(together) == good
    assert together.rejected == bad


@RELAXED
@given(st.lists(RECORDS, min_size=1, max_size=20), st.booleans())
def test_csv_rows(bench, records, quoted):
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    header = ["channel", "start", "seconds", "quantity", "unit", "revision", "note"]
    writer.writerow(header)
    for record in records:
        writer.writerow([json.dumps(v) if isinstance(v, list | dict) else v for v in map(record.get, header)])
    body = text.getvalue().encode(errors="replace")
    decoded = bench.decode(body, CSV)
    rows = list(csv.reader(io.StringIO(body.decode(), newline="")))[1:]
    outcomes = []
    for row in rows:
        line = io.StringIO()
        csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(row)  # quotes take the Python path
        alone = bench.decode(",".join(header).encode() + b"\n" + line.getvalue().encode(), CSV)
        outcomes.append((bench.rows(alone), [r.reason for r in alone.rejected]))
    assert bench.rows(decoded) == [row for rows, _ in outcomes for row in rows]
    assert [r.reason for r in decoded.rejected] == [reason for _, reasons in outcomes for reason in reasons]


@RELAXED
@given(st.binary(max_size=300), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
def test_lines_of_any_bytes(bench, line, end):
    good = b'{"channel": "E-1", "start": "2026-03-07T00:00:00Z", "quantity": 1}'
    together = bench.decode(end.join([good] * 20 + [line] + [good] * 20))
    assert bench.rows(together)[:20] == bench.rows(together)[-20:] == [(0, MIDNIGHT_MS, 300, 1_000_000, 0)] * 20
    assert b"".join(r.original for r in together.rejected).replace(b"\r", b"") in (
        line.replace(b"\n", b"").replace(b"\r", b""),
        b"".join(part for part in line.split(b"\n") if part.strip(b" \t\r")).replace(b"\r", b""),
    )
