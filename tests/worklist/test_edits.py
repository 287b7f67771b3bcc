"""The ledger of edits: what people put in the place of a value, for as long as nobody takes it back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterpulse.model.problem import Problem
from meterpulse.model.quality import Quality
from meterpulse.model.window import DAY_MS
from meterpulse.worklist import Desk, Edit, EditError, Mode

DAY, STEP = 20_520, 900_000
BASE = DAY * DAY_MS


@pytest.fixture
def desk(tmp_path):
    with Desk.open(tmp_path / "worklist") as desk:
        yield desk


def edit(channel: int, first: int, values: list[int], step_ms: int = STEP) -> Edit:
    quality = np.full(len(values), int(Quality.EDITED), np.int32)
    return Edit(channel, BASE + first * step_ms, step_ms, np.array(values, np.int64), quality)


def commit(desk: Desk, *edits: Edit, action: str = "set", at_ms: int = 1000) -> int:
    return desk.edits.commit(edits, action=action, author="ana", reason="meter was wet", at_ms=at_ms)


def undo(desk: Desk, change: int, at_ms: int) -> list[tuple[int, int, int]]:
    return desk.edits.undo(change, author="ben", reason="wrong meter", at_ms=at_ms)


def in_force(desk: Desk, as_of_ms: int | None = None, channels: tuple[int, int] = (0, 100)) -> dict:
    rows = desk.edits.edits_for(channels, BASE, BASE + DAY_MS, as_of_ms)
    keys = zip(rows.channel.tolist(), ((rows.start_ms - BASE) // STEP).tolist(), strict=True)
    return dict(zip(keys, rows.quantity.tolist(), strict=True))


def test_an_edit_is_in_force_from_its_commit_until_its_undo(desk):
    change = commit(desk, edit(3, 8, [10, 20]), at_ms=1000)
    assert undo(desk, change, at_ms=2000) == [(3, BASE + 8 * STEP, BASE + 10 * STEP)]
    both = {(3, 8): 10, (3, 9): 20}
    assert [in_force(desk, at) for at in (999, 1000, 1999, 2000, None)] == [{}, both, both, {}, {}]


def test_of_two_edits_of_an_interval_the_later_stands_until_it_is_undone(desk):
    commit(desk, edit(1, 0, [1, 1, 1]), at_ms=10)
    second = commit(desk, edit(1, 1, [2]), at_ms=20)
    assert in_force(desk) == {(1, 0): 1, (1, 1): 2, (1, 2): 1}
    undo(desk, second, at_ms=30)
    assert in_force(desk) == {(1, 0): 1, (1, 1): 1, (1, 2): 1}


def test_a_decision_is_undone_once_and_an_undo_never(desk):
    change = commit(desk, edit(1, 0, [1]))
    undo(desk, change, at_ms=2000)
    newest = desk.edits.changes()[0]
    assert (newest.action, newest.undoes, newest.author) == ("undo", change, "ben")
    for number, status in ((change, 409), (newest.number, 409), (99, 404)):
        with pytest.raises(Problem) as error:
            undo(desk, number, at_ms=3000)
        assert error.value.status == status


def test_what_was_committed_is_there_after_reopening(tmp_path):
    with Desk.open(tmp_path) as desk:
        commit(desk, edit(5, 0, [7, -8]))
    with Desk.open(tmp_path) as desk:
        assert in_force(desk) == {(5, 0): 7, (5, 1): -8}
        change = desk.edits.changes()[0]
        assert (change.author, change.reason, change.values, change.channels) == ("ana", "meter was wet", 2, [5])


def test_an_edit_over_midnight_is_asked_for_day_by_day(desk):
    commit(desk, edit(2, 95, [1, 2]))
    assert in_force(desk) == {(2, 95): 1}
    tomorrow = desk.edits.edits_for((0, 9), BASE + DAY_MS, BASE + 2 * DAY_MS)
    assert (tomorrow.quantity.tolist(), tomorrow.start_ms.tolist()) == ([2], [BASE + DAY_MS])


def test_the_days_of_a_change_are_dirty_until_they_are_built_with_it(desk):
    change = commit(desk, edit(2, 95, [1, 2]))
    assert desk.edits.pending() == {DAY: BASE + DAY_MS, DAY + 1: BASE + DAY_MS + STEP}
    end = BASE + 2 * DAY_MS
    assert desk.edits.built(DAY + 1, desk.edits.newest(), BASE + DAY_MS), "its windows were still open"
    assert not desk.edits.built(DAY + 1, desk.edits.newest(), end)
    began = desk.edits.newest()
    undo(desk, change, at_ms=2000)  # while the day is being built
    assert desk.edits.built(DAY, began, end), "it has to be built again"
    assert not desk.edits.built(DAY, desk.edits.newest(), end)
    assert list(desk.edits.pending()) == [DAY + 1]


def test_buckets_of_a_day_are_slices_of_it(desk):
    commit(desk, *(edit(channel, 0, [channel]) for channel in (9, 4, 500, 4096)))
    day = desk.edits.edits_for((0, 1 << 32), BASE, BASE + DAY_MS)
    assert day.of_channels(4, 500).channel.tolist() == [4, 9]
    assert day.of_channels(500, 4096).edit.tolist() == [3]
    assert len(day.of_channels(5000, 9000)) == 0


@pytest.mark.parametrize(
    "wrong", [{"author": " "}, {"reason": ""}, {"action": "guess"}, {"reason": "x" * 5000}, {"author": "x" * 300}]
)
def test_a_decision_without_author_or_reason_is_refused(desk, wrong):
    words = {"action": "set", "author": "ana", "reason": "because", "at_ms": 1} | wrong
    with pytest.raises(Problem) as error:
        desk.edits.commit([edit(1, 0, [1])], **words)
    assert error.value.status == 422
    assert desk.edits.changes() == []


@pytest.mark.parametrize(
    ("values", "step", "offset"), [([], STEP, 0), ([1], 7_000, 0), ([1], STEP, 1), ([10**15], STEP, 0), ([1] * 40_000, STEP, 0)]
)  # fmt: skip
def test_values_off_the_grid_of_the_record_are_refused(values, step, offset):
    with pytest.raises(EditError):
        Edit(1, BASE + offset, step, np.array(values, np.int64), np.zeros(len(values), np.int32))


def test_what_is_accepted_yields_to_what_is_measured_later_and_what_is_set_does_not(desk):
    for first, action in enumerate(("accept raw", "accept raw", "accept estimate", "accept estimate", "set", "set")):
        commit(desk, edit(0, first, [100]), action=action)
    rows = desk.edits.edits_for((0, 1), BASE, BASE + DAY_MS)
    assert rows.mode.tolist() == [Mode.IF_SAME] * 2 + [Mode.IF_MISSING] * 2 + [Mode.ALWAYS] * 2
    quantity, quality = np.array([[100, 101, 5, 5, 5, 5]]), np.full((1, 6), 14, np.int32)
    measured = np.array([[True, True, True, False, True, False]])
    stood = rows.apply(quantity, quality, measured, (np.zeros(6, np.int64), np.arange(6)))
    assert stood.tolist() == [True, False, False, True, True, True]
    assert quantity.tolist() == [[100, 101, 5, 100, 100, 100]]
    assert quality.tolist() == [[7, 14, 14, 7, 7, 7]]


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 3), st.integers(0, 5), st.lists(st.integers(0, 99), min_size=1, max_size=4)),
        st.tuples(st.just("undo"), st.integers(1, 8)),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(_STEPS)
def test_the_ledger_is_what_a_plain_replay_of_its_events_gives(tmp_path_factory, steps):
    history: list[tuple[int, Edit | None, int | None]] = []  # change → edit, or the change that it undoes
    with Desk.open(tmp_path_factory.mktemp("desk")) as desk:
        for at, step in enumerate(steps):
            if step[0] == "set":
                one = edit(step[1], step[2], step[3])
                assert commit(desk, one, at_ms=at) == len(history) + 1
                history.append((at, one, None))
            else:
                may = step[1] <= len(history) and history[step[1] - 1][1] is not None
                if may and all(undone != step[1] for _, _, undone in history):
                    undo(desk, step[1], at_ms=at)
                    history.append((at, None, step[1]))
                else:
                    with pytest.raises(Problem):
                        undo(desk, step[1], at_ms=at)
        for as_of in (*range(len(steps)), None):
            until = [event for event in history if as_of is None or event[0] <= as_of]
            undone = {number for _, _, number in until}
            want = {}
            for number, (_, one, _) in enumerate(until, 1):
                if one is not None and number not in undone:
                    first = (one.start_ms - BASE) // STEP
                    want |= {(one.channel, first + i): value for i, value in enumerate(one.quantity.tolist())}
            assert in_force(desk, as_of) == want
