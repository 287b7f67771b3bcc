"""The city page against the real server."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MAP = "mp-map path.area"


def test_its_numbers_move(browse: Any, known: Any) -> None:
    page = browse().open("/")
    known(page, "[data-total]")
    accepted = page.get_attribute("[data-accepted]", "title")
    page.wait_for_function(
        "text => document.querySelector('[data-accepted]').title !== text", arg=accepted, timeout=15_000
    )
    known(page, "[data-rate]")
    for selector, seconds in (("[data-watermark]", 20), ("[data-total]", 150)):
        text = known(page, selector)
        differs = "([s, text]) => document.querySelector(s).textContent !== text"
        page.wait_for_function(differs, arg=[selector, text], timeout=seconds * 1000)


def test_every_postcode_has_a_shape_that_says_its_load(browse: Any, server: Any, known: Any) -> None:
    page = browse().open("/")
    known(page, "[data-total]")
    shapes = page.eval_on_selector_all(MAP, "paths => paths.map(p => [p.dataset.area, p.dataset.step, p.ariaLabel])")
    assert len(shapes) == 246
    load = server.get("/v1/load?utility=electricity")["areas"]
    coloured = {area for area, step, _ in shapes if step != "none"}
    assert coloured <= set(load)
    assert len(coloured) > 50
    assert all("no data" in label for _, step, label in shapes if step == "none")
    assert all(re.search(r"kW per meter", label) for _, step, label in shapes if step != "none")


def test_arrows_walk_the_map_and_enter_opens_an_area(browse: Any, known: Any) -> None:
    page = browse().open("/")
    known(page, "[data-total]")
    page.focus(f"{MAP}[tabindex='0']")
    seen = [page.evaluate("document.activeElement.dataset.area")]
    for key in ("ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
        seen.append(page.evaluate("document.activeElement.dataset.area"))
    assert None not in seen and len(set(seen)) >= 3
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-detail]:not([hidden])")
    assert f"area={seen[-1]}" in page.url
    assert seen[-1] in page.text_content("[data-detail-title]")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-detail]", state="hidden")
    assert page.evaluate("document.activeElement.dataset.area") == seen[-1]


def test_the_address_holds_what_is_shown(browse: Any, known: Any) -> None:
    page = browse().open("/?u=water&by=total&area=10003&view=table")
    known(page, "[data-total]")
    assert page.text_content("[data-total-unit]") == "m³/h"
    assert page.get_attribute("[data-modes] [data-value='total']", "aria-checked") == "true"
    assert page.get_attribute("[data-utilities] [data-value='water']", "aria-checked") == "true"
    assert page.is_visible("[data-map-table] table")
    page.wait_for_selector("#detail-chart table")
    page.keyboard.press("2")
    page.wait_for_function("() => location.search.includes('u=gas')")
    page.wait_for_function("() => document.querySelector('[data-total-title]').textContent.includes('gas')")


def test_t_turns_charts_and_map_into_tables_and_back(browse: Any, server: Any, known: Any) -> None:
    page = browse().open("/")
    known(page, "[data-total]")
    page.wait_for_selector("#city-chart canvas")
    page.keyboard.press("t")
    page.wait_for_selector("#city-chart table")
    assert not page.is_visible("#city-chart canvas")
    rows = page.eval_on_selector_all("[data-map-table] tbody tr", "rows => rows.length")
    assert rows >= 246
    assert re.search(r"\d", page.text_content("#city-chart tbody tr"))
    page.keyboard.press("t")
    page.wait_for_selector("#city-chart canvas")
    assert "view=" not in page.url


def test_search_opens_an_area_and_question_mark_lists_the_keys(browse: Any, known: Any) -> None:
    page = browse().open("/")
    known(page, "[data-total]")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("11201")
    page.wait_for_selector("#found li")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('[data-detail-title]').textContent.includes('11201')")
    page.keyboard.press("?")
    assert page.is_visible("[data-help] dl")
    page.keyboard.press("Escape")
    assert not page.is_visible("[data-help] dl")
    assert "area=11201" in page.url, "Escape in the list of keys closes only that list"


def test_the_chart_is_read_with_the_arrow_keys(browse: Any, known: Any) -> None:
    page = browse().open("/")
    page.wait_for_selector("#city-chart canvas")
    known(page, "#city-chart .sentence")
    page.focus("#city-chart .plot")
    page.keyboard.press("ArrowLeft")
    said = page.text_content("#city-chart [aria-live]")
    assert re.match(r"\d\d:\d\d – \d\d:\d\d: Today .*, Yesterday ", said)


def test_it_says_when_the_server_is_gone_and_when_it_is_back(browse: Any, wire: Any, known: Any) -> None:
    watched = browse()
    watched.expected = "net::ERR_"
    watched.url = f"http://127.0.0.1:{wire.port}"
    page = watched.open("/")
    known(page, "[data-total]")
    page.wait_for_function("() => document.documentElement.dataset.connection === 'live'")
    wire.cut()
    page.wait_for_selector("[data-banner]:not([hidden])")
    assert "can't be reached" in page.text_content("[data-banner]")
    wire.mend()
    page.click("[data-banner-retry]")
    page.wait_for_selector("[data-banner]", state="hidden")
    page.wait_for_function("() => document.documentElement.dataset.connection === 'live'")
