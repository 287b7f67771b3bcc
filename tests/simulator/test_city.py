"""What is in a city's registry."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from meterpulse.model.channel import Channel
from meterpulse.simulator import City, businesses_for
from meterpulse.simulator.places import postcodes


def test_households_and_businesses_keep_new_yorks_ratio():
    assert businesses_for(8_206_739) == 536_890
    assert City(households=10_000).businesses == 654
    assert City(households=10_000, businesses=656).customers == 10_656


def test_the_channels_are_valid_and_their_order_is_the_dense_index(city):
    channels = list(city.channels())
    assert len(channels) == city.count
    assert all(isinstance(c, Channel) for c in channels)
    assert [c.id for c in channels] == city.ids(np.arange(city.count)).to_pylist()
    assert len({c.id for c in channels}) == city.count
    assert {c.area for c in channels} <= {p.name for p in postcodes()}
    assert channels[0].to_dict() == {
        "id": "E-000001", "utility": "electricity", "unit": "kWh", "usage_point": "UP-E-000001", "meter": "M-E-000001",
        "customer": "H-000001", "direction": "delivered", "kind": "interval", "interval_seconds": 5, "multiplier": 1,
        "digits": None, "class": "household", "area": channels[0].area, "time_zone": "America/New_York",
    }  # fmt: skip


def test_the_three_channels_of_a_home_are_in_the_same_place(city):
    by_customer = {}
    for channel in city.channels():
        by_customer.setdefault(channel.customer, set()).add((channel.area, channel.class_))
    assert all(len(places) == 1 for places in by_customer.values())
    assert Counter(name[0] for name in by_customer) == {"H": city.households, "B": city.businesses}


def test_tables_may_be_cut_anywhere(city):
    whole = pa.concat_tables(city.tables())
    assert pa.concat_tables(city.tables(rows=97)).to_pylist() == whole.to_pylist()


def test_ids_are_found_again_and_strangers_are_not(city):
    everyone = np.arange(city.count)
    assert np.array_equal(city.find(city.ids(everyone)), everyone)
    shuffled = np.random.default_rng(2).permutation(everyone)
    assert np.array_equal(city.find(city.ids(shuffled)), shuffled)
    strangers = ["E-000000", "E-999999", "X-000000", "Q-000001", "E-1", "", "W-00001²"]
    assert city.find(pa.array(strangers)).tolist() == [-1] * len(strangers)


def test_ids_grow_with_the_city():
    assert City(households=1_000_000, businesses=0).ids(np.array([999_999])).to_pylist() == ["E-1000000"]


def test_areas_come_after_what_they_lie_in():
    seen = {None}
    for area in City(households=1).areas():
        assert area.parent in seen
        seen.add(area.name)
    assert Counter(a.kind for a in City(households=1).areas()) == {"city": 1, "borough": 5, "postcode": 246}


def test_people_live_where_people_live_and_work_downtown():
    city = City(households=50_000, businesses=50_000)
    borough = np.array([p.borough for p in postcodes()])
    homes = Counter(borough[city.area[: city.households]].tolist())
    firms = Counter(borough[city.area[city.households :]].tolist())
    assert homes.most_common(1)[0][0] == "Brooklyn"
    assert firms.most_common(1)[0][0] == "Manhattan"
    assert len(np.unique(city.area)) == 246


def test_a_city_may_have_one_utility_only():
    city = City(households=50, utilities=("water",), registers=1.0)
    assert {c.utility for c in city.channels()} == {"water"}
    assert city.count == 2 * city.customers


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"households": -1}, "households"),
        ({"households": 0, "businesses": 0}, "households"),
        ({"utilities": ("steam",)}, "steam"),
        ({"solar": 1.5}, "solar"),
    ],
)
def test_what_is_no_city_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        City(**fields)
