"""Searching in the page as a person does: what is seen is what the service answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.visitor import Visitor
from tests.conftest import PHOTOS, QUERIES
from tests.servers import eventually
from tests.service import Service

WINDMILL, FISH, TOOL = (QUERIES / f"{name}.jpg" for name in ("windmill", "fish", "tool"))
SHOWN = 24


def answered(service: Service, *, file: Path | None = None, **asked: Any) -> list[tuple[str, str]]:
    """What the service answers, by its API, as the page shows it."""
    options = {"n": SHOWN} | asked
    if file is None:
        answer = service.post("/v1/search", json=options)
    else:
        headers = {"Content-Type": "image/jpeg"}
        data = file.read_bytes()
        answer = service.post("/v1/search", data=data, params=options, headers=headers)
    answer.raise_for_status()
    return [(hit["uri"], f"{hit['score']:.3f}") for hit in answer.json()["hits"]]


def test_an_image_that_is_dropped_finds_its_neighbours(visitor: Visitor, service: Service) -> None:
    visitor.page.goto(service.url)
    visitor.drop(WINDMILL)
    seen = visitor.sees(SHOWN)
    assert seen == answered(service, file=WINDMILL)
    assert all("windmill" in uri for uri, _ in seen[:4])
    visitor.asked_by("windmill.jpg")
    first = visitor.page.get_by_role("list").get_by_role("link").first
    expect(first).to_contain_text("renewable-energy")
    expect(first).to_contain_text(unquote(seen[0][0]).rpartition("/")[2])


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("width", [320, 600, 800, 896])
def test_nothing_moves_from_under_a_finger(
    visitor: Visitor, service: Service, browser: Browser, width: int, first: bool
) -> None:
    """What the service answers, late, is shown where there is room for it."""
    # Who is here for the first time sees the tour.
    page, held = browser.new_page() if first else visitor.page, list[Route]()
    page.route("**/v1/collections", lambda route: held.append(route))  # noqa: PLW0108
    page.set_viewport_size({"width": width, "height": 640})
    page.goto(service.url)
    button, choice = page.get_by_text("Choose an image"), page.get_by_label("Collection")
    before = button.bounding_box()
    while not held:
        page.wait_for_timeout(10)
    expect(choice).to_be_hidden()
    held[0].continue_()
    expect(choice).to_be_visible()
    assert button.bounding_box() == before
    choice.evaluate("one => one.append(new Option('a-long-name-'.repeat(20)))")
    assert button.bounding_box() == before
    if first:
        page.close()


def test_the_question_is_beside_its_answers(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    page.goto(service.url)
    visitor.drop(WINDMILL)
    visitor.sees(SHOWN)
    page.evaluate("scrollTo(0, 0)")
    question, answers = (
        page.locator("#query").bounding_box(),
        page.locator("#results").bounding_box(),
    )
    assert question
    assert answers
    assert question["x"] + question["width"] < answers["x"]
    assert answers["y"] < question["y"] + question["height"]
    # It belongs to its view: in another one it is not to be seen.
    page.get_by_role("link", name="Browse").click()
    expect(page.locator(".tile").first).to_be_visible()
    expect(page.locator("#results")).to_be_hidden()


def test_an_image_is_chosen_with_the_button(visitor: Visitor, service: Service) -> None:
    visitor.page.goto(service.url)
    visitor.pick(FISH)
    assert visitor.sees(SHOWN) == answered(service, file=FISH)
    # The same file once more is asked for once more.
    with visitor.page.expect_response("**/v1/search*"):
        visitor.pick(FISH)
    visitor.asked_by("fish.jpg")


def test_an_image_is_pasted_from_the_clipboard(visitor: Visitor, service: Service) -> None:
    visitor.page.goto(service.url)
    visitor.drop(TOOL)
    [(first, _), *_] = visitor.sees(SHOWN)
    visitor.copy_image(visitor.page.locator("li img").first.get_attribute("src") or "")
    visitor.paste()
    visitor.asked_by("image.png")
    # Its thumbnail, which is nearly itself.
    [(found, score), *_] = visitor.sees(SHOWN)
    assert found == first
    assert float(score) > 0.9


def test_an_address_is_typed_or_pasted(visitor: Visitor, service: Service) -> None:
    uri = (PHOTOS / "fish" / "clownfish.jpg").as_uri()
    visitor.page.goto(service.url)
    visitor.search_address(uri)
    found = visitor.sees(SHOWN)
    visitor.asked_by("clownfish.jpg")
    assert found == answered(service, uri=uri)
    assert found[0] == (uri, "1.000")

    other = (PHOTOS / "animals" / "owl.jpg").as_uri()
    visitor.copy_text(other)
    visitor.page.get_by_role("heading", level=2).focus()
    visitor.paste()
    expect(visitor.page).to_have_title("owl.jpg · simdist")
    assert visitor.sees(SHOWN) == answered(service, uri=other)


def test_a_result_is_searched_by_and_the_way_back_is_remembered(
    visitor: Visitor, service: Service
) -> None:
    page = visitor.page
    page.goto(service.url)
    visitor.drop(WINDMILL)
    before = visitor.sees(SHOWN)
    third = page.get_by_role("list").get_by_role("link").nth(2)
    third.scroll_into_view_if_needed()
    third.click()
    name = before[2][0].rpartition("/")[2]
    visitor.asked_by(name)
    expect(page).to_have_title(f"{name} · simdist")
    after = visitor.sees(SHOWN)
    assert after == answered(service, uri=before[2][0])
    assert after[0] == (before[2][0], "1.000")
    expect(page.get_by_role("list").get_by_role("link").first).to_have_attribute(
        "aria-current", "true"
    )

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.go_back()
    visitor.asked_by("windmill.jpg")
    assert visitor.sees(SHOWN) == before
    page.go_forward()
    visitor.asked_by(name)
    assert visitor.sees(SHOWN) == after
    # Nothing was uploaded, or searched for, again.
    assert not [url for url in asked if "/v1/search" in url]

    # Its address leads to it, in whichever tab.
    page.reload()
    visitor.asked_by(name)
    assert visitor.sees(SHOWN) == after
    page.get_by_role("link", name="simdist").click()
    expect(page.get_by_role("heading", name="Find similar images")).to_be_visible()
    expect(page.get_by_role("list")).to_be_hidden()


def test_number_and_label_are_chosen(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    page.goto(service.url)
    visitor.drop(FISH)
    visitor.sees(SHOWN)
    page.get_by_label("Results").select_option("48")
    assert visitor.sees(48) == answered(service, file=FISH, n=48)
    label = page.locator("#label")
    label.fill("tools")
    label.press("Enter")
    found = answered(service, file=FISH, n=48, label="tools")
    assert visitor.sees(len(found)) == found
    assert all("/tools/" in uri for uri, _ in found)
    # They hold for what is asked next.
    page.get_by_role("list").get_by_role("link").first.click()
    found = answered(service, uri=found[0][0], n=48, label="tools")
    assert visitor.sees(len(found)) == found
    label.fill("no such label")
    label.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text("Nothing similar")
    expect(page.get_by_text("No image has the label “no such label”")).to_be_visible()
    page.go_back()
    assert visitor.sees(len(found)) == found
    label.fill("")
    label.press("Enter")
    visitor.sees(48)


def test_a_filter_is_typed(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    page.goto(service.url)
    visitor.drop(FISH)
    visitor.sees(SHOWN)
    field = page.get_by_role("searchbox", name="Filter")

    def filtered(text: str) -> None:
        field.fill(text)
        field.press("Enter")

    where = 'label in ("tools", "monuments")'
    filtered(where)
    found = answered(service, file=FISH, where=where)
    assert visitor.sees(len(found)) == found
    assert all("/tools/" in uri or "/monuments/" in uri for uri, _ in found)
    # It holds for what is asked next, and beside a label.
    page.get_by_role("list").get_by_role("link").first.click()
    found = answered(service, uri=found[0][0], where=where)
    assert visitor.sees(len(found)) == found
    page.locator("#label").fill("tools")
    page.locator("#label").press("Enter")
    first = answered(service, uri=found[0][0], where=where, label="tools")
    assert visitor.sees(len(first)) == first
    page.locator("#label").fill("")
    page.locator("#label").press("Enter")
    assert visitor.sees(len(found)) == found
    # What is no filter is said, and can be corrected.
    filtered("label = tools and")
    visitor.is_told("The filter is not understood")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value("label = tools and")
    visitor.meets_no_barrier()
    filtered("price > 3")
    expect(page.get_by_role("heading", level=2)).to_have_text("Nothing similar")
    expect(page.get_by_text("No image passes the filter price > 3")).to_be_visible()
    expect(field).not_to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert")).to_be_empty()
    filtered("")
    visitor.sees(SHOWN)


def test_a_newer_search_cancels_the_older_one(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.goto(service.url)
    page.route("**/v1/search*", hold, times=1)
    with page.expect_request("**/v1/search*") as older:
        visitor.drop(WINDMILL)
    expect(page.get_by_role("status")).to_have_text("Searching…")
    with page.expect_event("requestfailed") as cancelled:
        visitor.drop(FISH)
    assert cancelled.value == older.value
    assert visitor.sees(SHOWN) == answered(service, file=FISH)
    for route in held:
        route.continue_()
    expect(page.get_by_role("status")).to_have_text(f"{SHOWN} similar images")
    visitor.asked_by("fish.jpg")


def test_a_recall_that_was_measured_is_chosen(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    [photos, fish] = service.get("/v1/collections").json()["collections"]
    assert photos["recalls"]
    assert not fish["recalls"]
    page.goto(service.url)
    visitor.drop(FISH)
    visitor.sees(SHOWN)
    recall = page.get_by_label("Recall")
    expect(recall.get_by_role("option")).to_have_count(1 + len(photos["recalls"]))
    with page.expect_request("**/v1/search?*") as asked:
        recall.select_option(str(photos["recalls"][0]))
    assert f"recall={photos['recalls'][0]}" in asked.value.url
    visitor.sees(SHOWN)
    # Of the other collection none was measured: none is offered or asked for.
    page.get_by_label("Collection").select_option("fish")
    expect(recall).to_be_hidden()
    found = answered(service, file=FISH, collection="fish")
    assert visitor.sees(SHOWN) == found
    # Results lead to others of their collection.
    page.get_by_role("list").get_by_role("link").nth(1).click()
    visitor.asked_by(found[1][0].rpartition("/")[2])
    assert visitor.sees(SHOWN) == answered(service, uri=found[1][0], collection="fish")
    # Such an image cannot be asked for in the other collection.
    page.get_by_label("Collection").select_option(photos["name"])
    expect(page.get_by_text("154 images in the collection photos")).to_be_visible()


def test_it_works_behind_a_prefix(visitor: Visitor, service: Service) -> None:
    """As a proxy serves it that has other things beside it."""
    page = visitor.page

    def strip(route: Route) -> None:
        route.continue_(url=route.request.url.replace("/images/search/", "/", 1))

    page.route(f"{service.url}/images/search/**", strip)
    page.goto(f"{service.url}/images/search/")
    visitor.drop(FISH)
    assert visitor.sees(SHOWN) == answered(service, file=FISH)
    sources = page.locator("li img").evaluate_all("all => all.map(img => img.src)")
    assert all("/images/search/v1/" in source for source in sources)


def test_nothing_in_the_index_is_taken_for_markup(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    uri, label = "urn:<b>bold</b>/fish.jpg", "<img src=x onerror=alert(1)>"
    named = {"uri": uri, "collection": "fish"}
    headers = {"Content-Type": "image/jpeg"}
    added = service.post(
        "/v1/images", params=named | {"label": label}, data=FISH.read_bytes(), headers=headers
    )
    assert added.status_code == 201, added.text
    try:
        eventually(lambda: answered(service, file=FISH, collection="fish")[0][0] == uri)
        page.goto(service.url)
        page.get_by_label("Collection").select_option("fish")
        visitor.drop(FISH)
        first = page.get_by_role("list").get_by_role("link").first
        expect(first).to_contain_text(label)
        expect(first).to_contain_text("urn:<b>bold</b>/")
        # Its thumbnail cannot be had: nothing broken is shown, and the others are.
        expect(first.locator("img")).to_have_class("missing")
        expect(first.locator("img")).to_be_hidden()
        assert page.locator("b, [src=x]").count() == 0
        # It can be searched by all the same, and by its name.
        first.click()
        expect(page.locator("[aria-current=true]")).to_contain_text(label)
        visitor.search_address(uri)
        expect(page.get_by_role("figure")).to_contain_text("urn:<b>bold</b>/")
        expect(page.locator("[aria-current=true]")).to_contain_text(label)
    finally:
        requests.delete(f"{service.url}/v1/images", params=named, timeout=60).raise_for_status()


@pytest.mark.parametrize("width", [320, 390, 800])
def test_nothing_is_wider_than_a_narrow_screen(
    visitor: Visitor, service: Service, width: int
) -> None:
    def fits(page: Page) -> bool:
        return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    page = visitor.page
    page.set_viewport_size({"width": width, "height": 640})
    page.goto(service.url)
    expect(page.get_by_role("heading", name="Find similar images")).to_be_visible()
    assert fits(page)
    visitor.pick(WINDMILL)
    visitor.sees(SHOWN)
    assert fits(page)
    visitor.search_address(f"s3://bucket/{'a-long-name-' * 20}")
    visitor.is_told("a-long-name-")
    assert fits(page)
