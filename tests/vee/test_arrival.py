"""Readings are judged when they arrive, where a group asks for it: what fails is taken, and marked as questionable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from meterpulse.config import Config, VeeGroup
from meterpulse.model.quality import RAW, Quality, of_nem12
from meterpulse.model.reading import Readings
from meterpulse.pipeline import Pipeline
from meterpulse.registry.profiles import ProfileBook, profile_of
from meterpulse.vee.arrival import Arrival
from meterpulse.vee.groups import VeeSettings

NOW = 1_772_323_200_000
ONES = 0xFFFFFF
IDS = ["E-1", "E-2", "R-1"]
CHANNELS = [
    {"utility": "electricity", "unit": "kWh", "interval_seconds": 5},
    {"utility": "electricity", "unit": "kWh", "interval_seconds": 900},
    {"utility": "water", "unit": "L", "kind": "register", "digits": 3},
]


@dataclass
class Table:
    """Three channels of three profiles, as the registry has them."""

    count = 3

    def __post_init__(self):
        book = ProfileBook()
        self.profile = np.array([book.number(profile_of(told)) for told in CHANNELS], np.uint16)
        self.profiles = book.columns()

    def ids(self, indices):
        return pa.array([IDS[i] for i in indices.tolist()])


def graded(readings: Readings, *groups: dict, is_live: bool = True):
    arrival = Arrival(VeeSettings.of([VeeGroup(name=f"g{at}", **group) for at, group in enumerate(groups)]))
    return arrival.graded(readings, Table(), NOW, is_live=is_live), arrival.summary()


def sweep(quantity: list[int], seconds: tuple[int, ...] = (5, 900, 900), start: int = NOW - 900_000, quality=RAW):
    return Readings.of([0, 1, 2], start, seconds, quantity, 0, quality)


def test_where_no_group_asks_nothing_is_touched():
    readings = sweep([ONES, ONES, ONES])
    out, summary = graded(readings, {"rules": {"V06": {"severity": "fail"}}})
    assert out is readings and summary == {"judged": 0, "questionable": {}}


def test_all_ones_are_marked_and_nothing_else_changes():
    readings = sweep([ONES, 7, 8])
    out, summary = graded(readings, {"arrival": True})
    assert out.quality.tolist() == [Quality.QUESTIONABLE, RAW, RAW]
    assert out.quantity.tolist() == readings.quantity.tolist()
    assert summary == {"judged": 3, "questionable": {"V06": 1}}


def test_a_wrong_interval_a_clock_ahead_and_too_many_digits_are_marked():
    out, summary = graded(sweep([1, 1, 1_000_000], seconds=(5, 300, 900)), {"arrival": True})
    assert out.quality.tolist() == [RAW, Quality.QUESTIONABLE, Quality.QUESTIONABLE]
    assert summary["questionable"] == {"V03": 1, "V21": 1}
    ahead = sweep([1, 1, 1], start=NOW - 100_000)
    assert graded(ahead, {"arrival": True})[0].quality.tolist() == [RAW, Quality.QUESTIONABLE, Quality.QUESTIONABLE]
    assert graded(ahead, {"arrival": True}, is_live=False)[0] is ahead, "of history the time of arrival says nothing"


def test_only_channels_of_the_group_are_judged_and_its_settings_hold():
    ones = sweep([ONES, ONES, 5])
    assert graded(ones, {"arrival": True, "channels": ["E-2"]})[0].quality.tolist() == [RAW, Quality.QUESTIONABLE, RAW]
    some = {"arrival": True}, {"arrival": False, "priority": 1, "channels": ["E-2"]}
    assert graded(ones, *some)[0].quality.tolist() == [Quality.QUESTIONABLE, RAW, RAW]
    assert graded(ones, {"arrival": True, "rules": {"V06": {"severity": "warn"}}})[0] is ones
    assert graded(ones, {"arrival": True, "rules": {"V06": {"on": False}}})[0] is ones


def test_what_the_sender_said_of_a_value_keeps_its_flag_and_an_estimate_its_grade():
    given = np.array([of_nem12("A"), Quality.LINEAR, RAW], np.int32)
    out, _ = graded(sweep([ONES, ONES, 5], quality=given), {"arrival": True})
    assert out.quality.tolist() == [int(Quality.QUESTIONABLE) | of_nem12("A") & ~0xFF, Quality.LINEAR, RAW]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_a_batch_is_judged_as_its_readings_one_by_one(order):
    readings = sweep([ONES, 3, 1_000_000]).take(np.array(order))
    whole, _ = graded(readings, {"arrival": True})
    single = [graded(readings.take(slice(i, i + 1)), {"arrival": True})[0] for i in range(3)]
    assert whole == Readings.concat(single)


def test_a_doubted_reading_is_stored_counted_and_told_in_the_status(tmp_path):
    config = Config(data=tmp_path / "data", vee={"groups": [{"name": "all", "arrival": True}]}, demo={"enabled": False})
    with Pipeline.open(config, clock=lambda: NOW) as pipeline:
        pipeline.registry.register([{"id": "E-1", "utility": "electricity", "unit": "kWh", "interval_seconds": 5}])
        body = b'{"channel": "E-1", "start": "2026-02-28T23:59:50Z", "seconds": 5, "quantity": 16.777215}\n'
        told = pipeline.ingest(pipeline.take(body, "application/x-ndjson"), "http")
        assert told == {"accepted": 1, "quarantined": 0, "reasons": {}}
        assert pipeline.status()["arrival"] == {"judged": 1, "questionable": {"V06": 1}}
        assert pipeline.log.read(0).record.readings.quality.tolist() == [Quality.QUESTIONABLE]
