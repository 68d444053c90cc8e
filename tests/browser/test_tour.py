"""Who comes for the first time is told in three lines what there is, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import TIMEOUT
from tests.browser.visitor import Visitor
from tests.service import Service


@pytest.fixture(params=[1280, 360])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of a browser that was never used before."""
    with browser.new_context(viewport={"width": request.param, "height": 720}) as context:
        context.set_default_timeout(TIMEOUT)
        expect.set_options(timeout=TIMEOUT)
        yield context.new_page()


@pytest.mark.parametrize("view", ["", "#/browse"])
def test_the_tour_is_shown_once(page: Page, service: Service, view: str) -> None:
    page.goto(f"{service.url}/{view}")
    tour = page.get_by_role("complementary", name="How it works")
    expect(tour.get_by_role("listitem")).to_have_count(3)
    Visitor(page).meets_no_barrier()
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    # What it is about can be used beside it.
    if view:
        page.locator(".tile").first.click()
        expect(page.locator("#details-facts dt").first).to_be_visible()
        page.keyboard.press("Escape")

    while not tour.get_by_role("button").evaluate("one => one === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(tour).to_be_hidden()
    page.reload()
    expect(page.get_by_role("navigation")).to_be_visible()
    expect(tour).to_be_hidden()


def test_where_nothing_may_be_kept_there_is_none(page: Page, service: Service) -> None:
    page.add_init_script("""
        Object.defineProperty(window, 'localStorage', {
            get() { throw new DOMException('denied', 'SecurityError'); },
        });
    """)
    page.goto(service.url)
    expect(page.get_by_role("navigation")).to_be_visible()
    expect(page.get_by_role("complementary")).to_be_hidden()
