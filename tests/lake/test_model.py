"""The lake against a list of rows: whatever is written, resent, compacted, dropped, damaged and reopened."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from meterpulse.lake.delta import DeltaLake
from meterpulse.model.reading import COLUMNS, Readings
from meterpulse.model.window import DAY_MS

DAY = 20_520
Row = tuple[int, int, int, int, int]


class LakeMachine(RuleBasedStateMachine):
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.lake = self._open()
        self.end, self.now_ms, self.value = 0, 10**12, 0
        self.rows: dict[int, list[Row]] = {}

    def _open(self) -> DeltaLake:
        return DeltaLake.open(self.directory, file_rows=40, rows_in_memory=16)

    def _batches(self, seed: int, sizes: list[int]) -> list[Readings]:
        rng, batches = np.random.default_rng(seed), []
        for n in sizes:
            start = DAY * DAY_MS + rng.integers(-3, 3, n) * 1000 if seed % 3 else (DAY + seed % 5) * DAY_MS
            batches.append(Readings.of(rng.integers(0, 6, n), start, 5, self.value + np.arange(n), rng.integers(0, 2)))
            self.value += n
        return batches

    @rule(target=sent, seed=st.integers(0, 99), sizes=st.lists(st.integers(0, 30), max_size=3), n=st.integers(1, 5))
    def write(self, seed, sizes, n):
        batches, first = self._batches(seed, sizes), self.end
        self.end += n
        self.lake.write(batches, first, self.end)
        for batch in batches:
            for row in zip(*(batch.full(name).tolist() for name, _ in COLUMNS), strict=True):
                self.rows.setdefault(row[1] // DAY_MS, []).append(row)
        return first, self.end, batches

    @rule(call=sent)
    def write_again(self, call):
        first, after, batches = call
        self.lake.write(batches, first, after)

    @rule(day=st.integers(DAY - 1, DAY + 4), back=st.integers(0, 4))
    def compact(self, day, back):
        below = self.end - back
        covered = sum(f.rows for f in self.lake.files(day) if f.after <= below)
        if self.lake.compact(day, below, self.now_ms):
            kept = self.rows[day]
            self.rows[day] = sorted(kept[:covered], key=lambda r: (r[0], r[1])) + kept[covered:]

    @rule(day=st.integers(DAY - 1, DAY + 4))
    def drop(self, day):
        assert self.lake.drop(day) == len(self.rows.pop(day, []))

    @rule(seconds=st.integers(0, 100))
    def vacuum(self, seconds):
        self.now_ms += 50_000
        self.lake.vacuum(seconds, self.now_ms)

    @rule()
    def checkpoint(self):
        self.lake._commits.checkpoint()

    @rule()
    def reopen(self):
        self.lake.close()
        self.lake = self._open()
        assert self.lake.recovered == []

    @rule(keep=st.floats(0, 0.99))
    def tear_the_last_commit(self, keep):
        path = self.lake._root / "_delta_log" / f"{self.lake._commits.state.version:020d}.json"
        self.lake.close()
        if path.exists():
            data = path.read_bytes()
            path.write_bytes(data[: int(len(data) * keep)])
        self.lake = self._open()
        if self.lake.position < self.end:  # nothing but the position was in it
            self.lake.write([], self.lake.position, self.end)

    @invariant()
    def it_holds_exactly_what_was_written(self):
        assert self.lake.position == self.end
        assert self.lake.days() == sorted(d for d, rows in self.rows.items() if rows)
        for day in self.lake.days():
            got = []
            for batch in self.lake.read(self.lake.files(day)):
                got.extend(zip(*(batch.full(name).tolist() for name, _ in COLUMNS), strict=True))
            assert got == self.rows[day]

    def teardown(self) -> None:
        assert self.lake.verify() == []
        self.lake.close()
        shutil.rmtree(self.directory)


LakeMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
test_the_lake_holds_what_a_list_of_rows_would = LakeMachine.TestCase
