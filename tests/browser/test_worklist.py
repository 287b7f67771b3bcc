"""The work list in a browser: look, narrow, select, preview, commit and take back, by mouse and by keyboard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meterpulse.config import load
from meterpulse.model.channel import Channel
from meterpulse.model.window import DAY_MS, iso
from meterpulse.pipeline import Pipeline
from meterpulse.worklist import Found
from tests.browser.conftest import Server, Watched

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STEP, KWH = 900_000, 10**6
GAP, SPIKE = 40, 60  # intervals of the day: two are missing from GAP on, SPIKE is a hundred times too high
HOMES = 4


def late_starts(day: int) -> list[str]:
    """The starts of two intervals whose readings came when speed had let their windows go."""
    return [iso(day - 7 * DAY_MS + k * STEP) for k in (20, 21)]


def fill(data: Path) -> int:
    """A week of four homes, each with a gap and a spike on its last day, which wait in the work list; gives the day."""
    day = (int(time.time() * 1000) // DAY_MS - 2) * DAY_MS
    config = load(
        {"data": str(data), "vee": {"record": False}, "log": {"max_bytes": 1 << 28}, "stores": {"max_bytes": 1 << 28}}
    )
    with Pipeline.open(config, clock=lambda: day + 2 * DAY_MS) as p:
        zone = {"interval_seconds": 900, "time_zone": "America/New_York"}
        areas = ["10003", "10011"]
        p.registry.register([Channel(f"E-{i}", "electricity", "kWh", area=areas[i % 2], **zone) for i in range(HOMES)])
        lines = [
            {
                "channel": f"E-{i}",
                "start": iso(day + back * DAY_MS + k * STEP),
                "seconds": 900,
                "quantity": "100" if (back, k) == (0, SPIKE) else str(k / 4),
            }
            for i in range(HOMES)
            for back in (-7, 0)
            for k in range(96)
            if back or k not in (GAP, GAP + 1)
        ]
        lines.sort(key=lambda line: line["start"])
        late = [line for line in lines if line["channel"] == "E-3" and line["start"] in late_starts(day)]
        for some in ([line for line in lines if line not in late], late):
            decoded = p.take("\n".join(map(json.dumps, some)).encode(), "application/x-ndjson")
            assert not decoded.rejected
            p.ingest(decoded, "http")
            assert p.settle(60)
            while p.keeper.boundary_ms < day - 6 * DAY_MS:  # speed has not let the windows go yet
                time.sleep(0.05)
        p.rebuilder.rebuild(day // DAY_MS - 7)
        of, n = np.repeat(np.arange(HOMES, dtype=np.uint32), 2), 2 * HOMES
        first, after = np.tile([GAP, SPIKE], HOMES), np.tile([GAP + 2, SPIKE + 1], HOMES)
        measured, limit = np.tile([2, 100 * KWH], HOMES), np.tile([0, 30 * KWH], HOMES)
        quantity = np.tile([20 * KWH, 85 * KWH], HOMES)
        found = Found(
            of, ["V07", "V10"] * HOMES, day + first * STEP, day + after * STEP, np.full(n, STEP), measured, limit,
            quantity, quantity // 4000, ["electricity"] * n, [areas[i % 2] for i in of],
        )  # fmt: skip
        p.desk.exceptions.offer(day // DAY_MS, found, p.clock())
    return day


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("desk") / "data"
    day = fill(data)
    with pytest.MonkeyPatch.context() as env:
        env.setenv("METERPULSE_VEE__RECORD", "false")  # what waits is what the tests put there
        running = Server(data, "--no-demo")
    running.day = day
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def browse_desk(desk: Server, chromium: Any) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(**options: Any) -> Watched:
        made.append(Watched(chromium, desk.url, **options))
        return made[-1]

    yield make
    for watched in made:
        watched.context.close()
    assert [error for watched in made for error in watched.errors] == []
    assert [address for watched in made for address in watched.elsewhere] == []


def waiting(desk: Server, **narrowed: str) -> int:
    query = "&".join(f"{name}={value}" for name, value in narrowed.items())
    return sum(row["count"] for row in desk.get(f"/v1/exceptions?state=waiting&limit=1&{query}")["counts"])


def commit(page: Any, reason: str) -> None:
    page.wait_for_selector("[data-decide][open] [data-commit]:enabled")
    page.fill("[data-author]", "ana")
    page.fill("[data-reason]", reason)
    page.click("[data-commit]")
    page.wait_for_selector("[data-decide]:not([open])", state="attached")


def test_what_is_wrong_is_said_and_narrowed_and_the_address_keeps_it(browse_desk: Any, desk: Server) -> None:
    page = browse_desk().open("/worklist")
    page.wait_for_selector(".exception")
    assert page.locator(".exception").count() == 2 * HOMES
    assert "100 kWh, where the day's other values allow 30 kWh" in page.text_content(".exception")
    page.click(".facet:has-text('Missing')")
    page.wait_for_function("() => document.querySelectorAll('.exception').length === 4")
    page.fill("[data-filter=area]", "10011")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.exception').length === 2")
    assert "rule=V07" in page.url and "area=10011" in page.url
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('.exception').length === 2")
    page.select_option("[data-filter=age]", "30")
    page.wait_for_selector("[data-empty]:not([hidden])")
    page.click("[data-empty] button")
    page.wait_for_function("() => document.querySelectorAll('.exception').length === 8")


def test_one_exception_shows_its_values_as_a_chart_and_as_a_table(browse_desk: Any) -> None:
    page = browse_desk().open("/worklist?rule=V07")
    page.wait_for_selector(".exception")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#one-chart canvas")
    assert "n=" in page.url
    page.keyboard.press("t")
    page.wait_for_selector("#one-chart table")
    cells = page.eval_on_selector_all("#one-chart tbody tr", "rows => rows.map(r => r.cells[2].textContent)")
    assert cells[47:51] == ["9.75", "no value", "no value", "10.5"]
    page.wait_for_selector("[data-one-history] li:has-text('opened')")


def test_many_are_previewed_committed_and_taken_back_with_keys(browse_desk: Any, desk: Server) -> None:
    page = browse_desk().open("/worklist?rule=V10")
    page.wait_for_selector(".exception")
    for key in ("Space", "ArrowDown", "Space", "i"):
        page.keyboard.press(key)
    page.wait_for_selector("[data-diff] table")
    # two spikes of 100 kWh become the 15 kWh that lie on the line between their neighbours
    assert "200 → 30" in page.text_content("[data-diff]").replace(".0", "")
    assert waiting(desk, rule="V10") == HOMES, "a preview writes nothing"
    commit(page, "the meter was wet")
    page.wait_for_selector("[data-toast]:not([hidden])")
    assert "2 exceptions resolved" in page.text_content("[data-toast]")
    assert waiting(desk, rule="V10") == HOMES - 2
    page.wait_for_function("() => document.querySelectorAll('.exception').length === 2")
    page.wait_for_selector("[data-ledger] q:has-text('the meter was wet')")
    page.keyboard.press("u")
    commit(page, "it was dry")
    page.wait_for_function("() => document.querySelectorAll('.exception').length === 4")
    page.wait_for_selector("[data-ledger] li:has-text('undone by')")
    assert [change["action"] for change in desk.get("/v1/edits")["changes"][:2]] == ["undo", "interpolate"]


def test_a_preview_says_what_does_not_fit_and_commits_only_the_rest(browse_desk: Any, desk: Server) -> None:
    page = browse_desk().open("/worklist?area=10011")
    page.wait_for_selector(".exception")
    page.click("[data-tick-all]")
    page.keyboard.press("a")
    page.wait_for_selector("[data-diff] .refused")
    assert "2 exceptions stay as they are" in page.text_content("[data-diff] .refused")
    commit(page, "checked on site")
    page.wait_for_function("() => document.querySelectorAll('.exception').length === 2")
    assert (waiting(desk, area="10011"), waiting(desk, area="10011", rule="V10")) == (2, 0)


def test_somebody_gets_an_exception_and_it_is_found_as_theirs(browse_desk: Any, desk: Server) -> None:
    page = browse_desk().open("/worklist?rule=V07&area=10003")
    page.wait_for_selector(".exception")
    page.keyboard.press("g")
    page.fill("[data-assignee]", "ben")
    page.fill("[data-author]", "ana")
    page.keyboard.press("Enter")
    page.wait_for_selector(".exception .chip.assigned")
    page.goto(desk.url + "/worklist?assignee=ben")
    page.wait_for_function("() => document.querySelectorAll('.exception').length === 1")


def test_a_channel_shows_what_was_measured_beside_what_stands(browse_desk: Any, desk: Server) -> None:
    page = browse_desk().open("/worklist?area=10003&rule=V10")
    page.wait_for_selector(".exception")
    page.click(".exception .where a")
    page.wait_for_url("**/channel/E-*")
    page.wait_for_selector("#channel-chart canvas")
    page.wait_for_selector("[data-exceptions] li:has-text('Spike')")
    page.click("[data-act='copy week']")
    commit(page, "the display says so")
    page.wait_for_selector(".chart-legend button:has-text('Measured')")
    page.wait_for_selector("[data-ledger] q:has-text('the display says so')")
    page.keyboard.press("t")
    page.wait_for_selector("#channel-chart table")
    rows = page.eval_on_selector_all(
        "#channel-chart tbody tr", "rows => rows.map(row => [...row.cells].slice(1).map(cell => cell.textContent))"
    )
    assert ["100", "15.0", "edited"] in [row[:3] for row in rows]
    for address in page.eval_on_selector_all("[data-links='channel'] a", "links => links.map(a => a.href)"):
        assert page.request.get(address).status == 200
    page.wait_for_selector("[data-past] .chart-empty")  # nothing is recorded in this city


def test_what_batch_answers_otherwise_is_shown_by_day_and_by_channel(browse_desk: Any, desk: Server) -> None:
    page = browse_desk().open("/differences")
    page.wait_for_selector("[data-causes] [data-cause=late]")
    # intervals 20 and 21 came late: 5 and 5.25 kWh
    assert "late 10.3 kWh" in page.text_content("[data-causes]")
    assert page.is_hidden("[data-alarm]"), page.text_content("[data-alarm]")
    assert "10.3 kWh" in page.text_content("[data-sentence]")
    column = page.locator("[data-days] button:has([data-cause=late])")
    assert "late 10.3 kWh (2 windows)" in column.get_attribute("aria-label")
    column.click()
    page.wait_for_function("() => location.search.includes('day=')")
    row = page.text_content("[data-channels] tbody tr")
    assert "E-3" in row and "late" in row and "10.3" in row
    page.keyboard.press("t")
    page.wait_for_selector("[data-days] table")
    page.keyboard.press("2")
    page.wait_for_function("() => document.querySelector('[data-sentence]').textContent.includes('is known about gas')")


@pytest.mark.parametrize("path", ["/worklist", "/worklist?n=1", "/channel/E-0", "/differences"])
def test_a_phone_does_not_scroll_sideways(browse_desk: Any, path: str) -> None:
    page = browse_desk(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).open(path)
    page.wait_for_selector(".exception, #channel-chart .sentence, [data-days] button")
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
