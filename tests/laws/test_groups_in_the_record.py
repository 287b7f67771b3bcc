"""Groups say how the record of a channel's day is made: with which rules and estimators, from one date to another."""

from __future__ import annotations

from pathlib import Path

from city import NOON, City, channels, config_for
from oracle import Reading
from test_record import STEP, effective, recorded

from meterpulse.model.window import DAY_MS, day_text
from meterpulse.worklist import Filter

FIRST = NOON // DAY_MS - 20
DAYS = 6
HOLE = range(20, 32)  # half hours that are missing every day but the first three
SHAPES = channels(4, ["UTC"], interval_seconds=1800)  # of electricity: 0 and 3
GROUP = {
    "name": "averaged", "channels": ["E-0003"], "from": day_text(FIRST + 4), "order": ["average_day"],
    "rules": {"V07": {"on": False}},
}  # fmt: skip


def test_a_group_holds_for_its_channels_from_its_first_day_on(tmp_path: Path):
    sent = [
        Reading(shape["id"], FIRST * DAY_MS + (day * 48 + k) * STEP, 1800, 40_000 + 1000 * k + 100 * day, 0)
        for shape in (SHAPES[0], SHAPES[3]) for day in range(DAYS) for k in range(48) if day < 3 or k not in HOLE
    ]  # fmt: skip
    config = config_for(tmp_path / "data", vee={"groups": [GROUP]})
    with City(tmp_path / "data", SHAPES, config=config) as city:
        city.send(sent, "import:a")
        recorded(city)
        ways = {
            (day - FIRST, channel): {way for (c, _), (_, _, way) in effective(city, day).items() if c == channel}
            for day in (FIRST + 3, FIRST + 4)
            for channel in (0, 3)
        }
        assert ways[3, 0] == ways[3, 3] == ways[4, 0] == {"similar_day"}
        assert ways[4, 3] == {"average_day"}
        found, _ = city.pipeline.desk.exceptions.page(Filter(rule="V07"))
        waiting = {(item.day - FIRST, item.channel) for item in found}
        assert waiting >= {(3, 0), (3, 3), (4, 0)} and (4, 3) not in waiting
