"""The human-error drill (docs/how-to/human-error-drill.md) on a running server: people break days of derived data by mistake, mend
the mistake, and one command brings every derived table back, to the last bit."""

from __future__ import annotations

import json
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

DAYS, CHANNELS = 3, 6
FIRST = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS + 1)
WHO = ("--author", "ana", "--reason")


def iso(day: float) -> str:
    return (FIRST + timedelta(days=day)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Town:
    """A server and the command line beside it."""

    def __init__(self, running: Any, run: Any):
        self.url, self._run = running.url, run

    def ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def command(self, *arguments: object) -> Any:
        code, out = self._run(*arguments, "--url", self.url, "--json")
        assert code == 0, out
        return json.loads(out)

    def settled(self) -> None:
        end = time.monotonic() + 60
        while (status := self.ask("/v1/status"))["dirty_days"] or status["lag"]["readings"] or not _rests(status):
            assert time.monotonic() < end, status
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

    def values(self, channel: str) -> list[Any]:
        """What stands in every interval."""
        question = {"channel": channel, "start": iso(0), "end": iso(DAYS), "action": "leave"}
        return [row["effective"] for row in self.ask("/v1/edits/preview", question)["items"][0]["intervals"]]


def _rests(status: dict[str, Any]) -> bool:
    return status["rebuilds"]["running"] is None


def channel(i: int, area: str) -> dict[str, Any]:
    zone = {"interval_seconds": 900, "time_zone": "America/New_York"}
    return {"id": f"E-{i}", "utility": "electricity", "unit": "kWh", "area": area, **zone}


@pytest.fixture(scope="module")
def running(start: Any, tmp_path_factory: Any) -> Any:
    """A server with a few homes and a few whole days, all of them built by batch."""
    running = start(tmp_path_factory.mktemp("drill") / "data", "--no-demo")
    made = Town(running, None)
    made.ask("/v1/channels", [channel(i, "10003") for i in range(CHANNELS)])
    readings = [
        {"channel": f"E-{i}", "start": iso(k / 96), "seconds": 900, "quantity": f"0.{(i + 1) * 7 + k % 50:03}"}
        for i in range(CHANNELS)
        for k in range(96 * DAYS)
        if (i, k) != (2, 100)  # one is missing
    ]
    later = [{"channel": "E-0", "start": iso(DAYS + 0.5), "seconds": 900, "quantity": "1"}]  # the days before are over
    made.ask("/v1/readings", readings)
    made.ask("/v1/readings", later)
    made.settled()
    made.ask("/v1/rebuild", {"all": True})
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def town(running: Any, run: Any) -> Town:
    return Town(running, run)


def test_what_people_break_by_mistake_one_command_brings_back_bit_for_bit(town: Town) -> None:
    tables, answers, values = town.tables(), town.answers(), town.values("E-1")
    assert len(tables) >= 6 * DAYS and len(answers[0]) == 96 * DAYS

    # A wrong register: somebody moves half of the homes to another area, and days are built with it.
    town.ask("/v1/channels", [channel(i, "10011") for i in range(3)])
    town.command("rebuild", "--all")
    broken = town.tables()
    assert {view for day, view in tables if broken[day, view] != tables[day, view]} == {"area_1m", "area_1h", "area_1d"}
    assert town.answers() != answers

    # A wrong bulk edit on top of it: zeros for two days of half of the homes.
    wrong = {"start": iso(0), "end": iso(2), "action": "set", "values": ["0"], "author": "ana", "reason": "clean-up"}
    made = [town.ask("/v1/edits", {"channel": f"E-{i}"} | wrong)["change"] for i in range(3)]
    assert town.values("E-1")[:192] == [0] * 192

    # Mended: the register is put right, the edits are taken back, and one command builds every derived table again.
    town.ask("/v1/channels", [channel(i, "10003") for i in range(CHANNELS)])
    for change in made:
        town.command("edits", "undo", change, *WHO, "not these homes")
    town.command("rebuild", "--all")
    assert town.tables() == tables
    assert town.answers() == answers
    assert town.values("E-1") == values
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
