"""What holds for every page: no sideways scroll on a phone, light and dark, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAGES = ("/", "/?area=10003&view=table", "/home/", "/home/H-000001", "/home/H-000001?view=table", "/status")


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_does_not_scroll_sideways(browse: Any, path: str) -> None:
    page = browse(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).open(path)
    page.wait_for_function("() => document.documentElement.dataset.connection !== undefined")
    page.wait_for_timeout(1500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_phone_shows_every_page_of_the_navigation_whole(browse: Any) -> None:
    page = browse(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).open("/status")
    cut = """() => { const nav = document.querySelector(".top nav"), links = [...nav.querySelectorAll("a")];
        return nav.scrollWidth > nav.clientWidth || links.some(a => { const box = a.getBoundingClientRect();
            return box.left < 0 || box.right > innerWidth || box.top !== links[0].getBoundingClientRect().top; }); }"""
    assert page.locator(".top nav a").count() == 5
    assert page.evaluate(cut) is False


def brightness(page: Any) -> float:
    page.wait_for_function("() => getComputedStyle(document.body).backgroundColor !== ''")
    return page.evaluate(
        """() => {
            const canvas = new OffscreenCanvas(1, 1).getContext("2d");
            canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
            return (r + g + b) / 765;
        }"""
    )


@pytest.mark.parametrize("path", ["/", "/home/H-000001"])
def test_it_follows_the_system_and_the_reader_can_choose(browse: Any, path: str) -> None:
    watched = browse(color_scheme="dark")
    page = watched.open(path)
    assert brightness(page) < 0.25
    button = "[data-theme-button]"
    page.click(button)
    assert page.text_content("[data-theme-word]") == "Appearance: light"
    assert brightness(page) > 0.85
    page.reload()
    assert brightness(page) > 0.85, "the choice is kept"
    page.click(button)
    page.click(button)
    assert page.text_content("[data-theme-word]") == "Appearance: auto"
    page.emulate_media(color_scheme="light")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'light'")
    assert brightness(page) > 0.85


def test_the_first_tab_stop_leads_past_the_header_and_focus_is_seen(browse: Any) -> None:
    page = browse().open("/home/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_the_status_page_counts(browse: Any) -> None:
    page = browse().open("/status")
    page.wait_for_selector("[data-tiles] dd")
    page.wait_for_selector("#rate-chart canvas")
    page.wait_for_function(
        "() => /\\d readings per second now/.test(document.querySelector('#rate-chart .sentence').textContent)"
    )


def test_charts_do_not_need_motion(browse: Any) -> None:
    page = browse(reduced_motion="reduce").open("/")
    page.wait_for_selector("mp-map path.area")
    seconds = page.evaluate("getComputedStyle(document.querySelector('mp-map .moved')).transitionDuration")
    assert float(seconds.split(",")[0].rstrip("s")) < 0.01
