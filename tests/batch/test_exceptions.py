"""What fails in a rebuild reaches the work list with its times, its evidence and what is at stake."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from meterpulse.batch.exceptions import Worth, found_of, together
from meterpulse.model.channel import NO_AREA, Kind, Utility
from meterpulse.model.quality import RAW
from meterpulse.model.quantity import unit_of
from meterpulse.vee import MISSING, Findings, Profile, Status, Traits

STEP = 900_000
WORTH = Worth(kwh=0.25, gas_m3=1.0, water_m3=3.0)
TABLE = SimpleNamespace(area=np.array([0, NO_AREA, 1, 0], np.uint32))
KWH = 10**6


def profile(utility: Utility = Utility.electricity, unit: str = "kWh") -> Profile:
    quantity = np.array([[KWH, KWH, 9 * KWH, KWH], [KWH] * 4])
    quality = np.array([[RAW] * 4, [RAW, MISSING, MISSING, RAW]], np.int32)
    traits = Traits(utility, Kind.interval, unit_of(unit), 900)
    return Profile(traits, np.array([2, 1], np.uint32), 10 * STEP, STEP, quantity, quality)


def findings() -> Findings:
    status = [Status.FAIL, Status.FAIL, Status.WARN]
    return Findings.of([10, 7, 15], [0, 1, 0], [2, 1, 0], [3, 3, 4], status, [42, 2, 4], [18, 0, 1])


def found(of: Profile, effective: np.ndarray):
    effective = np.where((of.quality == MISSING) & (effective == KWH), 0, effective)  # not estimated
    return found_of(of, findings(), effective, TABLE, ["10001", "10003"], WORTH)


def test_only_what_fails_is_queued_and_with_its_times():
    of = profile()
    rows = list(found(of, of.quantity).rows())
    assert [(r["channel"], r["rule"], r["start_ms"], r["end_ms"], r["area"]) for r in rows] == [
        (2, "V10", 12 * STEP, 13 * STEP, "10003"),
        (1, "V07", 11 * STEP, 13 * STEP, None),
    ]
    assert [(r["measured"], r["limit"], r["step_ms"]) for r in rows] == [(42, 18, STEP), (2, 0, STEP)]


def test_at_stake_is_what_estimation_moved_else_what_was_measured():
    of = profile()
    estimated = of.quantity.copy()
    estimated[1, 1:3] = [2 * KWH, 3 * KWH]
    assert found(of, estimated).quantity.tolist() == [9 * KWH, 5 * KWH]
    estimated[0, 2] = 2 * KWH
    assert found(of, estimated).quantity.tolist() == [7 * KWH, 5 * KWH]
    assert found(of, estimated).weight.tolist() == [1750, 1250], "of a quarter each"


@pytest.mark.parametrize(
    ("utility", "unit", "each"), [("gas", "m3", 1000), ("water", "gal", 3000), ("electricity", "V", 0)]
)
def test_utilities_are_put_in_one_order_by_what_they_are_worth(utility, unit, each):
    of = profile(Utility[utility], unit)
    assert found(of, of.quantity).weight.tolist() == [9 * each, 0], "a gap that nothing fills has nothing at stake yet"


def test_parts_of_a_day_are_offered_together():
    one = found(profile(), profile().quantity)
    both = together([one, one])
    assert len(both) == 4 and both.rule == ["V10", "V07"] * 2 and both.quantity.tolist() == one.quantity.tolist() * 2
    assert len(together([])) == 0
