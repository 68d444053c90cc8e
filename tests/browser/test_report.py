"""The page of duplicates, in a browser: all is shown, and nothing is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request

from simdist.embedding import Embedder
from simdist.joining.duplicates import find_duplicates
from simdist.joining.report import GROUPS, write_report
from simdist.store import Store
from tests.copies import index, make_copies


@pytest.mark.parametrize("store", ["valkey"], indirect=True)
def test_the_report_shows_every_image(
    browser: Browser, store: Store, embedder: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "<b>copies & more").mkdir()
    collection = index(store, embedder, make_copies(tmp_path / "<b>copies & more"))
    found = find_duplicates(collection)
    # So many that there are two pages.
    groups = found.groups() * (GROUPS // 3 + 1)
    path = tmp_path / "report.html"
    write_report(found, groups, path, title="<i>shop", on_progress=lambda *_: None)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    asked: list[str] = []
    said: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    assert page.title() == "Duplicates in <i>shop"
    widths = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) == sum(map(len, groups[:GROUPS]))
    assert min(widths) > 0
    # No wider than a phone.
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("li.keep").count() == GROUPS
    page.get_by_role("link", name="2").first.click()
    assert page.url.endswith("report-2.html")
    assert page.locator("h2").count() == len(groups) - GROUPS
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert said == []
    page.close()
