"""What an action would put in the place of values, to the last digit."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterpulse.model.quality import RAW, Quality, code_of, nem12_of, of_nem12
from meterpulse.worklist.proposals import MISSING, CannotPropose, Surroundings, Values, propose

STEP = 900_000
START = int(datetime(2026, 3, 11, 12, tzinfo=ZoneInfo("America/New_York")).timestamp() * 1000)


def values(raw: list[int | None], effective: list[int | None] | None = None, quality: int = RAW) -> Values:
    def columns(given, word):
        known = np.array([v is not None for v in given])
        return np.array([v or 0 for v in given], np.int64), np.where(known, word, MISSING).astype(np.int32)

    return Values(START, STEP, *columns(raw, RAW), *columns(raw if effective is None else effective, quality))


def around(known: dict[int, int], zone: str = "America/New_York") -> Surroundings:
    return Surroundings(zone, lambda at: known.get(at))


def test_a_straight_line_joins_the_neighbours():
    quantity, quality = propose("interpolate", values([None] * 3), around({START - STEP: 10, START + 3 * STEP: 50}))
    assert quantity.tolist() == [20, 30, 40]
    assert {(code_of(q), nem12_of(q)) for q in quality.tolist()} == {(Quality.EDITED, ("F", 17))}


@given(st.integers(-(10**14), 10**14), st.integers(-(10**14), 10**14), st.integers(1, 40))
def test_a_line_is_the_same_from_both_ends_and_never_leaves_its_ends(before, after, n):
    there, _ = propose("interpolate", values([None] * n), around({START - STEP: before, START + n * STEP: after}))
    back, _ = propose("interpolate", values([None] * n), around({START - STEP: after, START + n * STEP: before}))
    assert there.tolist() == back.tolist()[::-1]
    assert min(before, after) <= there.min() and there.max() <= max(before, after)


@pytest.mark.parametrize(("known", "side"), [({START - STEP: 1}, "after"), ({START + STEP: 1}, "before")])
def test_a_line_needs_both_ends(known, side):
    with pytest.raises(CannotPropose, match=f"right {side} these"):
        propose("interpolate", values([None]), around(known))


def test_a_week_is_a_week_on_the_wall_clock_also_when_the_clocks_changed():
    """New York's clocks went forward on 8 March 2026: noon of the Wednesday before is 167 hours away."""
    week = 7 * 24 * 3_600_000
    known = {START - week: 1, START - week + 3_600_000: 2}
    quantity, _ = propose("copy week", values([None]), around(known))
    assert quantity.tolist() == [2]
    assert propose("copy week", values([None]), around(known, "UTC"))[0].tolist() == [1]


def test_a_week_with_a_hole_in_it_is_not_copied():
    with pytest.raises(CannotPropose, match="1 of these 2 intervals"):
        propose("copy week", values([1, 2]), around({START - 7 * 86_400_000: 5}, "UTC"))


def test_what_is_accepted_is_what_is_there():
    measured, quality = propose("accept raw", values([5, 6], [7, 7], of_nem12("S", 17)), around({}))
    assert (measured.tolist(), set(quality.tolist())) == ([5, 6], {int(Quality.VERIFIED)})
    estimate, quality = propose("accept estimate", values([5, None], [7, 8], of_nem12("S", 17)), around({}))
    assert (estimate.tolist(), set(quality.tolist())) == ([7, 8], {of_nem12("S", 17)})


@pytest.mark.parametrize(("action", "word"), [("accept raw", "measured"), ("accept estimate", "estimated")])
def test_what_is_not_there_is_not_accepted(action, word):
    with pytest.raises(CannotPropose, match=f"1 of 2 intervals have no {word} value"):
        propose(action, values([5, None]), around({}))


def test_one_value_is_set_for_all_or_one_for_each():
    assert propose("set", values([1, 2, 3]), around({}), np.array([9]))[0].tolist() == [9, 9, 9]
    assert propose("set", values([1, 2, 3]), around({}), np.array([9, 8, -7]))[0].tolist() == [9, 8, -7]
    for wrong in (None, np.array([1, 2]), np.array([10**15])):
        with pytest.raises(CannotPropose):
            propose("set", values([1, 2, 3]), around({}), wrong)


def test_leaving_it_changes_nothing():
    assert [len(column) for column in propose("leave", values([1]), around({}))] == [0, 0]
