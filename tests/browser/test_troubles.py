"""What the page says when something is wrong, and that it goes on afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from cluster.service.http.guard import MAX_UPLOAD
from tests.browser.visitor import Visitor
from tests.conftest import PHOTOS, QUERIES, ROOT
from tests.servers import Server
from tests.service import Service

SHOWN = 24


@pytest.fixture(autouse=True)
def opened(visitor: Visitor, service: Service) -> None:
    visitor.page.goto(service.url)
    expect(visitor.page.get_by_text("154 images in the collection photos")).to_be_visible()


def still_works(visitor: Visitor) -> None:
    visitor.drop(QUERIES / "fish.jpg")
    visitor.sees(SHOWN)
    expect(visitor.page.get_by_role("alert")).to_be_empty()


def test_a_text_file(visitor: Visitor) -> None:
    visitor.drop(ROOT / "README.md")
    visitor.is_told("README.md is not an image: it is text/markdown.")
    still_works(visitor)


def test_a_text_file_that_looks_like_an_image(visitor: Visitor, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a photograph")
    visitor.drop(tmp_path / "notes.jpg")
    visitor.is_told("Not an image of a known format")
    # What the same image will get again is not offered.
    expect(visitor.page.get_by_role("button", name="Try again")).to_be_hidden()
    still_works(visitor)


def test_a_file_that_is_too_large_is_not_uploaded(visitor: Visitor, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_UPLOAD + 1)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    visitor.pick(large)
    visitor.is_told(f"images may have at most {MAX_UPLOAD // 1024**2} MB")
    assert not [url for url in asked if "/v1/search" in url]


def test_a_file_within_the_limit_is_left_to_the_service(visitor: Visitor, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(MAX_UPLOAD)
    with visitor.page.expect_response("**/v1/search*") as answer:
        visitor.pick(large)
    assert answer.value.status == 422
    visitor.is_told("Not an image of a known format")


def test_a_folder(visitor: Visitor, tmp_path: Path) -> None:
    visitor.drop(tmp_path)
    visitor.is_told("cannot be read")
    still_works(visitor)


def test_what_is_said_while_the_page_begins_stays(visitor: Visitor, service: Service) -> None:
    held: list[Route] = []
    visitor.page.route("**/v1/collections", lambda route: held.append(route))  # noqa: PLW0108 (Playwright wants a function)
    visitor.page.reload()
    visitor.search_address("windmill")
    visitor.is_told("That is no address of an image")
    held[0].continue_()
    expect(visitor.page.get_by_text("154 images in the collection photos")).to_be_visible()
    visitor.is_told("That is no address of an image")
    visitor.page.unroute("**/v1/collections")
    still_works(visitor)


def test_invalid_addresses(visitor: Visitor) -> None:
    visitor.search_address("windmill")
    visitor.is_told("That is no address of an image")
    field = visitor.page.get_by_label("Address of an image")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.press("Backspace")
    expect(field).not_to_have_attribute("aria-invalid", "true")


def test_an_image_that_is_not_indexed(visitor: Visitor) -> None:
    visitor.search_address("s3://photos/nowhere.jpg")
    visitor.is_told("s3://photos/nowhere.jpg", "not indexed")


def test_an_address_that_the_service_may_not_fetch(visitor: Visitor) -> None:
    visitor.search_address("http://169.254.169.254/latest/meta-data")
    visitor.is_told("169.254.169.254")


def test_an_upload_is_not_kept_beyond_the_page(visitor: Visitor) -> None:
    visitor.drop(QUERIES / "fish.jpg")
    visitor.sees(SHOWN)
    visitor.page.reload()
    visitor.is_told("Please choose it again.")
    still_works(visitor)


def test_a_network_that_is_down_for_a_while(visitor: Visitor) -> None:
    page = visitor.page
    page.context.set_offline(True)
    visitor.drop(QUERIES / "fish.jpg")
    visitor.is_told("The service cannot be reached.")
    again = page.get_by_role("button", name="Try again")
    again.click()
    visitor.is_told("The service cannot be reached.")
    page.context.set_offline(False)
    again.click()
    visitor.sees(SHOWN)
    expect(page.get_by_role("alert")).to_be_empty()


def test_a_redis_that_does_not_answer(visitor: Visitor, store_server: Server) -> None:
    with store_server.frozen():
        visitor.search_address((PHOTOS / "fish" / "clownfish.jpg").as_uri())
        visitor.is_told("The service is busy, or a part of it is missing.")
    visitor.page.get_by_role("button", name="Try again").click()
    visitor.sees(SHOWN)


def test_nothing_in_an_address_is_taken_for_markup(page: Page, visitor: Visitor) -> None:
    visitor.search_address("x://<img src=x onerror=alert(1)>/<b>bold</b>")
    visitor.is_told("<b>bold</b>")
    assert page.locator("b").count() == 0
