"""The queue of exceptions: fed by rebuilds, worked by people, and honest about both."""

from __future__ import annotations

import numpy as np
import pytest

from meterpulse.model.problem import Problem
from meterpulse.model.quality import Quality
from meterpulse.model.window import DAY_MS
from meterpulse.worklist import Desk, Edit, Filter, Found, Offered

DAY, STEP = 20_520, 900_000
BASE = DAY * DAY_MS


@pytest.fixture
def desk(tmp_path):
    with Desk.open(tmp_path / "worklist") as desk:
        yield desk


def found(*rows: tuple) -> Found:
    """(channel, rule, first, after[, measured[, weight]])"""
    full = [(*row, *(5, 10)[len(row) - 4 :]) for row in rows]
    channel, rule, first, after, measured, weight = zip(*full, strict=True) if full else ((),) * 6
    n = len(full)
    start, end = (BASE + np.array(c, np.int64) * STEP for c in (first, after))
    number = np.array(measured, np.int64)
    return Found(np.array(channel, np.uint32), list(rule), start, end, np.full(n, STEP), number, number - 1,
                 number * 2, np.array(weight, np.int64), ["water"] * n, ["10003"] * n)  # fmt: skip


def edit(channel: int, first: int) -> Edit:
    quality = np.array([int(Quality.EDITED)], np.int32)
    return Edit(channel, BASE + first * STEP, STEP, np.array([7], np.int64), quality)


def waiting(desk: Desk) -> list[int]:
    return [item.number for item in desk.exceptions.page(Filter(state="waiting"), sort="age")[0]]


def decide(desk: Desk, numbers: list[int], *edits: Edit, action: str = "set", at_ms: int = 500) -> int:
    return desk.exceptions.decide(numbers, edits, action=action, author="ana", reason="looked", at_ms=at_ms)


def events(desk: Desk, number: int) -> list[str]:
    return [event.event for event in desk.exceptions.get(number)[1]]


def test_the_same_findings_again_queue_nothing_and_change_nothing(desk):
    both = found((1, "V07", 0, 4), (2, "V10", 8, 9))
    assert desk.exceptions.offer(DAY, both, 100) == Offered(opened=2)
    before = [desk.exceptions.get(n) for n in (1, 2)]
    assert desk.exceptions.offer(DAY, both, 200) == Offered()
    assert [desk.exceptions.get(n) for n in (1, 2)] == before


def test_what_fires_no_longer_closes_itself_and_comes_back_with_its_number(desk):
    desk.exceptions.offer(DAY, found((1, "V07", 0, 4)), 100)
    assert desk.exceptions.offer(DAY, found(), 200) == Offered(closed=1)
    item, _ = desk.exceptions.get(1)
    assert (item.state, item.resolution) == ("resolved", "gone")
    assert desk.exceptions.offer(DAY, found(), 300) == Offered()
    assert desk.exceptions.offer(DAY, found((1, "V07", 0, 4)), 400) == Offered(reopened=1)
    assert events(desk, 1) == ["opened", "closed", "reopened"]


def test_an_exception_that_shrinks_stays_the_one_it_is(desk):
    desk.exceptions.offer(DAY, found((1, "V07", 0, 8)), 100)
    desk.exceptions.assign([1], "ben", author="ana", at_ms=150)
    assert desk.exceptions.offer(DAY, found((1, "V07", 2, 8)), 200) == Offered(changed=1)
    item, _ = desk.exceptions.get(1)
    assert (item.start_ms, item.assignee, item.state) == (BASE + 2 * STEP, "ben", "assigned")
    assert desk.exceptions.offer(DAY, found((1, "V07", 20, 22)), 300) == Offered(opened=1, closed=1)


def test_a_part_of_the_channels_closes_only_its_own(desk):
    desk.exceptions.offer(DAY, found((1, "V07", 0, 8), (600, "V07", 0, 8)), 100)
    assert desk.exceptions.offer(DAY, found(), 200, (0, 512)) == Offered(closed=1)
    assert waiting(desk) == [2]
    assert desk.exceptions.offer(DAY + 1, found(), 200) == Offered()


def test_a_decision_and_its_edit_are_one_and_so_is_their_undo(desk):
    desk.exceptions.offer(DAY, found((1, "V07", 0, 1), (2, "V07", 0, 1)), 100)
    desk.exceptions.assign([2], "ben", author="ana", at_ms=200)
    change = decide(desk, [1, 2], edit(1, 0), edit(2, 0))
    assert waiting(desk) == [] and len(desk.edits.edits_for((0, 9), BASE, BASE + DAY_MS)) == 2
    assert desk.exceptions.undo(change, author="ben", reason="no", at_ms=900) == desk.edits.spans(change)
    assert len(desk.edits.edits_for((0, 9), BASE, BASE + DAY_MS)) == 0
    assert [desk.exceptions.get(n)[0].state for n in (1, 2)] == ["open", "assigned"]
    assert events(desk, 2) == ["opened", "assigned", "resolved", "reopened"]


@pytest.mark.parametrize(
    ("again", "state"),
    [((1, "V10", 0, 4, 5), "resolved"), ((1, "V10", 1, 3, 2), "resolved"), ((1, "V10", 0, 4, 6), "open"), ((1, "V10", 0, 5, 5), "open")],
)  # fmt: skip
def test_a_resolved_exception_opens_again_only_where_its_values_change(desk, again, state):
    desk.exceptions.offer(DAY, found((1, "V10", 0, 4, 5)), 100)
    decide(desk, [1], action="leave")
    desk.exceptions.offer(DAY, found(again), 900)
    assert desk.exceptions.get(1)[0].state == state


def test_what_is_resolved_is_not_decided_twice(desk):
    desk.exceptions.offer(DAY, found((1, "V07", 0, 1), (2, "V07", 0, 1)), 100)
    decide(desk, [1], edit(1, 0))
    for numbers, status in (([1, 2], 409), ([2, 99], 404), ([], 422)):
        with pytest.raises(Problem) as error:
            decide(desk, numbers, edit(2, 0))
        assert error.value.status == status
    assert len(desk.edits.changes()) == 1 and waiting(desk) == [2]


def test_pages_have_every_exception_once_in_their_order(desk):
    rows = [(channel, "V10", 0, 1, 5, channel * 7 % 5) for channel in range(23)]
    desk.exceptions.offer(DAY, found(*rows), 100)
    keys = {"weight": lambda i: (-i.weight, -i.number), "age": lambda i: i.number, "newest": lambda i: -i.number}
    for sort, key in keys.items():
        seen, mark = [], None
        while True:
            page, mark = desk.exceptions.page(Filter(), sort=sort, after=mark, limit=4)
            seen += page
            if mark is None:
                break
        assert [i.number for i in seen] == [i.number for i in sorted(seen, key=key)]
        assert sorted(i.channel for i in seen) == list(range(23))


def test_filters_and_counts_agree(desk):
    desk.exceptions.offer(DAY, found((1, "V07", 0, 1), (2, "V10", 0, 1), (3, "V10", 4, 5)), 100)
    desk.exceptions.assign([2], "ben", author="ana", at_ms=150)
    decide(desk, [3], action="leave")
    for which, want in (
        (Filter(rule="V10"), {2, 3}), (Filter(state="waiting"), {1, 2}), (Filter(state="resolved"), {3}),
        (Filter(assignee="ben"), {2}), (Filter(channel=1), {1}), (Filter(utility="gas"), set()),
        (Filter(area="10003", rule="V07"), {1}), (Filter(start_ms=BASE + 2 * STEP), {3}), (Filter(end_ms=BASE + STEP), {1, 2}),
    ):  # fmt: skip
        assert {item.number for item in desk.exceptions.page(which)[0]} == want, which
        assert sum(row["count"] for row in desk.exceptions.counts(which)) == len(want)
