"""Files in the canonical containers: detected, read in batches, resumed."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterpulse.ingest import BodyError, canonical, files

MIDNIGHT_MS = 1_772_841_600_000
ROWS = [(i % 3, MIDNIGHT_MS + i * 1_000, 300, i * 1_000, i % 2) for i in range(2_000)]
IDS = ["E-1", "G-1", "W-1"]
SCALE = {"E-1": 10**6, "G-1": 10**6, "W-1": 10**3}


def iso(ms: int) -> str:
    return f"2026-03-07T{ms // 3_600_000 % 24:02d}:{ms // 60_000 % 60:02d}:{ms // 1_000 % 60:02d}Z"


def csv_text() -> str:
    lines = [f"{IDS[c]},{iso(t)},{s},{q / SCALE[IDS[c]]:.6f},{v}" for c, t, s, q, v in ROWS]
    return "channel,start,seconds,quantity,revision\n" + "\n".join(lines)


def records() -> list[str]:
    names = ("channel", "start", "seconds", "quantity", "revision")
    rows = [(IDS[c], iso(t), s, f"{q / SCALE[IDS[c]]:.6f}", v) for c, t, s, q, v in ROWS]
    return [json.dumps(dict(zip(names, row, strict=True))) for row in rows]


def table() -> pa.Table:
    c, t, s, q, v = zip(*ROWS, strict=True)
    columns = {"channel": pa.array([IDS[i] for i in c]), "start": pa.array(t, pa.timestamp("ms", "UTC"))}
    return pa.table(
        columns
        | {"seconds": pa.array(s, pa.int32()), "quantity": pa.array(q), "revision": pa.array(v), "x": pa.array(v)}
    )


def write(kind: str, path) -> None:
    if kind == "parquet":
        pq.write_table(table(), path, row_group_size=700)
    elif kind in ("arrow-file", "arrow-stream"):
        new = pa.ipc.new_file if kind == "arrow-file" else pa.ipc.new_stream
        with new(path, table().schema) as sink:
            sink.write_table(table(), max_chunksize=700)
    else:
        text = {"csv": csv_text(), "ndjson": "\n".join(records()), "json": "[" + ",\n".join(records()) + "]"}[kind]
        path.write_text(text + ("\n" if kind == "ndjson" else ""))


@pytest.fixture(params=["csv", "ndjson", "json", "parquet", "arrow-file", "arrow-stream"])
def path(request, tmp_path, monkeypatch):
    monkeypatch.setattr(canonical, "BATCH_ROWS", 500)
    monkeypatch.setattr(files, "CHUNK_BYTES", 10_000)
    write(request.param, tmp_path / "readings")  # the name says nothing
    return tmp_path / "readings"


def rows_of(bench, batches) -> list[tuple[int, ...]]:
    out = []
    for batch in batches:
        decoded = bench.decode(batch.body, batch.media_type)
        assert not decoded.rejected and not batch.rejected and batch.rows == len(decoded.readings)
        out += bench.rows(decoded)
    return out


def test_a_file_is_detected_and_gives_every_row_once(bench, path):
    assert files.detect(path) == "canonical"
    batches = list(files.read(path))
    assert rows_of(bench, batches) == ROWS
    assert len(batches) > 1 or path.read_bytes()[:1] == b"["


def test_reading_goes_on_behind_any_batch(bench, path):
    batches = list(files.read(path))
    for number, batch in enumerate(batches):
        rest = list(files.read(path, after=batch.position))
        assert rows_of(bench, batches[: number + 1] + rest) == ROWS


def test_a_file_without_the_columns_is_not_detected(tmp_path):
    for text in (b"a,b,c\n1,2,3\n", b"", b"\x00\x01", b"channel,start\n"):
        (tmp_path / "x").write_bytes(text)
        with pytest.raises(BodyError) as error:
            files.detect(tmp_path / "x")
        assert error.value.status == 415 and ("canonical" if text else "is empty") in error.value.detail


def test_an_unknown_format_is_told_the_known_ones(tmp_path):
    with pytest.raises(BodyError) as error:
        list(files.read(tmp_path / "x", "xml"))
    assert error.value.status == 415 and "london" in error.value.detail


@pytest.mark.parametrize(
    "content", [b"PAR1 and then nothing", b"ARROW1 and then nothing", b"\xff\xff\xff\xff\x08\x00\x00\x00junk"]
)
def test_a_broken_container_is_a_body_error(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BodyError):
        list(files.read(tmp_path / "x", "canonical"))


def test_units_of_electricity_imply_channels_and_volumes_do_not(tmp_path):
    lines = [
        "channel,start,quantity,unit,seconds",
        "a,2026-03-07T00:00:00Z,1,kWh,900",
        "b,2026-03-07T00:00:00Z,1,m3,900",
    ]
    lines += ["a,2026-03-07T00:15:00Z,1,kWh,900", "c,2026-03-07T00:00:00Z,1,V,"]
    (tmp_path / "x").write_text("\n".join(lines))
    (batch,) = files.read(tmp_path / "x")
    assert [(c.id, c.utility, c.unit, c.kind, c.interval_seconds) for c in batch.channels] == [
        ("a", "electricity", "kWh", "interval", 900),
        ("c", "electricity", "V", "gauge", 300),
    ]
