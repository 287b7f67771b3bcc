"""The speed engine's state is a function of the log and of its retirements; time is given to it."""

from __future__ import annotations

import copy
import json
import os
import random
from types import SimpleNamespace

import numpy as np
import pytest

from meterpulse.log import Entry, Record
from meterpulse.model.reading import Readings
from meterpulse.model.watermark import Watermark
from meterpulse.model.window import DAY_MS, HOUR_MS, WINDOW_MS
from meterpulse.speed import checkpoint
from meterpulse.speed.embedded import LONG_AGO, Engine

BASE = 20_520 * DAY_MS
CHANNELS = 5


def engine(**changed) -> Engine:
    options = {
        "watermark_delay_ms": 10_000,
        "allowed_lateness_ms": 600_000,
        "idle_ms": 5_000,
        "max_open_bytes": 1 << 30,
    } | changed
    group_of = np.array([1, 2, 0, 1, 2], np.uint32)
    return Engine(lambda: SimpleNamespace(count=CHANNELS), lambda: group_of, lambda: 7, **options)


class Log:
    """Entries one after the other."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.rows = 0

    def add(self, rows: list[tuple], source: str = "http", live: bool = True, received_ms: int = 0) -> Entry:
        channel, start, quantity, revision = (list(v) for v in zip(*rows, strict=True))
        readings = Readings.of(channel, [BASE + s for s in start], 5, quantity, revision)
        self.entries.append(Entry(len(self.entries), self.rows, Record(source, readings, received_ms, live)))
        self.rows += len(rows)
        return self.entries[-1]


def state(e: Engine) -> dict:
    """All of it that answers depend on."""
    return {
        "windows": {
            start: (
                w.cells.tolist(),
                w.area.tolist(),
                sorted(zip(*(p.full(n).tolist() for n in ("channel", "start", "quantity")), strict=True)),
            )
            for start, w in e.windows.items()
            for p in [Readings.concat(w.loose)]
        },
        "applied": e.applied,
        "retired": e.retired_ms,
        "marks": {d: (m.after_offset, m.window_start_ms, m.window_end_ms, m.rows) for d, m in e.marks.items()},
        "counters": vars(e.counters),
        "watermark": (e.watermark.newest_ms, e.watermark.heard_ms),
    }


def history(seed: int, entries: int = 60) -> Log:
    rng, log, at = random.Random(seed), Log(), 0
    for k in range(entries):
        rows = []
        for _ in range(rng.randrange(1, 30)):
            start = at + rng.randrange(120) * 5000 - rng.choice((0, 0, 0, 0, 3 * HOUR_MS)) + rng.choice((0, 0, 0, 2500))
            rows.append((rng.randrange(CHANNELS), start, rng.randrange(10**8), rng.choice((0, 0, 0, 1))))
        log.add(rows, rng.choice(("a", "a", "b")), live=rng.random() > 0.05, received_ms=k * 1000)
        at += rng.choice((0, 60_000, 300_000))
    return log


# -- watermark -------------------------------------------------------------------------------------------------------------


def test_the_watermark_is_the_slowest_source_that_is_not_idle():
    w = Watermark(10)
    assert w.value(0, 5) is None and w.newest() is None
    w.advance("fast", 1000, now_ms=0)
    w.advance("slow", 400, now_ms=0)
    assert w.value(4, 5) == 390
    w.advance("fast", 2000, now_ms=8)
    assert w.value(8, 5) == 1990, "the slow one is idle"
    w.advance("slow", 500, now_ms=9)
    assert w.value(9, 5) == 490 and w.newest() == 2000
    assert w.value(20, 5) is None and w.newest() == 2000


def test_a_sources_watermark_does_not_go_back():
    w = Watermark(0)
    w.advance("a", 1000, 0)
    w.advance("a", 10, 1)
    assert w.value(1, 5) == 1000


# -- firing and retiring ---------------------------------------------------------------------------------------------------


def test_a_window_is_retired_when_watermark_and_lateness_have_passed_its_end_and_not_before():
    e, log = engine(), Log()
    e.apply(log.add([(0, 0, 7, 0)]))
    e.apply(log.add([(0, WINDOW_MS + 609_999, 7, 0)], received_ms=1))
    e.advance(2, 0)
    assert sorted(e.windows) == [BASE, BASE + WINDOW_MS * 3] and e.retired_ms == LONG_AGO
    e.apply(log.add([(0, WINDOW_MS + 610_000, 7, 0)], received_ms=3))
    e.advance(4, 0)
    assert sorted(e.windows) == [BASE + WINDOW_MS * 3] and e.retired_ms == BASE + WINDOW_MS
    assert [(r.offset, r.boundary_ms, [w.start_ms for w in r.windows]) for r in e.retiring] == [
        (3, BASE + WINDOW_MS, [BASE])
    ]
    assert [w.start_ms for w in e.open_windows()] == [BASE, BASE + WINDOW_MS * 3], (
        "served from memory until the store has it"
    )
    e.retired(e.retiring[0])
    assert [w.start_ms for w in e.open_windows()] == [BASE + WINDOW_MS * 3]


def test_what_comes_for_a_retired_window_is_late_counted_and_makes_its_day_dirty():
    e, log = engine(), Log()
    e.apply(log.add([(0, 0, 7, 0)]))
    e.retire(BASE + WINDOW_MS)
    e.apply(log.add([(1, 0, 5, 0), (1, WINDOW_MS, 6, 0), (2, -DAY_MS, 1, 0)]))
    assert e.counters.late == 2 and sorted(e.windows) == [BASE + WINDOW_MS]
    assert {d: (m.after_offset, m.rows) for d, m in e.marks.items()} == {20_520: (2, 1), 20_519: (2, 1)}
    assert not e.clean(20_520, 1, BASE + DAY_MS), "the rebuild did not read it yet"
    assert not e.clean(20_520, 2, BASE), "the rebuild did not come so far"
    assert e.clean(20_520, 2, BASE + WINDOW_MS) and list(e.marks) == [20_519]
    assert e.clean(20_518, 0, 0), "a day that is not dirty is clean"


def test_a_revision_of_a_value_that_stands_makes_its_day_dirty_and_waits_for_its_window():
    e, log = engine(), Log()
    e.apply(log.add([(0, 0, 7, 0), (0, 5000, 8, 3)]))
    e.apply(log.add([(0, 0, 9, 1), (0, 5000, 1, 0)]))
    assert e.counters.revisions == 1 and e.counters.duplicates == 1
    assert (e.marks[20_520].after_offset, e.marks[20_520].window_end_ms) == (2, BASE + WINDOW_MS)
    e.advance(0, unheard_ms=4_999)
    assert e.windows
    e.advance(0, unheard_ms=5_000)
    assert not e.windows and e.retired_ms == BASE + WINDOW_MS, "when nothing comes any more, nothing is waited for"


def test_an_import_moves_no_watermark_and_makes_its_days_dirty():
    e, log = engine(), Log()
    e.apply(log.add([(0, 0, 7, 0), (0, 2 * DAY_MS, 7, 0)], "import:x", live=False))
    assert e.watermark.newest() is None and sorted(e.marks) == [20_520, 20_522] and not e.windows
    assert (e.counters.imported, e.counters.rows) == (2, 2)


def test_silence_longer_than_the_lateness_retires_what_is_open():
    e, log = engine(), Log()
    e.apply(log.add([(0, 0, 7, 0)]))
    e.advance(0, unheard_ms=599_999)
    assert e.windows
    e.advance(0, unheard_ms=600_000)
    assert not e.windows


def test_entries_are_applied_in_order_or_not_at_all():
    e, log = engine(), Log()
    first, second = log.add([(0, 0, 7, 0)]), log.add([(0, 0, 7, 0)])
    with pytest.raises(AssertionError, match="entry 1 applied at 0"):
        e.apply(second)
    e.apply(first)
    e.apply(second)
    assert e.counters.duplicates == 1


def test_memory_is_made_before_an_entry_is_applied_so_that_replaying_it_after_the_retirement_gives_the_same_state():
    one_window = 8192 * 6 * 4
    log = Log()
    log.add([(0, 0, 1, 0)])
    log.add([(0, 5000, 2, 0), (0, WINDOW_MS, 3, 0), (0, 2 * WINDOW_MS, 4, 0)])  # room for two windows only
    e = engine(max_open_bytes=2 * one_window)
    noted = []
    e.on_retire = noted.append
    for entry in log.entries:
        e.apply(entry)
    again = engine(max_open_bytes=2 * one_window)
    again.apply(log.entries[0])
    for retirement in noted:
        assert retirement.offset == 1
        again.retire(retirement.boundary_ms)
    again.apply(log.entries[1])
    assert state(again) == state(e) and e.counters.late == 1 and e.marks[20_520].rows == 1


# -- reading beside the writer ---------------------------------------------------------------------------------------------


def test_reading_a_window_changes_nothing_of_it():
    e, log = engine(), Log()
    for k in range(4):
        e.apply(log.add([(0, 1500 + k * 5000, k, 0), (1, 1500, k, 0)]))
    window = e.windows[BASE]
    before = [id(part) for part in window.loose]
    rows = window.rows(0, CHANNELS)[:, 0].tolist()
    assert rows[:2] == [[4, 6, 0, 3, 3], [1, 0, 0, 0, 0]]
    assert window.minutes(e.groups())[1, 0].tolist() == [4, 6, 0, 3]
    assert [id(part) for part in window.loose] == before, "the engine appends to it from another thread"
    e.apply(log.add([(0, 2500, 100, 0)]))
    assert window.rows(0, 1)[0, 0].tolist() == [5, 106, 0, 100, 3]


def test_rows_of_any_range_of_channels_are_those_of_all():
    e, log = engine(), Log()
    for entry in history(5, 20).entries:
        e.apply(Entry(entry.offset, entry.rows_before, entry.record))
    for window in e.open_windows():
        whole = window.rows(0, CHANNELS)
        for low in range(CHANNELS):
            for high in range(low + 1, CHANNELS + 3):
                part = window.rows(low, high)
                assert (
                    np.array_equal(part[: CHANNELS - low], whole[low : min(high, CHANNELS)])
                    and not part[CHANNELS - low :].any()
                )
    assert log.rows == 0


# -- checkpoints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_checkpoint_and_the_rest_of_the_log_is_the_whole_log(seed, tmp_path):
    log, rng = history(seed), random.Random(seed)
    whole = engine()
    retired = []
    whole.on_retire = lambda r: retired.append((r.offset, r.boundary_ms))
    cuts = sorted(rng.sample(range(1, len(log.entries)), 4))
    saved = []
    for entry in log.entries:
        whole.apply(entry)
        if rng.random() < 0.3:
            whole.advance(entry.record.received_ms, 0)
            for retirement in list(whole.retiring):
                whole.retired(retirement)
        if whole.applied in cuts:
            directory = tmp_path / str(whole.applied)
            checkpoint.settle(checkpoint.write(whole, directory), keep=2)
            saved.append((whole.applied, directory, copy.deepcopy(state(whole)), len(retired)))
    assert retired and whole.counters.late and len(saved) == 4
    for applied, directory, then, done in saved:
        again = engine()
        assert checkpoint.load_newest(again, directory) == [] and state(again) == then
        rest = list(retired[done:])
        for entry in log.entries[applied:]:
            while rest and rest[0][0] <= again.applied:
                again.retire(rest.pop(0)[1])
            again.apply(entry)
        for _, boundary in rest:
            again.retire(boundary)
        assert state(again) == state(whole)


def test_only_the_newest_checkpoints_are_kept_and_the_oldest_of_them_says_from_where_the_log_is_needed(tmp_path):
    for keep, wanted in ((1, [1, 2, 3, 4, 5]), (2, [1, 1, 2, 3, 4])):
        e, safe, place = engine(), [], tmp_path / str(keep)
        for entry in history(1, 5).entries:
            e.apply(entry)
            safe.append(checkpoint.settle(checkpoint.write(e, place), keep))
        assert safe == wanted
        assert [p.name for p in sorted(place.iterdir())] == [f"at-{n:020d}" for n in range(6 - keep, 6)]


@pytest.mark.parametrize("hurt", ["cut", "flip", "remove", "state of another version", "state with a field missing"])
def test_a_checkpoint_that_is_not_whole_leaves_the_engine_as_it_was_and_an_older_one_is_taken(tmp_path, hurt):
    e, rng = engine(), random.Random(hurt)
    entries = history(2, 30).entries
    for entry in entries[:29]:
        e.apply(entry)
    checkpoint.settle(checkpoint.write(e, tmp_path), keep=2)
    older = copy.deepcopy(state(e))
    e.apply(entries[29])
    newest = checkpoint.write(e, tmp_path)
    checkpoint.settle(newest, keep=2)
    newest = tmp_path / newest.name.replace("new-", "at-")
    files = sorted(f for f in newest.iterdir() if f.stat().st_size)
    for file in files if hurt in ("cut", "flip", "remove") else [newest / "state.json"]:
        kept = file.read_bytes()
        if hurt == "cut":
            os.truncate(file, rng.randrange(len(kept)))
        elif hurt == "flip":
            bad = bytearray(kept)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            file.write_bytes(bad)
        elif hurt == "remove":
            file.unlink()
        else:
            import xxhash

            told = json.loads(kept.rpartition(b"\n")[0])
            if hurt == "state of another version":
                told["counters"]["what came later"] = 1
            else:
                del told["marks"]
            body = json.dumps(told).encode()
            file.write_bytes(body + b"\n" + xxhash.xxh3_64_hexdigest(body).encode())
        fresh = engine()
        with pytest.raises((checkpoint.CheckpointError, OSError, ValueError, KeyError, TypeError)):
            checkpoint._load(fresh, newest)
        assert state(fresh) == state(engine()), "nothing of it is used"
        file.write_bytes(kept)
    (newest / "state.json").write_bytes(b"{}")
    fresh = engine()
    [trouble] = checkpoint.load_newest(fresh, tmp_path)
    assert newest.name in trouble and state(fresh) == older
