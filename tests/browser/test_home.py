"""The home page against the real server."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AUTUMN = datetime(2026, 11, 1, 4, tzinfo=UTC)  # midnight in New York, 25 hours before the next


def test_now_follows_the_heartbeats_and_says_its_age(browse: Any, known: Any) -> None:
    page = browse().open("/home/H-000001")
    known(page, "[data-panel='electricity'] [data-now]")
    assert page.text_content("[data-panel='electricity'] [data-now-unit]") == "kW"
    page.wait_for_function("() => document.querySelector('[data-live-word]').textContent === 'live'")
    at = "document.querySelector(\"[data-panel='electricity'] [data-now-stamp]\")"
    first = page.evaluate(f"{at}.title")
    page.wait_for_function(f"first => {at}.title > first", arg=first, timeout=30_000)
    assert re.fullmatch(r"just now|\d+ s ago", page.evaluate(f"{at}.textContent"))


def test_now_is_the_last_heartbeat_as_a_rate(browse: Any, server: Any, known: Any) -> None:
    start = (datetime.now(UTC) - timedelta(minutes=6)).isoformat()
    page = browse().open("/home/H-000002")
    known(page, "[data-panel='electricity'] [data-now]")
    rows = server.get(f"/v1/usage?channel=E-000002&grain=5m&start={start.replace('+00:00', 'Z')}")["rows"]
    low, high = (min(Decimal(str(row["min"])) for row in rows), max(Decimal(str(row["max"])) for row in rows))
    shown = Decimal(page.text_content("[data-panel='electricity'] [data-now]").replace(",", ""))
    margin = Decimal("0.01")
    assert low * 720 - margin <= shown <= high * 720 + margin


def test_what_is_missing_is_called_missing_and_never_zero(browse: Any, known: Any) -> None:
    page = browse().open("/home/H-000001")
    known(page, "[data-panel='electricity'] [data-now]")
    # the demo city has one day of history, so last week is not there
    for panel in ("electricity", "water"):
        assert page.text_content(f"[data-panel='{panel}'] [data-lastweek]") == "no data"
    page.keyboard.press("t")
    page.wait_for_selector("#home-chart table")
    last_week = page.eval_on_selector_all("#home-chart tbody tr", "rows => rows.map(row => row.cells[3].textContent)")
    assert set(last_week) == {"no data"}
    assert page.text_content("#home-chart tbody tr:first-child td:last-child").strip() in ("actual", "—")


def test_a_day_of_25_hours_has_25_rows_and_a_gap_stays_a_gap(browse: Any, server: Any) -> None:
    channel = {
        "id": "E-DST",
        "utility": "electricity",
        "unit": "kWh",
        "customer": "H-DST",
        "time_zone": "America/New_York",
    }
    assert server.post("/v1/channels", [channel])["errors"] == []
    lost = range(200, 206)  # half an hour
    readings = [
        {
            "channel": "E-DST",
            "start": (AUTUMN + timedelta(minutes=5 * i)).isoformat(),
            "seconds": 300,
            "quantity": "0.01",
        }
        for i in range(300)
        if i not in lost
    ]
    assert server.post("/v1/readings", readings)["accepted"] == 294
    query = "/v1/usage?channel=E-DST&grain=5m&start=2026-11-01T04:00:00Z&end=2026-11-02T05:00:00Z"
    server.until(query, lambda answer: len(answer["rows"]) == 294, 120)

    page = browse().open("/home/H-DST?day=2026-11-01&step=60&view=table&values=measured")
    page.wait_for_selector("#home-chart tbody tr")
    rows = page.eval_on_selector_all(
        "#home-chart tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    rows.reverse()
    assert [row[0] for row in rows] == [f"{hour:02}:00" for hour in (0, 1, 1, *range(2, 24))]
    assert [row[1] for row in rows].count("0.12") == 23
    assert [row[1] for row in rows if "of 12" in row[1]] == ["0.080 (8 of 12 intervals)", "0.10 (10 of 12 intervals)"]
    assert "2.94 kWh" in page.text_content("#home-chart .sentence")
    notes = page.text_content("[data-notes]")
    assert "25 hours" in notes
    assert "30 minutes (15:40–16:10)" in notes and "not counted as zero" in notes


def test_days_are_left_and_entered_with_keys_and_kept_in_the_address(browse: Any, known: Any) -> None:
    page = browse().open("/home/H-000001")
    known(page, "[data-panel='electricity'] [data-now]")
    page.keyboard.press("[")
    page.wait_for_function("() => /day=\\d{4}-\\d\\d-\\d\\d/.test(location.search)")
    page.keyboard.press("]")
    page.wait_for_function("() => !location.search.includes('day=')")
    page.keyboard.press("3")
    page.wait_for_function("() => document.querySelector('[data-day-title]').textContent.startsWith('Water')")
    assert page.get_attribute("[data-panel='water'] [role=radio]", "aria-checked") == "true"


def test_every_link_under_the_chart_answers(browse: Any, server: Any, known: Any) -> None:
    page = browse().open("/home/H-000001")
    known(page, "[data-panel='electricity'] [data-now]")
    addresses = page.eval_on_selector_all("[data-links='home'] a", "links => links.map(a => a.href)")
    assert len(addresses) == 4
    for address in addresses:
        assert page.request.get(address).status == 200


def test_search_goes_from_home_to_home_and_an_unknown_one_is_said(browse: Any, known: Any) -> None:
    watched = browse()
    watched.expected = "404"
    page = watched.open("/home/H-000001")
    known(page, "[data-panel='electricity'] [data-now]")
    page.keyboard.press("/")
    page.keyboard.type("w-000002")
    page.keyboard.press("Enter")
    page.wait_for_url("**/home/H-000002*")
    page.goto(page.url.replace("H-000002", "H-none"))
    page.wait_for_selector("[data-empty]:not([hidden])")
    assert "No home of this name" in page.text_content("[data-empty]")


def test_the_picker_shows_homes_and_finds_a_postcode(browse: Any, server: Any) -> None:
    area = server.get("/v1/channels?customer=H-000003")["channels"][0]["area"]
    page = browse().open("/home/")
    page.wait_for_selector("[data-samples] a")
    page.fill("#pick", area)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "area => document.querySelector('[data-samples-title]').textContent.includes(area)", arg=area
    )
    page.click("[data-samples] a:has-text('H-000003')")
    page.wait_for_url("**/home/H-000003")
