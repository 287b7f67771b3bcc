"""A rule finds what a plain loop finds, on random profiles over days of 23, 24 and 25 hours, and in any order of channels."""

from __future__ import annotations

import numpy as np
import pytest
import vee_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from vee_cases import arrays, random_case

from meterpulse.vee import Context, Decision, Findings, History, Previous, RegisterSpans, Sibling, Spans, Status
from meterpulse.vee.catalogue import RuleSet, rules
from meterpulse.vee.runner import judge

FORMULA = {"V20": {"formula": "max - min > 2 * median and zero_count < 20"}}
KINDS = st.sampled_from(["interval", "interval", "register"])
SEEDS = st.integers(0, 2**32 - 1)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def told(findings: Findings) -> list[oracle.Finding]:
    rows = zip(*(getattr(findings, name).tolist() for name in oracle_columns()), strict=True)
    return sorted((*row[:3], Status(row[3]).name.lower(), *row[4:6], Decision(row[6]).name.lower()) for row in rows)


def oracle_columns():
    return "row", "first", "after", "status", "measured", "limit", "decision"


@given(seed=SEEDS, kind=KINDS)
@settings(max_examples=150, deadline=None)
def test_every_rule_finds_what_a_plain_loop_finds(seed, kind):
    case = random_case(seed, kind)
    profile, context = arrays(case)
    for id, rule in rules().items():
        outcome = rule.check(profile, context, rule.settings(**FORMULA.get(id, {})))
        assert (id, told(outcome.findings)) == (id, sorted(oracle.RULES[id](case)))
        assert outcome.applies[outcome.findings.row].all(), f"{id} finds something in a row that it cannot judge"


def test_every_rule_fires_in_some_of_the_random_cases():
    cases = [random_case(seed, kind) for seed in range(30) for kind in ("interval", "register")]
    assert [id for id, rule in oracle.RULES.items() if not any(any(rule(case)) for case in cases)] == []


@given(seed=SEEDS, kind=KINDS)
@settings(max_examples=25, deadline=None)
def test_the_order_of_channels_does_not_matter(seed, kind):
    profile, context = arrays(random_case(seed, kind))
    order = np.random.default_rng(seed).permutation(len(profile))
    rule_set = RuleSet.of(FORMULA)
    straight, shuffled = (
        judge(profile, context, rule_set),
        judge(profile.take(order), reordered(context, order), rule_set),
    )
    assert np.array_equal(straight.quality[order], shuffled.quality)
    assert np.array_equal(straight.status[:, order], shuffled.status)
    moved = Findings(*(order[c] if name == "row" else c for name, c in columns_of(shuffled.findings)))
    assert sorted(zip(moved.rule, told_unsorted(moved), strict=True)) == sorted(
        zip(straight.findings.rule, told_unsorted(straight.findings), strict=True)
    )


def columns_of(findings: Findings):
    return [(name, getattr(findings, name)) for name in Findings.__dataclass_fields__]


def told_unsorted(findings: Findings):
    return list(zip(*(getattr(findings, name).tolist() for name in oracle_columns()), strict=True))


def reordered(context: Context, order: np.ndarray) -> Context:
    """The context of the rows in another order."""
    place = np.argsort(order)

    def moved(value):
        if isinstance(value, Spans):
            return Spans.of([(int(place[r]), int(a), int(b)) for r, a, b in zip(value.row, value.first, value.after)])  # noqa: B905
        if isinstance(value, RegisterSpans):
            by = np.argsort(place[value.row], kind="stable")
            rest = (getattr(value, name)[by] for name in ("first", "after", "quantity", "resolution", "tariffs"))
            return RegisterSpans(place[value.row][by].astype(np.uint32), *rest)
        if isinstance(value, History):
            return History(value.day, value.total[order])
        if isinstance(value, Sibling):
            return Sibling(value.role, value.configured[order], value.quantity[order], value.quality[order])
        if isinstance(value, Previous):
            return Previous(value.quantity[order], value.quality[order], value.billed[order])
        if isinstance(value, tuple):
            return tuple(moved(v) for v in value)
        return None if value is None else value[order]

    return Context(**{name: moved(getattr(context, name)) for name in Context.__dataclass_fields__})
