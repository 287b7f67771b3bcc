"""What the lake promises when nothing goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from meterpulse.lake import LakeBroken, OffsetConflict
from meterpulse.lake import reader as parquet_reader
from meterpulse.lake.actions import APP
from meterpulse.lake.compaction import by_channel_and_start
from meterpulse.lake.delta import DeltaLake
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS

DAY = 20_520


def test_rows_come_back_in_log_order_and_survive_reopening(lake, sweep, rows, reopen):
    lake.write([sweep(DAY, 0), sweep(DAY, 5)], 0, 2)
    lake.write([sweep(DAY, 10)], 2, 3)
    expected = [(c, DAY * DAY_MS + at * 1000, 5, c * 1000 + at, 0) for at in (0, 5, 10) for c in range(100)]
    assert rows(lake) == expected
    lake = reopen(lake)
    assert lake.position == 3 and rows(lake) == expected and lake.recovered == []


def test_a_range_that_is_written_twice_counts_once(lake, sweep, rows, reopen):
    lake.write([sweep(DAY, 0)], 0, 7)
    lake.write(iter([sweep(DAY, 0)]), 0, 7)
    lake = reopen(lake)
    lake.write([sweep(DAY, 0)], 0, 7)
    lake.write([sweep(DAY, 0)], 3, 7)
    assert len(rows(lake)) == 100 and lake.position == 7


def test_a_range_that_leaves_a_gap_or_overlaps_is_refused(lake, sweep):
    lake.write([sweep(DAY, 0)], 10, 20)
    for first, after in ((25, 30), (15, 30)):
        with pytest.raises(OffsetConflict, match="below 20"):
            lake.write([sweep(DAY, 5)], first, after)
    lake.skip_to(25)
    lake.write([sweep(DAY, 5)], 25, 30)
    assert lake.position == 30


def test_a_range_without_rows_moves_the_position(lake, reopen):
    lake.write([], 0, 5)
    lake.write([Readings.empty()], 5, 6)
    lake = reopen(lake)
    assert lake.position == 6 and lake.days() == []


def test_rows_go_to_the_utc_day_of_their_start_in_log_order(lake, rows):
    start = np.array([DAY * DAY_MS - 1, DAY * DAY_MS, (DAY + 1) * DAY_MS - 1, DAY * DAY_MS - 1, -1, 0])
    lake.write([Readings.of(np.arange(6), start, 1, np.arange(6))], 0, 1)
    assert lake.days() == [-1, 0, DAY - 1, DAY]
    assert [r[0] for r in rows(lake, DAY - 1)] == [0, 3] and [r[0] for r in rows(lake, DAY)] == [1, 2]
    assert rows(lake, -1) == [(4, -1, 1, 4, 0)]


def test_every_value_of_every_column_survives(lake, rows):
    big = 2**63 - 1
    batch = Readings.of(
        [0, 2**31 - 1, 5], DAY * DAY_MS + np.array([0, 1, 999]), [0, 1, 2**31 - 1], [-big - 1, 0, big], [0, big, -5]
    )
    lake.write([batch], 0, 1)
    columns = zip(
        *(batch.full(n).tolist() for n in ("channel", "start", "seconds", "quantity", "revision")), strict=True
    )
    assert rows(lake) == list(columns)


def test_a_channel_beyond_31_bits_is_refused_with_nothing_taken(lake, sweep, rows):
    with pytest.raises(ValueError, match="below 2\\^31"):
        lake.write([sweep(DAY, 0), Readings.of([2**31], DAY * DAY_MS, 5, [1])], 0, 1)
    assert lake.position == 0 and rows(lake) == [] and not list(Path(lake._root).glob("day=*/*"))


def test_a_source_that_fails_half_way_leaves_nothing(lake, sweep, rows):
    def failing():
        yield Readings.of(np.arange(2_000_000), DAY * DAY_MS, 5, np.arange(2_000_000))
        raise ConnectionError

    with pytest.raises(ConnectionError):
        lake.write(failing(), 0, 1)
    assert not list(Path(lake._root).glob("day=*/*")) and lake.position == 0
    lake.write([sweep(DAY, 0)], 0, 1)
    assert len(rows(lake)) == 100


def test_an_import_over_many_days_in_random_order_keeps_every_row(tmp_path, rows):
    lake = DeltaLake.open(tmp_path / "lake")
    rng = np.random.default_rng(4)
    days = rng.integers(0, 300, 20_000)
    batch = Readings.of(
        rng.integers(0, 50, 20_000), days * DAY_MS + rng.integers(0, DAY_MS, 20_000), 5, np.arange(20_000)
    )
    lake.write([batch], 0, 1)
    assert sorted(r[3] for r in rows(lake)) == list(range(20_000))
    for day in (0, 77, 299):
        assert [r[3] for r in rows(lake, day)] == np.flatnonzero(days == day).tolist()
    lake.close()


def test_files_are_bounded_in_rows(tmp_path, rows):
    lake = DeltaLake.open(tmp_path / "lake", file_rows=1000)
    lake.write([Readings.of(np.arange(2500), DAY * DAY_MS, 5, np.arange(2500))], 0, 1)
    assert [f.rows for f in lake.files(DAY)] == [1000, 1000, 500]
    assert [r[0] for r in rows(lake)] == list(range(2500))
    lake.close()


def test_reading_some_channels_gives_their_rows_only_and_skips_row_groups(lake, rows, monkeypatch):
    n = 3 << 20
    lake.write([Readings.of(np.arange(n), DAY * DAY_MS, 5, np.arange(n))], 0, 1)
    assert len(parquet_reader.groups_of(lake.files(DAY)[0])) == 3
    decoded = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, i, **k: decoded.append(i) or original(self, i, **k)
    )
    assert [r[0] for r in rows(lake, DAY, (n - 3, n - 1))] == [n - 3, n - 2] and decoded == [2]
    assert rows(lake, DAY, (n, n + 5)) == []


def test_constant_columns_stay_constant(lake, sweep):
    lake.write([sweep(DAY, 5)], 0, 1)
    (batch,) = lake.read(lake.files(DAY))
    assert (len(batch.start), len(batch.seconds), len(batch.revision)) == (1, 1, 1) and batch == sweep(DAY, 5)


def test_compacting_sorts_by_channel_and_start_and_keeps_the_order_of_equals(tmp_path, rows):
    lake = DeltaLake.open(tmp_path / "lake", rows_in_memory=300, file_rows=1500)
    rng = np.random.default_rng(5)
    written = []
    for i in range(10):
        start = DAY * DAY_MS + rng.integers(0, 5, 400) * 1000
        batch = Readings.of(rng.integers(0, 40, 400), start, 5, np.arange(400) + 400 * i, rng.integers(0, 2, 400))
        lake.write([batch], i, i + 1)
        written += rows(lake)[-400:]
    assert lake.compact(DAY)
    assert rows(lake) == sorted(written, key=lambda r: (r[0], r[1]))  # sorted() is stable
    assert {(f.first, f.after) for f in lake.files(DAY)} == {(0, 10)} and len(lake.files(DAY)) == 3
    assert rows(lake, DAY, (7, 9)) == [r for r in rows(lake) if 7 <= r[0] < 9]
    assert not lake.compact(DAY) and lake.verify() == []
    lake.close()


def test_compacting_below_an_offset_leaves_what_came_later(lake, sweep, rows):
    for i in range(4):
        lake.write([sweep(DAY, 5 * i, 3)], i, i + 1)
    assert lake.compact(DAY, below=3)
    assert [(f.first, f.after) for f in lake.files(DAY)] == [(0, 3), (3, 4)]
    assert [r[0] for r in rows(lake)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, 2]
    assert lake.compact(DAY) and [r[0] for r in rows(lake)] == [0] * 4 + [1] * 4 + [2] * 4


def test_replaced_files_stay_until_the_grace_is_over(lake, sweep, rows, reopen):
    lake.write([sweep(DAY, 0)], 0, 1)
    lake.write([sweep(DAY, 5)], 1, 2)
    old = lake.files(DAY)
    lake.compact(DAY, now_ms=1_000_000)
    lake = reopen(lake)
    assert len(list(lake.read(old))) == 2
    assert lake.vacuum(keep_seconds=60, now_ms=1_059_999) == 0
    assert lake.vacuum(keep_seconds=60, now_ms=1_060_000) == sum(f.bytes for f in old)
    assert not any(Path(f.path).exists() for f in old) and len(rows(reopen(lake))) == 200


def test_writing_goes_on_beside_compacting(lake, sweep, rows, monkeypatch):
    from meterpulse.lake import delta

    def in_order_while_writing(files, scratch, rows_in_memory):
        yield from original(files, scratch, rows_in_memory)
        lake.write([sweep(DAY, 10)], 2, 3)

    original = delta.in_channel_order
    monkeypatch.setattr(delta, "in_channel_order", in_order_while_writing)
    lake.write([sweep(DAY, 0)], 0, 1)
    lake.write([sweep(DAY, 5)], 1, 2)
    assert lake.compact(DAY)
    assert len(rows(lake)) == 300 and lake.position == 3 and lake.verify() == []


def test_a_day_dropped_while_it_is_compacted_stays_dropped(lake, sweep, rows, monkeypatch):
    from meterpulse.lake import delta

    def in_order_while_dropping(files, scratch, rows_in_memory):
        yield from original(files, scratch, rows_in_memory)
        lake.drop(DAY)

    original = delta.in_channel_order
    monkeypatch.setattr(delta, "in_channel_order", in_order_while_dropping)
    lake.write([sweep(DAY, 0)], 0, 1)
    assert not lake.compact(DAY) and rows(lake) == [] and lake.verify() == []


def test_a_dropped_day_is_gone_and_the_position_stays(lake, sweep, rows, reopen):
    lake.write([sweep(DAY, 0), sweep(DAY + 1, 0)], 0, 1)
    assert lake.drop(DAY) == 100 and lake.drop(DAY) == 0 and lake.days() == [DAY + 1]
    assert len(list(lake._root.glob("day=*/*"))) == 1
    lake = reopen(lake)
    assert lake.days() == [DAY + 1] and lake.position == 1 and len(rows(lake)) == 100


def test_other_readers_of_delta_see_the_same_table(lake, sweep, rows):
    for i in range(230):
        lake.write([sweep(DAY + i % 3, i, 10)], i, i + 1)
        if i % 50 == 49:
            lake.compact(DAY)
    table = DeltaTable(str(lake._root))
    assert table.transaction_version(APP) == 230 and table.version() == lake._commits.state.version
    assert {"/".join(Path(u).parts[-2:]) for u in table.file_uris()} == set(lake._commits.state.adds)
    assert sum(pa.table(table.get_add_actions(flatten=True)).column("num_records").to_pylist()) == 2300
    assert lake.verify() == []


def test_the_log_of_the_table_stays_short_and_reopens_the_same(lake, sweep, rows, reopen):
    for i in range(420):
        lake.write([sweep(DAY, i, 2)], i, i + 1)
        if i % 100 == 99:
            lake.compact(DAY)
            lake.vacuum(0, 1 << 60)
    names = [p.name for p in (lake._root / "_delta_log").iterdir()]
    assert sum(n.endswith(".json") for n in names) <= 200 and sum(n.endswith(".checkpoint.parquet") for n in names) == 2
    expected = rows(lake)
    lake = reopen(lake)
    assert rows(lake) == expected and lake.position == 420 and lake.recovered == []


def test_a_second_writer_is_refused_until_the_first_is_gone(lake, tmp_path, reopen):
    with pytest.raises(LakeBroken, match="another process"):
        DeltaLake.open(tmp_path / "lake")
    reopen(lake).close()


def test_sorting_is_stable_for_any_shape_of_input():
    rng = np.random.default_rng(6)
    for n, channels, starts in ((0, 1, 1), (1, 1, 1), (1000, 5, 5), (1000, 2**31 - 1, 3), (1000, 3, 1), (5000, 900, 2)):
        start = rng.integers(0, starts, n) if starts > 1 else 7
        batch = Readings.of(rng.integers(0, channels, n), start, 5, np.arange(n))
        order = np.lexsort((batch.full("start"), batch.channel))
        assert by_channel_and_start(batch) == batch.take(order)


def test_a_lake_of_before_there_was_a_quality_is_read_and_written_on(tmp_path, sweep, rows, monkeypatch):
    from meterpulse.lake import days, delta, parts

    with monkeypatch.context() as before:
        before.setattr(days, "table_of", lambda pieces: parts.table_of(pieces).drop_columns(["quality"]))
        fields = [f for f in json.loads(delta._SCHEMA_TEXT)["fields"] if f["name"] != "quality"]
        before.setattr(delta, "_SCHEMA_TEXT", json.dumps({"type": "struct", "fields": fields}))
        old = DeltaLake.open(tmp_path / "lake")
        old.write([sweep(20_000, 0)], 0, 1)
        old.close()
    lake = DeltaLake.open(tmp_path / "lake")
    lake.write([Readings.of([0, 1], 20_000 * DAY_MS + 5_000, 5, [7, 9], 0, [0, 7])], 1, 2)
    qualities = [batch.full("quality").tolist() for batch in lake.read(lake.files(20_000))]
    assert qualities == [[14] * 100, [0, 7]]
    assert lake.compact(20_000)
    assert sorted(q for batch in lake.read(lake.files(20_000)) for q in batch.full("quality").tolist()) == sorted(
        [14] * 100 + [0, 7]
    )
    assert not lake.verify()
    theirs = DeltaTable(str(tmp_path / "lake" / "readings")).to_pyarrow_table()
    assert theirs.num_rows == 102 and "quality" in theirs.column_names
    lake.close()
