"""Every rule that the catalogue has can say in words what it found."""

from __future__ import annotations

import pytest

from meterpulse.model.quantity import UNITS
from meterpulse.serving.wording import title_of, words_of
from meterpulse.vee.catalogue import rules

KWH = UNITS["kWh"]


@pytest.mark.parametrize("rule", sorted(rules()))
def test_each_rule_has_a_title_and_a_sentence_of_its_own(rule):
    assert title_of(rule) != rule
    sentence = words_of(rule, 5_000_000, 0, KWH)
    assert sentence.endswith(".") and "fails" not in sentence and "{" not in sentence


@pytest.mark.parametrize(
    ("rule", "measured", "limit", "sentence"),
    [
        ("V05", -200_000, 180_000, "The meter's clock is 0:03:20 behind ours."),
        ("V07", 1, 0, "One interval without a value."),
        ("V07", 4, 12, "An interval is made of 4 of 12 readings."),
        ("V09", 50_000_000, 48_000_000, "50 kWh, and the service can carry 48 kWh."),
        ("V15", 1440, 360, "The same value for 24 h, told from 6 h on."),
        ("V99", 1, 0, "V99 fails."),
    ],
)
def test_the_evidence_is_told_in_its_own_unit(rule, measured, limit, sentence):
    assert words_of(rule, measured, limit, KWH) == sentence
