"""For everyone: axe-core's rules in all states, and all by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitor import Visitor
from tests.conftest import QUERIES
from tests.service import Service

SHOWN = 24


def nothing_asked(visitor: Visitor) -> None:
    expect(visitor.page.get_by_text("154 images in the collection photos")).to_be_visible()


def found(visitor: Visitor) -> None:
    visitor.drop(QUERIES / "windmill.jpg")
    visitor.sees(SHOWN)


def found_by_result(visitor: Visitor) -> None:
    found(visitor)
    visitor.page.get_by_role("list").get_by_role("link").first.click()
    expect(visitor.page.locator("[aria-current=true]")).to_have_count(1)
    visitor.sees(SHOWN)


def found_nothing(visitor: Visitor) -> None:
    found(visitor)
    visitor.page.locator("#label").fill("none")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("heading", level=2)).to_have_text("Nothing similar")


def failed(visitor: Visitor) -> None:
    visitor.page.context.set_offline(True)
    visitor.drop(QUERIES / "windmill.jpg")
    expect(visitor.page.get_by_role("button", name="Try again")).to_be_visible()
    visitor.page.context.set_offline(False)


def refused(visitor: Visitor) -> None:
    visitor.search_address("windmill")
    visitor.is_told("no address")


States = pytest.mark.parametrize(
    "reach", [nothing_asked, found, found_by_result, found_nothing, failed, refused]
)


@States
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 320)])
def test_axe_finds_nothing(
    visitor: Visitor,
    service: Service,
    reach: Callable[[Visitor], None],
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    visitor.page.emulate_media(color_scheme=scheme)
    visitor.page.set_viewport_size({"width": width, "height": 720})
    visitor.page.goto(service.url)
    reach(visitor)
    visitor.meets_no_barrier()


def test_all_is_done_with_the_keyboard(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    page.goto(service.url)
    nothing_asked(visitor)
    views = ["Search", "Browse", "Duplicates", "Add"]
    stops = ["simdist", *views, "collection", "file", "address", "Search"]
    assert tab_through(page, len(stops)) == stops

    page.get_by_label("Address of an image").focus()
    page.keyboard.type((QUERIES.parent / "photos" / "fish" / "clownfish.jpg").as_uri())
    page.keyboard.press("Enter")
    seen = visitor.sees(SHOWN)
    stops = tab_through(page, 6)
    assert "label" in stops
    assert "n" in stops
    while not page.evaluate("document.activeElement.matches('li:nth-child(2) a')"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    visitor.asked_by(seen[1][0].rpartition("/")[2])
    # From where the new results begin, and that is in sight.
    heading = page.get_by_role("heading", level=2)
    expect(heading).to_be_focused()
    expect(heading).to_be_in_viewport()
    expect(page.get_by_role("status")).to_have_text(f"{SHOWN} similar images")
    page.go_back()
    expect(page).to_have_title("clownfish.jpg · simdist")
    assert visitor.sees(SHOWN) == seen


def tab_through(page: Page, stops: int) -> list[str]:
    """The names of the next stops of the Tab key, each of which shows that it has the focus."""
    names = []
    for _ in range(stops):
        page.keyboard.press("Tab")
        name, shown = page.evaluate("""() => {
            const stop = document.activeElement;
            const seen = stop.type === 'file' ? document.querySelector('label[for=file]') : stop;
            const {outlineStyle, outlineWidth} = getComputedStyle(seen);
            const shown = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2;
            return [stop.id || stop.textContent.trim(), shown];
        }""")
        assert shown, f"{name} does not show that it has the focus"
        names.append(name)
    return names


def test_nothing_moves_for_those_who_asked_for_that(page: Page, service: Service) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(service.url)
    nothing_asked(Visitor(page))
    moving = "document.getAnimations().length"
    page.evaluate("document.body.classList.add('busy')")
    assert page.evaluate(moving) == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0
