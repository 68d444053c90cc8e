"""Duplicates gone through in the page: by mouse, by keyboard alone, on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from playwright.sync_api import Browser, Page, ViewportSize, expect

from cluster.service.config import Tokens, token_digest
from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.joining.decisions import Decisions
from simdist.store import connect
from tests.browser.visitor import Visitor
from tests.callers import application, serving
from tests.conftest import LONG
from tests.copies import index_groups, make_groups
from tests.servers import Server, running, valkey
from tests.service import Service, running_service

GROUPS = 10
# Gone through by keyboard.
MANY = 1200 if LONG else 24
NAMES = ("mouse", "keys", "phone", "seen", "removed", "odd")
READ, WRITE = "for-reading-and-no-more", "for-writing-and-reading"
# What a person may be shown of a name; none of it may become more than text.
ODD = (
    "0000-<img src=x onerror=alert(1)>.jpg",
    "0000-\u202egpj.exe-\u0645\u0631\u062d\u0628\u0627.jpg",
    "0000-'\"&amp;<b>bold.jpg",
    f"0000-{'long-' * 40}.jpg",
    "0000-\t\x07\x7f.jpg",
)


@pytest.fixture(scope="module")
def store_server(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Server]:
    """A Valkey with a collection of duplicates for each test that decides about them."""
    folder = tmp_path_factory.mktemp("duplicates")
    for name in NAMES:
        (folder / name).mkdir()
        if name == "odd":
            make_groups(folder / name, 1)
            for odd in ODD:
                (folder / name / odd).write_bytes((folder / name / "0000-a.jpg").read_bytes())
        else:
            make_groups(folder / name, MANY if name == "keys" else GROUPS)
    with running(valkey(), folder / "valkey") as server:
        for name in NAMES:
            index_groups(connect(server.url), embedder.model, folder / name, name=name)
        yield server


@pytest.fixture(scope="module")
def site(store_server: Server) -> Iterator[str]:
    """The application of a worker, and what finds duplicates, over HTTP."""
    with serving(application(connect(store_server.url), NAMES)) as url:
        yield url


# Milliseconds: until what finds duplicates has started, and found them.
FOUND = 180_000


def open_view(page: Page, site: str, name: str) -> None:
    page.goto(f"{site}/#/duplicates?collection={name}")
    found(page)


def found(page: Page) -> None:
    expect(page.locator("#duplicates-where")).to_contain_text("Group ", timeout=FOUND)


def shows(page: Page, number: int, total: int) -> None:
    expect(page.locator("#duplicates-where")).to_have_text(f"Group {number:,} of {total:,}")


def states(page: Page) -> list[str]:
    return page.locator("#duplicates-group .state").all_inner_texts()


def decisions(server: Server, name: str) -> Decisions:
    return Decisions.read(Collection.open(connect(server.url), name))


def stem(uri: str) -> str:
    return uri.rpartition("/")[2]


def test_by_mouse(page: Page, site: str, store_server: Server) -> None:
    page.goto(site)
    page.get_by_label("Collection").select_option("mouse")
    page.get_by_role("link", name="Duplicates").click()
    found(page)
    shows(page, 1, GROUPS)
    cards = page.locator("#duplicates-group li")
    expect(cards).to_have_count(3)
    page.wait_for_function(
        "() => [...document.querySelectorAll('#duplicates-group img')]"
        ".every(img => img.naturalWidth > 0)"
    )
    # Size, date and form are side by side, and what differs is marked.
    expect(cards.nth(0)).to_contain_text("0000-a.jpg")
    expect(cards.nth(0).locator(".differs").first).to_have_text("320 \u00d7 240 largest")
    expect(cards.nth(0)).to_contain_text("2019-05-01")
    expect(cards.nth(2).locator(".differs").nth(2)).to_have_text("WebP")
    expect(cards.nth(0).locator(".state")).to_have_text("Kept by the rule")
    cards.nth(1).get_by_role("button", name="Remove").click()
    expect(cards.nth(1).locator(".state")).to_have_text("To be removed")
    cards.nth(2).get_by_role("button", name="Not a duplicate").click()
    page.get_by_role("button", name="Next", exact=True).click()
    shows(page, 2, GROUPS)
    page.get_by_role("button", name="Keep only 0001-a.jpg, remove 1 other").click()
    shows(page, 3, GROUPS)
    page.get_by_role("button", name="Keep all: no duplicates").click()
    shows(page, 4, GROUPS)
    page.get_by_role("button", name="Undo").click()
    shows(page, 3, GROUPS)
    page.get_by_role("button", name="Next undecided").click()
    shows(page, 4, GROUPS)
    expect(page).to_have_url(re.compile("group=4"))
    page.reload()
    shows(page, 4, GROUPS)
    for _ in range(3):
        page.get_by_role("button", name="Previous").click()
    shows(page, 1, GROUPS)
    assert states(page) == ["Kept by the rule", "To be removed", "Not a duplicate"]
    kept = decisions(store_server, "mouse")
    assert sorted(stem(uri) for uri, _ in kept.remove) == ["0000-b.jpg", "0001-b.jpg"]
    [pair] = kept.apart
    assert [stem(uri) for uri in pair] == ["0000-a.jpg", "0000-c.webp"]


def test_many_at_once_and_only_after_a_question(
    page: Page, site: str, store_server: Server
) -> None:
    open_view(page, site, "removed")
    page.locator("#duplicates-keep").select_option("the shortest path")
    expect(page.locator("#duplicates-group .state").first).to_have_text("Kept by the rule")
    page.get_by_role("button", name="By rule…").click()
    dialog = page.get_by_role("dialog")
    # Ten groups of two, and four of them have a third image.
    expect(dialog).to_contain_text("mark 14 other images for removal?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Nothing to remove")).to_be_disabled()
    page.get_by_role("button", name="By rule…").click()
    dialog.get_by_role("button", name="Mark 14 images").click()
    expect(page.get_by_role("button", name="Remove 14 images…")).to_be_visible()
    assert len(decisions(store_server, "removed").remove) == 14
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="Nothing to remove")).to_be_disabled()
    assert decisions(store_server, "removed") == Decisions()
    page.get_by_role("button", name="Keep only").click()
    page.get_by_role("button", name="Remove 2 images…").click()
    expect(dialog).to_contain_text("Files stay where they are")
    dialog.get_by_role("button", name="Remove 2 images").click()
    expect(page.get_by_text("2 images are removed.")).to_be_visible(timeout=FOUND)
    shows(page, 1, GROUPS - 1)
    assert len(Collection.open(connect(store_server.url), "removed")) == 24 - 2
    assert decisions(store_server, "removed") == Decisions()


@pytest.mark.timeout(3600 if LONG else 900)
def test_by_keyboard_alone_and_still_so_after_a_restart(
    page: Page, browser: Browser, site: str, store_server: Server
) -> None:
    """Through all groups, with another decision in each; a later service shows every one of it."""
    page.goto(site)
    page.get_by_label("Collection").select_option("keys")
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.textContent") != "Duplicates":
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    found(page)
    shows(page, 1, MANY)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next group")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    ways: list[tuple[list[str], str]] = [
        (["Enter"], "only"),
        (["ArrowRight", "r", "j"], "removed"),
        (["p", "ArrowDown"], "kept"),
        (["ArrowRight", "n", "u", "r", "u", "n", "j"], "apart"),
        (["a"], "all apart"),
        (["j"], "none"),
    ]
    longest = 0.0
    expected: dict[str, set[str]] = {"remove": set(), "keep": set(), "apart": set()}
    for number in range(MANY):
        shows(page, number + 1, MANY)
        keys, what = ways[number % len(ways)]
        for pressed in keys:
            page.keyboard.press(pressed)
        begun = page.evaluate("performance.now()")
        last = number == MANY - 1
        if not last:
            page.wait_for_function(
                "text => document.getElementById('duplicates-where').textContent === text",
                arg=f"Group {number + 2:,} of {MANY:,}",
                polling=5,
            )
            longest = max(longest, page.evaluate("performance.now()") - begun)
        others = [f"{number:04}-b.jpg", *([f"{number:04}-c.webp"] if number % 3 == 0 else [])]
        if what == "only":
            expected["remove"] |= {*others}
        elif what == "removed":
            expected["remove"].add(others[0])
        elif what == "kept":
            expected["keep"].add(f"{number:04}-a.jpg")
        elif what == "apart":
            expected["apart"].add(others[0])
        elif what == "all apart":
            expected["apart"] |= {*others}
    print(f"{MANY:,} groups, the longest way from one to the next {longest:.0f} ms")
    page.evaluate("() => new Promise(resolve => setTimeout(resolve, 1000))")
    kept = decisions(store_server, "keys")
    assert {stem(uri) for uri, _ in kept.remove} == expected["remove"]
    assert {stem(uri) for uri in kept.keep} == expected["keep"]
    assert {stem(other) for _, other in kept.apart} == expected["apart"]
    served = [word for name in NAMES for word in ("--collection", name)]
    with running_service(store_server.url, *served) as later:
        wanted = {"collection": "keys", "sought": "same"}
        groups = all_groups(later, wanted)
        shown = {
            stem(one["uri"]): one["decided"]
            for group in groups
            for one in group["images"]
            if one["decided"]
        }
        assert {name for name, what in shown.items() if what == "remove"} == expected["remove"]
        assert {name for name, what in shown.items() if what == "keep"} == expected["keep"]
        # What is no duplicate of it is in no group with it any more.
        together = [{stem(one["uri"]) for one in group["images"]} for group in groups]
        for name in expected["apart"]:
            assert not any({name, f"{name[:4]}-a.jpg"} <= group for group in together)
        with browser.new_context() as context:
            again = context.new_page()
            open_view(again, later.url, "keys")
            expect(again.locator("#duplicates-group .state").nth(1)).to_have_text("To be removed")
            expect(again.locator("#duplicates-remove")).to_contain_text(
                f"{len(expected['remove']):,} images"
            )


def all_groups(service: Service, wanted: dict[str, str]) -> list[dict[str, Any]]:
    """All groups, once they are found."""
    service.post("/v1/duplicates", json=wanted).raise_for_status()
    groups: list[dict[str, Any]] = []
    while True:
        parameters: dict[str, Any] = {**wanted, "n": 100, "offset": len(groups)}
        answer = service.get("/v1/duplicates", params=parameters).json()
        groups += answer["page"]
        if answer["state"] == "done" and len(groups) == answer["groups"]:
            return groups


def test_on_a_phone(browser: Browser, site: str, store_server: Server) -> None:
    screen = ViewportSize(width=390, height=800)
    with browser.new_context(viewport=screen, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        open_view(page, site, "phone")
        fits(page)
        page.locator("#duplicates-group li").nth(1).get_by_role("button", name="Remove").tap()
        expect(page.locator("#duplicates-group .state").nth(1)).to_have_text("To be removed")
        page.locator("#duplicates-group li").nth(2).locator("img").tap()
        page.get_by_role("button", name="Keep only 0000-c.webp").tap()
        shows(page, 2, GROUPS)
        fits(page)
        page.get_by_role("button", name="Undo").tap()
        shows(page, 1, GROUPS)
        page.get_by_role("button", name="By rule…").tap()
        expect(page.get_by_role("dialog")).to_be_in_viewport(ratio=1)
        fits(page)
    [(uri, _)] = decisions(store_server, "phone").remove
    assert stem(uri) == "0000-b.jpg"


def fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def group_shown(page: Page) -> None:
    shows(page, 1, GROUPS)


def decided(page: Page) -> None:
    page.keyboard.press("ArrowRight")
    page.keyboard.press("r")
    expect(page.locator("#duplicates-group .state").nth(1)).to_have_text("To be removed")
    page.keyboard.press("r")
    page.keyboard.press("p")
    expect(page.locator("#duplicates-group .state").nth(1)).to_have_text("Kept")
    page.keyboard.press("p")


def asked(page: Page) -> None:
    page.get_by_role("button", name="By rule…").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def keys_shown(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def lost(page: Page) -> None:
    page.context.set_offline(True)
    page.get_by_role("button", name="By rule…").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.context.set_offline(False)


@pytest.mark.parametrize("reach", [group_shown, decided, asked, keys_shown, lost])
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 320)])
def test_axe_finds_nothing(
    visitor: Visitor,
    site: str,
    reach: Callable[[Page], None],
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    visitor.page.emulate_media(color_scheme=scheme)
    visitor.page.set_viewport_size({"width": width, "height": 720})
    open_view(visitor.page, site, "seen")
    reach(visitor.page)
    fits(visitor.page)
    # Behind a dialog there is nothing to be met.
    visitor.meets_no_barrier(rules=10 if reach in (asked, keys_shown) else 20)


def test_what_could_not_be_saved_is_told_and_tried_again(page: Page, site: str) -> None:
    open_view(page, site, "seen")
    page.route("**/v1/duplicates/decisions", lambda route: route.abort())
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute("**/v1/duplicates/decisions")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_be_empty()
    shows(page, 1, GROUPS)
    # As it is in the collection, not as it was wished.
    assert states(page) == ["Kept by the rule", "Undecided", "Undecided"]


def test_hostile_names_are_text(page: Page, site: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    open_view(page, site, "odd")
    expect(page.locator("#duplicates-group li")).to_have_count(3 + len(ODD))
    texts = page.locator("#duplicates-group .name").all_inner_texts()
    assert "0000-<img src=x onerror=alert(1)>.jpg" in texts
    assert any("&amp;<b>bold" in text for text in texts)
    assert page.locator("#duplicates-group b, #duplicates-group [src=x]").count() == 0
    for place in range(3 + len(ODD)):
        page.locator("#duplicates-group li").nth(place).locator("img").click()
        expect(page.locator("#duplicates-group li.chosen")).to_have_count(1)
    fits(page)


def test_who_only_reads_sees_and_decides_nothing(visitor: Visitor, store_server: Server) -> None:
    tokens = Tokens(read=(token_digest(READ),), write=(token_digest(WRITE),))
    page = visitor.page
    with serving(application(connect(store_server.url), NAMES, tokens=tokens)) as locked:
        page.goto(f"{locked}/#/duplicates?collection=seen")
        page.get_by_label("Access token").fill(READ)
        page.get_by_role("button", name="Unlock").click()
        found(page)
        shows(page, 1, GROUPS)
        expect(page.get_by_text("takes a write token")).to_be_visible()
        expect(page.get_by_role("button", name="Remove")).to_have_count(0)
        page.wait_for_function(
            "() => [...document.querySelectorAll('#duplicates-group img')]"
            ".every(img => img.naturalWidth > 0 && img.src.startsWith('blob:'))"
        )
        for pressed in ("r", "p", "n", "Enter", "a"):
            page.keyboard.press(pressed)
        page.keyboard.press("j")
        shows(page, 2, GROUPS)
        visitor.meets_no_barrier()
        page.goto(f"{locked}/#/add?collection=seen")
        expect(page.locator("#add-refused")).to_contain_text("takes a write token")
        expect(page.get_by_text("Choose images")).to_be_hidden()
        visitor.meets_no_barrier()
        headers = {"Authorization": f"Bearer {WRITE}"}
        listed = requests.get(f"{locked}/v1/collections", headers=headers, timeout=60).json()
        assert all(one["writable"] for one in listed["collections"])
    assert decisions(store_server, "seen") == Decisions()


def test_there_is_nothing_to_go_through(
    page: Page, store_server: Server, embedder: Embedder, tmp_path: Path
) -> None:
    make_groups(tmp_path, 1)
    for copy in ("0000-b.jpg", "0000-c.webp"):
        (tmp_path / copy).unlink()
    index_groups(connect(store_server.url), embedder.model, tmp_path, name="alone")
    with serving(application(connect(store_server.url), ("alone",))) as other:
        page.goto(f"{other}/#/duplicates")
        expect(page.get_by_text("None of the 1 image is a duplicate.")).to_be_visible(timeout=FOUND)
