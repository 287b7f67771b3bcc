"""Groups: who is judged by which rules, on which days, and what a wrong group is told."""

from __future__ import annotations

import re
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from meterpulse.config import ConfigError, VeeGroup, load
from meterpulse.model.channel import CustomerClass, Kind, Utility
from meterpulse.model.quantity import unit_of
from meterpulse.vee import Traits
from meterpulse.vee.catalogue import RuleSet
from meterpulse.vee.estimation import Order
from meterpulse.vee.groups import VeeSettings

DAY = (date(2026, 3, 1) - date(1970, 1, 1)).days
HOME = Traits(Utility.electricity, Kind.interval, unit_of("kWh"), 900)
SHOP = Traits(Utility.electricity, Kind.interval, unit_of("kWh"), 900, klass=CustomerClass.business)
WATER = Traits(Utility.water, Kind.interval, unit_of("L"), 3600)
IDS = ["E-1", "E-2", "HP-1", "HP-22", "e.1", "HP-1\n"]


def made(*groups: dict) -> VeeSettings:
    return VeeSettings.of([VeeGroup(**group) for group in groups])


def setting(rule_set: RuleSet, id: str, name: str):
    return next((getattr(settings, name) for rule, settings in rule_set.entries if rule.id == id), "off")


def test_without_groups_everything_is_as_by_default():
    rule_set, order = made().for_traits(HOME, DAY)
    assert (rule_set.version, order.version) == (RuleSet.of().version, Order.of().version)


def test_a_group_is_for_its_utility_and_class_only():
    vee = made({"name": "homes", "utilities": ["electricity"], "classes": ["household"], "rules": {"V10": {"k": 5}}})
    found = [setting(vee.for_traits(traits, DAY)[0], "V10", "k") for traits in (HOME, SHOP, WATER)]
    assert [float(k) for k in found] == [5, 1.8, 1.8]


def test_a_group_holds_from_its_first_day_until_the_day_it_ends():
    vee = made({"name": "spring", "from": date(2026, 3, 1), "until": date(2026, 3, 3), "rules": {"V13": {"on": False}}})
    off = [setting(vee.for_traits(HOME, day)[0], "V13", "severity") == "off" for day in range(DAY - 1, DAY + 3)]
    assert off == [False, True, True, False]


def test_the_group_of_higher_priority_is_heard_setting_by_setting():
    vee = made(
        {"name": "few", "priority": 2, "rules": {"V10": {"k": 9}}},
        {"name": "all", "rules": {"V10": {"k": 5, "severity": "warn"}, "V13": {"on": False}}},
        {"name": "again", "priority": 1, "rules": {"V13": {"on": True}}},
    )
    rule_set, _ = vee.for_traits(HOME, DAY)
    assert (float(setting(rule_set, "V10", "k")), setting(rule_set, "V10", "severity")) == (9, "warn")
    assert setting(rule_set, "V13", "severity") != "off"


def test_channels_are_split_by_their_ids_and_every_row_is_in_one_part():
    vee = made(
        {"name": "pumps", "channels": ["HP-*"], "rules": {"V10": {"k": 3}}},
        {"name": "two", "priority": 1, "channels": ["E-?", "HP-1"], "order": ["linear"]},
    )
    parts = vee.for_channels(HOME, len(IDS), lambda: pa.array(IDS), DAY)
    assert sorted(np.concatenate([rows for rows, _, _ in parts]).tolist()) == list(range(len(IDS)))
    told = {
        IDS[row]: (float(setting(rule_set, "V10", "k")), len(order.entries) == 1)
        for rows, rule_set, order in parts
        for row in rows.tolist()
    }
    plain, pump = (1.8, False), (3, False)
    assert told == {
        "E-1": (1.8, True),
        "E-2": (1.8, True),
        "HP-1": (3, True),
        "HP-22": pump,
        "e.1": plain,
        "HP-1\n": pump,
    }


def test_ids_are_not_asked_for_where_no_group_goes_by_them():
    vee = made({"name": "all", "rules": {"V10": {"k": 3}}}, {"name": "w", "utilities": ["water"], "channels": ["W-*"]})
    [(rows, rule_set, _)] = vee.for_channels(HOME, 3, lambda: pytest.fail("asked"), DAY)
    assert rows.tolist() == [0, 1, 2] and float(setting(rule_set, "V10", "k")) == 3
    assert not vee.names_channels(HOME, DAY) and vee.names_channels(WATER, DAY)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([{"rules": {"V99": {}}}], "vee.groups.0.rules.V99: no such rule; there are V01, V02"),
        ([{"rules": {"V10": {"kk": 1}}}], "vee.groups.0.rules.V10.kk: no such setting; there are on, severity, k,"),
        ([{"rules": {"V10": {"floor_gas": "2"}}}], "vee.groups.0.rules.V10.floor_gas = '2': takes a number from 0 on"),
        ([{"rules": {"V10": {"on": "no"}}}], "vee.groups.0.rules.V10.on = 'no': takes true or false"),
        ([{"order": ["guess"]}], "estimator 'guess' is not known; there are"),
        ([{"order": []}], "vee.groups.0.order = []: nothing would be estimated"),
        ([{"estimators": {"linear": {"x": 1}}}], "estimator linear, setting x"),
        ([{"from": date(2026, 1, 2), "until": date(2026, 1, 2)}], "is no day; until is not included"),
        ([{"name": "a"}, {"name": "a"}], "two are named 'a'"),
        (
            [{"rules": {"V10": {"k": 2}}}, {"channels": ["E-*"], "rules": {"V10": {"k": 3}}}],
            "'g0' and 'g1' both have priority 0 and say different things about rules.V10.k",
        ),
        ([{"channels": ["E-*"], "order": ["linear"]}, {"channels": ["E-1"], "order": ["zero"]}], "about order"),
    ],
)
def test_a_wrong_group_is_told_what_is_wrong(groups, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        made(*({"name": f"g{at}", **group} for at, group in enumerate(groups)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"utilities": ["gas"]}, {"utilities": ["water", "electricity"]}),
        ({"classes": ["household"]}, {"classes": ["business"]}),
        ({"until": date(2026, 1, 1)}, {"from": date(2026, 1, 1)}),
        ({"channels": ["E-1", "E-2"]}, {"channels": ["E-3"]}),
        ({"channels": ["HP-*"]}, {"channels": ["E-1"]}),
        ({"priority": 1}, {"priority": 2}),
    ],
)
def test_groups_that_share_no_channel_and_day_may_differ(one, other):
    made({"name": "one", "rules": {"V10": {"k": 2}}, **one}, {"name": "other", "rules": {"V10": {"k": 3}}, **other})


def test_groups_come_from_the_file_and_their_mistakes_are_placed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "meterpulse.toml"
    file.write_text('[[vee.groups]]\nname = "a"\nfrom = 2026-01-01\n[vee.groups.rules.V10]\nk = 2.5\n')
    vee = VeeSettings.of(load().vee.groups)
    assert float(setting(vee.for_traits(HOME, DAY)[0], "V10", "k")) == 2.5
    file.write_text('[[vee.groups]]\nname = "a"\nclases = ["household"]\n')
    with pytest.raises(
        ConfigError, match=r"vee\.groups\.0\.clases: no such setting \(from meterpulse\.toml\).*classes"
    ):
        load()
