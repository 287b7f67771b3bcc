"""Rules say what they found; the runner grades the values, and a value that nobody judged stays as it was."""

from __future__ import annotations

import numpy as np

from meterpulse.model.channel import Kind, Utility
from meterpulse.model.quality import RAW, Quality, of_nem12
from meterpulse.model.quantity import unit_of
from meterpulse.vee import MISSING, Context, Profile, Status, Traits
from meterpulse.vee.calendar import days_of
from meterpulse.vee.catalogue import RuleSet, rules
from meterpulse.vee.runner import judge

HOUR = 3_600_000
HOME = Traits(Utility.electricity, Kind.interval, unit_of("kWh"), 3600)


def profile(values, quality=None, traits=HOME, **columns):
    quantity = np.array([[0 if v is None else v for v in row] for row in values], np.int64)
    known = np.array([[v is not None for v in row] for row in values])
    graded = np.where(known, RAW, MISSING) if quality is None else np.array(quality)
    return Profile(
        traits, np.arange(len(values), dtype=np.uint32), 0, HOUR, quantity, graded.astype(np.int32), **columns
    )


def only(*ids):
    return RuleSet.of(off=frozenset(rules()) - set(ids))


def test_a_value_that_passes_is_validated_and_one_that_fails_is_questionable():
    verdict = judge(profile([[5, -1, 5]]), Context(), only("V14"))
    assert verdict.quality.tolist() == [[Quality.VALIDATED, Quality.QUESTIONABLE, Quality.VALIDATED]]
    assert verdict.worst.tolist() == [Status.FAIL]
    assert (verdict.findings.first.tolist(), verdict.findings.measured.tolist()) == ([1], [-1])


def test_a_gap_is_found_and_stays_missing():
    verdict = judge(profile([[5, None, None, 5], [1, 1, 1, 1]]), Context(), only("V07"))
    assert (verdict.findings.row.tolist(), verdict.findings.first.tolist(), verdict.findings.after.tolist()) == (
        [0], [1], [3],
    )  # fmt: skip
    assert verdict.quality[0].tolist() == [Quality.VALIDATED, MISSING, MISSING, Quality.VALIDATED]
    assert verdict.status.tolist() == [[Status.FAIL, Status.PASS]]


def test_estimates_and_edits_keep_their_grade_and_nem12_its_flag():
    given = [[Quality.LINEAR, Quality.EDITED, Quality.REVENUE, of_nem12("A"), of_nem12("S", 14)]]
    out = judge(profile([[1, 1, 1, 1, 1]], given), Context(), only("V14")).quality[0].tolist()
    assert out == [*given[0][:3], Quality.VALIDATED | of_nem12("A") & ~0xFF, given[0][4]]


def test_what_no_rule_judges_stays_raw():
    register = Traits(Utility.gas, Kind.register, unit_of("m3"), 3600)
    verdict = judge(profile([[5, 6, 7]], traits=register), Context(), only("V07", "V14"))
    assert verdict.quality.tolist() == [[RAW] * 3]
    assert verdict.worst.tolist() == [Status.NOT_APPLICABLE]


def test_only_judged_columns_are_graded_and_searched():
    verdict = judge(profile([[-1, None, 5, -2]], first=2, after=3), Context(), only("V07", "V14"))
    assert verdict.quality.tolist() == [[Quality.VALIDATED]]
    assert len(verdict.findings) == 0


def test_the_version_changes_with_any_setting_and_only_then():
    assert RuleSet.of().version == RuleSet.of().version
    assert RuleSet.of({"V14": {"severity": "warn"}}).version != RuleSet.of().version
    assert only("V14").version != only("V07").version


def test_a_local_day_has_23_24_or_25_hours():
    start = 20_520 * 24 * HOUR + 5 * HOUR  # 2026-03-08 00:00 in New York, when it loses an hour
    home = Traits(Utility.electricity, Kind.interval, unit_of("kWh"), 3600, zone="America/New_York")
    hours = np.zeros((1, 48), np.int64)
    found = days_of(Profile(home, np.zeros(1, np.uint32), start, HOUR, hours, hours.astype(np.int32)))
    assert (found.after - found.first).tolist() == [23, 24, 1]
    assert found.whole.tolist() == [True, True, False]
