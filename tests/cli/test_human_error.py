"""The human-error drill (docs/how-to/human-error-drill.md) on a running server: people break days of derived data by mistake, mend
the mistake, and one command brings every derived table back, to the last bit."""

from __future__ import annotations

import json
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytestmark = pytest.mark.slow

DAYS, CHANNELS = 3, 6
FIRST = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS + 3)
WHO = ("--author", "ana", "--reason")


def iso(day: float) -> str:
    return (FIRST + timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Town:
    """A server and the command line beside it."""

    def __init__(self, start: Any, data: Any):
        self._start, self._data, self.run = start, data, None
        self.open()

    def open(self) -> None:
        self._running = self._start(self._data, "--no-demo")
        self.url = self._running.url

    def again(self) -> None:
        """The server is stopped, and started with the settings of now."""
        self._running.stop()
        self.open()

    def close(self) -> None:
        self._running.process.kill()
        self._running.process.wait()

    def ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def command(self, *arguments: object) -> Any:
        code, out = self.run(*arguments, "--url", self.url, "--json")
        assert code == 0, out
        return json.loads(out)

    def settled(self) -> None:
        end = time.monotonic() + 90
        while (status := self.ask("/v1/status"))["dirty_days"] or status["lag"]["readings"] or not _rests(status):
            assert time.monotonic() < end, (status["dirty_days"], status["lag"], status["rebuilds"], status["alarms"])
            time.sleep(0.1)

    def tables(self) -> dict[tuple[str, str], str]:
        self.settled()
        rows = self.command("fingerprints", "--start", iso(0)[:10], "--end", iso(DAYS)[:10])["rows"]
        return {(row["day"], row["view"]): row["fingerprint"] for row in rows}

    def answers(self) -> list[Any]:
        """What people are answered, over the API: every channel by every grain, and the areas; not by which layer."""
        span = f"&start={iso(0)}&end={iso(DAYS)}"
        asked = [f"channel=E-{i}&grain={grain}" for i in range(CHANNELS) for grain in ("5m", "1h", "1d")]
        asked += [f"area=10003&utility=electricity&grain={grain}" for grain in ("1h", "1d")]
        found = [self.ask(f"/v1/usage?{one}{span}")["rows"] for one in asked]
        return [[{name: row[name] for name in row if name != "source"} for row in rows] for rows in found]

    def waiting(self, rule: str) -> int:
        """Exceptions of a rule that wait for a decision."""
        return len(self.command("exceptions", "list", "--rule", rule)["exceptions"])

    def values(self, channel: str) -> list[Any]:
        """What stands in every interval."""
        question = {"channel": channel, "start": iso(0), "end": iso(DAYS), "action": "leave"}
        return [row["effective"] for row in self.ask("/v1/edits/preview", question)["items"][0]["intervals"]]


def _rests(status: dict[str, Any]) -> bool:
    rebuilds = status["rebuilds"]
    return rebuilds["running"] is None and not rebuilds["records"]["due"]


def channel(i: int, area: str) -> dict[str, Any]:
    zone = {"interval_seconds": 900, "time_zone": "America/New_York"}
    return {"id": f"E-{i}", "utility": "electricity", "unit": "kWh", "area": area, **zone}


@pytest.fixture(scope="module")
def built(start: Any, tmp_path_factory: Any) -> Any:
    """A server with a few homes and a few whole days, all of them built by batch."""
    made = Town(start, tmp_path_factory.mktemp("drill") / "data")
    made.ask("/v1/channels", [channel(i, "10003") for i in range(CHANNELS)])
    readings = [
        {"channel": f"E-{i}", "start": iso(k / 96), "seconds": 900, "quantity": f"0.{(i + 1) * 7 + k % 50:03}"}
        for i in range(CHANNELS)
        for k in range(96 * DAYS)
        if (i, k) != (2, 100)  # one is missing
    ]
    later = [{"channel": "E-0", "start": iso(DAYS + 1.5), "seconds": 900, "quantity": "1"}]  # the days before are over
    made.ask("/v1/readings", readings)
    made.ask("/v1/readings", later)
    made.settled()
    made.ask("/v1/rebuild", {"all": True})
    yield made
    made.close()


@pytest.fixture
def town(built: Town, run: Any) -> Town:
    built.run = run
    return built


WATTS = {"name": "homes", "rules": {"V09": {"household_electricity": "48 Wh"}}}  # where 48 kWh was meant


def test_what_people_break_by_mistake_one_command_brings_back_bit_for_bit(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, answers, values = town.tables(), town.answers(), town.values("E-1")
    assert len(tables) >= 6 * DAYS and len(answers[0]) == 96 * DAYS

    # A wrong register: half of the homes are moved to another area. A wrong setting: a rule doubts nearly every value, so the
    # work list fills. Days are built with both.
    town.ask("/v1/channels", [channel(i, "10011") for i in range(3)])
    monkeypatch.setenv("METERPULSE_VEE__GROUPS", json.dumps([WATTS]))
    town.again()
    town.command("rebuild", "--all")
    broken = town.tables()
    wrong = {view for day, view in broken if broken[day, view] != tables.get((day, view))}
    assert wrong >= {"area_1m", "area_1h", "area_1d", "record"} and not wrong & {"usage_5m", "usage_1h", "usage_1d"}
    assert town.answers() != answers and town.waiting("V09") > 0

    # A wrong bulk edit on top of it: zeros for two days of half of the homes.
    zeros = {"start": iso(0), "end": iso(2), "action": "set", "values": ["0"], "author": "ana", "reason": "clean-up"}
    made = [town.ask("/v1/edits", {"channel": f"E-{i}"} | zeros)["change"] for i in range(3)]
    town.settled()
    assert town.values("E-1")[:192] == [0] * 192

    # Mended: setting and register are put right, the edits are taken back, and one command builds every derived table again.
    monkeypatch.delenv("METERPULSE_VEE__GROUPS")
    town.again()
    town.ask("/v1/channels", [channel(i, "10003") for i in range(CHANNELS)])
    for change in made:
        town.command("edits", "undo", change, *WHO, "not these homes")
    town.command("rebuild", "--all")
    assert town.tables() == tables
    assert town.answers() == answers
    assert town.values("E-1") == values
    assert town.waiting("V09") == 0
    told = [(one["action"], one["undoes"]) for one in town.command("edits", "list")]
    assert told == [("undo", made[2]), ("undo", made[1]), ("undo", made[0]), *[("set", None)] * 3]


def test_a_fingerprint_tells_two_tables_apart_and_is_asked_for_by_days(town: Town) -> None:
    before = town.tables()
    town.ask("/v1/readings", [{"channel": "E-2", "start": iso(100 / 96), "seconds": 900, "quantity": "0.001"}])
    town.settled()
    town.command("rebuild", "--day", iso(1)[:10])
    after = town.tables()
    changed = {day for (day, view), one in after.items() if before.get((day, view)) != one}
    assert changed == {iso(1)[:10]}
    few = town.command("fingerprints", "--start", iso(1)[:10], "--end", iso(2)[:10])["rows"]
    assert {row["day"] for row in few} == {iso(1)[:10]}
