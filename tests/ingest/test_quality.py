"""A reading's quality comes in as a word or as NEM12's flag and method, in every form; a wrong one costs its row."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from meterpulse.ingest import ARROW, CSV, JSON, NDJSON
from meterpulse.model.quality import RAW, packed_of

WORDS = ["raw", "S17", "edited", "A", None, "E52"]


def _body(form: str, words: list[str | None]) -> tuple[bytes, str]:
    rows = [
        {"channel": "E-1", "start": f"2026-03-07T00:{i:02d}:00Z", "seconds": 60, "quantity": "1", "quality": word}
        for i, word in enumerate(words)
    ]
    if form == "ndjson":
        return b"\n".join(json.dumps(row).encode() for row in rows), NDJSON
    if form == "json":
        return json.dumps(rows).encode(), JSON
    if form == "csv":
        lines = [",".join(rows[0])] + [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
        return "\n".join(lines).encode(), CSV
    quality = (
        pa.array([None if w is None else packed_of(w) for w in words], pa.int32())
        if form == "packed"
        else pa.array(words)
    )
    table = pa.table(
        {
            "channel": ["E-1"] * len(rows),
            "start": pa.array([i * 60_000 + 1_772_841_600_000 for i in range(len(rows))], pa.timestamp("ms", "UTC")),
            "seconds": pa.array([60] * len(rows), pa.int32()),
            "quantity": pa.array([1_000_000] * len(rows)),
            "quality": quality,
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes(), ARROW


@pytest.mark.parametrize("form", ["ndjson", "json", "csv", "arrow", "packed"])
@pytest.mark.parametrize("times", [1, 40])
def test_every_form_carries_it(bench, form, times):
    body, media_type = _body(form, (WORDS * times)[:55])
    decoded = bench.decode(body, media_type)
    assert not decoded.rejected
    want = [RAW if word is None else packed_of(word) for word in (WORDS * times)[:55]]
    assert decoded.readings.full("quality").tolist() == want
    assert set(decoded.readings.quantity.tolist()) == {1_000_000}


@pytest.mark.parametrize("form", ["ndjson", "json", "csv", "arrow"])
def test_an_unknown_one_costs_its_row_only(bench, form):
    body, media_type = _body(form, ["raw", "guessed", "A"])
    decoded = bench.decode(body, media_type)
    assert [r.reason for r in decoded.rejected] == ["bad_quality"] and len(decoded.readings) == 2
    assert b"guessed" in decoded.rejected[0].original
