"""Files as a stream again: the same numbers, at the pace of their time, and homes that are no copies of each other."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from meterpulse.cli.gathering import Gathered, due_ms
from meterpulse.cli.playing import Play, Tempo
from meterpulse.ingest.copies import copies_of, period_of, share
from meterpulse.ingest.spool import DAY_MS, Spool
from meterpulse.model.channel import Channel
from meterpulse.model.reading import Readings

MONDAY = 15_706  # 2013-01-01 was a Tuesday
HALF_HOUR_MS = 1_800_000
CHANNELS = [
    Channel("A", "electricity", "kWh", usage_point="A", interval_seconds=1_800),
    Channel("B:reg", "electricity", "kWh", usage_point="B", meter="B", kind="register"),
    Channel("B:volt", "electricity", "V", usage_point="B", meter="B", kind="gauge"),
]


def value(channel: int, day: int, slot: int) -> int:
    """A, B:reg (which rises by 10,000 in a day) and B:volt."""
    return (
        (day * 7_919 + slot * 104_729) % 1_000_003
        if channel == 0
        else (day * 48 + slot) * 10_000 // 48
        if channel == 1
        else 230_000 + slot
    )


def gathered(folder: Path, days: int) -> Gathered:
    data = Gathered(Spool(folder), list(CHANNELS))
    for channel in range(3):  # meter by meter, as files come
        slots = np.arange(days * 48)
        start = MONDAY * DAY_MS + slots * HALF_HOUR_MS
        quantity = np.array([value(channel, int(s) // 48, int(s) % 48) for s in slots])
        readings = Readings.of(np.full(len(slots), channel), start, 1_800 if channel == 0 else 60, quantity)
        data.note_ends(readings.channel.astype(np.int64), start, quantity)
        data.spool.add(readings, due_ms(start, readings.full("seconds"), data.is_interval[readings.channel]))
    return data


def played(data: Gathered, homes: int, days: int, step_ms: int = 3_600_000, every: int = 0):
    copies = copies_of(data.channels, homes, data.spool.last - data.spool.first + 1)
    moments = list(Play(data, copies, 0, lambda at: step_ms, every).moments(range(days)))
    rows = defaultdict(dict)
    for moment in moments:
        for row in moment.rows:
            id = copies.channels[int(row["channel"])].id
            assert int(row["start"]) not in rows[id]
            rows[id][int(row["start"])] = int(row["quantity"])
    return copies, moments, rows


def test_home_0_is_the_data_itself(tmp_path):
    _, moments, rows = played(gathered(tmp_path, 14), 1, 14)
    begin = MONDAY * DAY_MS
    for number, channel in enumerate(CHANNELS):
        assert rows[channel.id] == {begin + s * HALF_HOUR_MS: value(number, s // 48, s % 48) for s in range(14 * 48)}
    assert all(a.at_ms < b.at_ms for a, b in zip(moments, moments[1:], strict=False))


def test_a_reading_goes_out_when_its_interval_has_ended_and_a_register_at_its_instant(tmp_path):
    _, moments, _ = played(gathered(tmp_path, 2), 2, 2, step_ms=60_000)
    for moment in moments:
        ends = moment.rows["start"] + np.where(moment.rows["channel"] < 2, moment.rows["seconds"] * 1_000, 1)
        assert (ends <= moment.at_ms).all() and (ends > moment.at_ms - 60_000).all()


@pytest.mark.parametrize("days", [3, 14, 35])
def test_every_copy_follows_from_the_data_by_its_shift_and_share(tmp_path, days):
    data = gathered(tmp_path, days)
    copies, _, rows = played(data, 6, days)
    period, rise = period_of(days), data.rise
    assert len({(s, p) for s, p in zip(copies.shift_days[:6], copies.percent[:6], strict=True)}) == 6
    for number, channel in enumerate(copies.channels):
        source, shift, percent = (int(c[number]) for c in (copies.source, copies.shift_days, copies.percent))
        expected = {}
        for day in range(days):
            turn, own = divmod(day - shift, period)
            for slot in range(48) if own < days else ():
                raw = value(source, own, slot) + (turn + (shift > 0)) * int(rise[source])
                exact = raw * percent
                expected[MONDAY * DAY_MS + (day * 48 + slot) * HALF_HOUR_MS] = round_half_even(exact, 100)
        assert rows[channel.id] == expected
        assert percent == 100 or source != 2


def round_half_even(over: int, under: int) -> int:
    whole, rest = divmod(over, under)
    return whole + (2 * rest > under or 2 * rest == under and whole % 2 == 1)


def test_streams_of_one_home_keep_together(tmp_path):
    copies, _, _ = played(gathered(tmp_path, 14), 4, 1)
    by_point = defaultdict(set)
    for channel, shift in zip(copies.channels, copies.shift_days, strict=True):
        by_point[channel.usage_point].add(int(shift))
    assert all(len(shifts) == 1 for shifts in by_point.values()) and len(by_point) == 8
    assert {"A~3", "B~3:reg", "B~3:volt"} <= {channel.id for channel in copies.channels}


def test_a_loop_goes_on_in_time_and_registers_go_on_counting(tmp_path):
    data = gathered(tmp_path, 10)  # it begins again after 14
    _, moments, rows = played(data, 3, 40)
    assert all(a.at_ms < b.at_ms for a, b in zip(moments, moments[1:], strict=False))
    for id in ("B:reg", "B~1:reg", "B~2:reg"):
        counts = [quantity for _, quantity in sorted(rows[id].items())]
        assert counts == sorted(counts) and counts[-1] > counts[0]
    first = {at for at in rows["A"] if at < (MONDAY + 14) * DAY_MS}
    assert {at + 14 * DAY_MS for at in first} <= set(rows["A"])


def test_divided_intervals_keep_their_sum(tmp_path):
    data = gathered(tmp_path, 2)
    _, moments, rows = played(data, 2, 2, every=7 * 60)  # does not divide half an hour: left whole
    assert len(rows["A"]) == 96
    _, moments, rows = played(data, 2, 2, step_ms=60_000, every=60)
    assert len(rows["A"]) == len(rows["A~1"]) == 2 * 1_440 and len(rows["B:reg"]) == 96
    for s in range(96):
        begin = MONDAY * DAY_MS + s * HALF_HOUR_MS
        assert sum(rows["A"][begin + m * 60_000] for m in range(30)) == value(0, s // 48, s % 48)
    assert all((moment.rows["start"][moment.rows["channel"] < 2] == moment.at_ms - 60_000).all() for moment in moments)


def test_a_share_is_rounded_half_to_even():
    quantity = np.arange(0, 2_000)
    for percent in (50, 83, 100, 101, 150):
        assert share(quantity, np.full(2_000, percent)).tolist() == [
            round_half_even(int(q) * percent, 100) for q in quantity
        ]


def test_time_runs_at_its_speed_and_never_ahead_of_the_clock():
    slept: list[float] = []
    clock = iter([10_000_000, 10_000_000, 10_001_000])
    tempo = Tempo(lambda: next(clock), slept.append, 5_000_000, speed=60)
    tempo.wait_until(5_000_000 + 120_000)
    tempo.wait_until(5_000_000 + 180_000)
    assert slept == [2.0, 2.0]
    slept.clear()
    tempo = Tempo(lambda: 10_000_000, slept.append, 9_999_000, speed=0)
    tempo.wait_until(9_999_500)
    tempo.wait_until(10_004_000)
    assert slept == [4.0]


def test_what_was_replayed_is_answered_as_the_file_has_it(run, london, tmp_path):
    code, out = run("replay", london, "--register", "--speed", "max", "--json", "--data", tmp_path)
    told = json.loads(out)
    assert (code, told["accepted"], told["left_out"], told["channels"]) == (0, 7, {"missing": 1}, 2)
    query = ("--start", "2013-03-30", "--end", "2013-04-01", "--grain", "1h", "--json", "--data", tmp_path)
    hours = {}
    for home in ("MAC1", "MAC2"):
        rows = json.loads(run("usage", home, *query)[1], parse_float=str, parse_int=str)["rows"]
        hours[home] = {row["start"][8:13]: (row["quantity"], row["count"]) for row in rows}
    assert hours == {
        "MAC1": {"30T23": ("0.219", "1"), "31T00": ("1.245", "2"), "31T01": ("0", "1")},
        "MAC2": {"31T00": ("0.125", "2")},
    }


def test_ctrl_c_ends_it_with_a_summary(run, london, tmp_path, monkeypatch):
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    code, out = run("replay", london, "--register", "--loop", "--speed", "600x", "--json", "--data", tmp_path / "data")
    assert code == 130 and json.loads(out)["accepted"] == 1  # the first moment is not waited for


@pytest.mark.parametrize(
    "wrong",
    [("--speed", "fast"), ("--speed", "0x"), ("--from", "yesterday"), ("--scale", "2"), ("--from", "2014-01-01")],
)
def test_a_wrong_option_is_told(run, london, tmp_path, wrong):
    assert run("replay", london, *wrong, "--data", tmp_path / "data")[0] == 2
