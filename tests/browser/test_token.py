"""A service that asks for a token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitor import Visitor
from tests.conftest import QUERIES
from tests.servers import Server
from tests.service import Service, running_service

SHOWN = 24
TOKEN = "for-reading-and-no-more"


@pytest.fixture(scope="module")
def locked(chromium: str, store_server: Server) -> Iterator[Service]:
    """A service of one collection."""
    with running_service(store_server.url, SIMDIST_READ_TOKENS=TOKEN) as started:
        yield started


def unlock(page: Page, token: str) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Unlock").click()


def test_a_token_is_asked_for_and_sent(visitor: Visitor, locked: Service) -> None:
    page = visitor.page
    page.goto(locked.url)
    expect(page.get_by_label("Access token")).to_be_focused()
    expect(page.get_by_text("Choose an image")).to_be_hidden()
    unlock(page, "not-the-token-of-it")
    expect(page.get_by_role("alert")).to_contain_text("does not accept this token")
    # Nothing that HTTP could not send is tried.
    unlock(page, "pässword")
    assert page.get_by_label("Access token").evaluate("field => field.validity.patternMismatch")
    unlock(page, f" {TOKEN} ")
    expect(page.get_by_text("Choose an image")).to_be_visible()
    expect(page.get_by_label("Access token")).to_be_hidden()
    expect(page.get_by_role("alert")).to_be_empty()

    visitor.drop(QUERIES / "windmill.jpg")
    [(uri, _), *_] = visitor.sees(SHOWN)
    assert "windmill" in uri
    sources = page.locator("li img").evaluate_all("all => all.map(img => img.src)")
    assert all(source.startswith("blob:") for source in sources)
    page.get_by_role("list").get_by_role("link").first.click()
    visitor.asked_by(uri.rpartition("/")[2])

    # The tab keeps it, others do not have it.
    page.reload()
    visitor.asked_by(uri.rpartition("/")[2])
    visitor.sees(SHOWN)
    with page.context.new_page() as other:
        other.goto(page.url)
        expect(other.get_by_label("Access token")).to_be_visible()
        unlock(other, TOKEN)
        # What its address asks for is answered then.
        Visitor(other).sees(SHOWN)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    visitor: Visitor, locked: Service, scheme: Literal["light", "dark"]
) -> None:
    page = visitor.page
    page.emulate_media(color_scheme=scheme)
    page.goto(locked.url)
    expect(page.get_by_label("Access token")).to_be_focused()
    visitor.meets_no_barrier()
    unlock(page, "not-the-token-of-it")
    expect(page.get_by_role("alert")).to_contain_text("does not accept")
    visitor.meets_no_barrier()
    unlock(page, TOKEN)
    expect(page.get_by_text("Choose an image")).to_be_visible()
    # There is nothing to choose from.
    expect(page.get_by_label("Collection")).to_be_hidden()
    visitor.drop(QUERIES / "windmill.jpg")
    visitor.sees(SHOWN)
    visitor.meets_no_barrier()
