"""Images added in the page: dropped, chosen, folders of them; what fails is named."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from cluster.service.embedder import EmbedWorker
from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.store import connect
from tests.browser.visitor import Visitor
from tests.callers import application, serving
from tests.conftest import PHOTOS
from tests.index_contents import contents
from tests.servers import Server, running, valkey

CURTAIN = "Drop it to add it"
FISH = sorted((PHOTOS / "fish").glob("*.jpg"))[:6]
NAMES = ("new", "other", "seen", "touched", "odd")


@pytest.fixture(scope="module")
def store_server(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Server]:
    """A Valkey with collections that have no images yet."""
    with running(valkey(), tmp_path_factory.mktemp("adding")) as server:
        for name in NAMES:
            Collection.ensure(connect(server.url), name, model=embedder.model)
        yield server


@pytest.fixture(scope="module")
def site(store_server: Server) -> Iterator[str]:
    """The application of a worker, and an embedder, over HTTP."""
    embeds = EmbedWorker("efficientnet-lite0", None)
    with serving(application(connect(store_server.url), NAMES, embedder=embeds)) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of photographs, with a folder in it, a copy, and files that are no images."""
    album = tmp_path / "album"
    (album / "more").mkdir(parents=True)
    for number, photo in enumerate(FISH):
        shutil.copy(photo, album / ("more" if number > 3 else ".") / photo.name)
    poor = io.BytesIO()
    Image.open(FISH[0]).save(poor, "JPEG", quality=30)
    (album / "poor copy.jpg").write_bytes(poor.getvalue())
    (album / "notes.txt").write_text("no image")
    (album / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    return album


def open_view(page: Page, site: str, name: str = "new") -> None:
    page.goto(f"{site}/#/add?collection={name}")
    expect(page.get_by_role("heading", name="Add images")).to_be_visible()
    expect(page.locator("#view-add[inert]")).to_have_count(0)


def test_what_does_nothing_yet_cannot_be_used(visitor: Visitor, site: str) -> None:
    """A file that was chosen before the view's module is there would be forgotten."""
    page, held = visitor.page, list[Route]()
    page.route("**/adding.js", lambda route: held.append(route))  # noqa: PLW0108
    page.goto(f"{site}/#/add?collection=seen")
    expect(page.get_by_text("Choose images")).to_be_visible()
    page.locator("#add-files").focus()
    assert page.evaluate("document.activeElement === document.body")
    for route in held:
        route.continue_()
    expect(page.locator("#view-add[inert]")).to_have_count(0)
    failed(page)


def finished(page: Page, text: str) -> None:
    expect(page.locator("#add-doing")).to_contain_text(text)


def uris(server: Server, name: str = "new") -> list[str]:
    collection = Collection.open(connect(server.url), name)
    return contents(collection) if collection.is_fitted() else []


def test_a_folder_is_dropped(
    visitor: Visitor, site: str, store_server: Server, folder: Path
) -> None:
    page = visitor.page
    open_view(page, site)
    page.locator("#add-label").fill("holiday")
    visitor.drop(folder, curtain=CURTAIN)
    finished(page, "7 images added, 1 failed.")
    finished(page, "1 file is no image, and left out.")
    failure = page.locator("#add-failures li")
    expect(failure).to_have_count(1)
    expect(failure).to_contain_text("album/broken.jpg")
    expect(failure).to_contain_text("Not an image of a known format")
    found = uris(store_server)
    assert len(found) == 7
    assert all(uri.startswith("urn:upload:") for uri in found)
    assert sorted(uri.partition("/")[2] for uri in found) == sorted(
        [
            *(f"album/{photo.name}" for photo in FISH[:4]),
            *(f"album/more/{photo.name}" for photo in FISH[4:]),
            "album/poor%20copy.jpg",
        ]
    )
    # What has come within the last second need not be known yet.
    page.wait_for_timeout(1500)
    visitor.drop(folder / "poor copy.jpg", curtain=CURTAIN)
    expect(page.locator("#add-done li")).to_have_count(8)
    expect(page.locator("#add-done .like").first).to_contain_text("the same picture as")


def test_files_are_chosen_and_what_failed_is_tried_again(
    page: Page, site: str, store_server: Server, folder: Path
) -> None:
    open_view(page, site, "other")

    def refuse(route: Route) -> None:
        if "uri" in route.request.url and FISH[1].name in route.request.url:
            problem = '{"status": 422, "detail": "not today"}'
            route.fulfill(status=422, body=problem, content_type="application/problem+json")
        else:
            route.continue_()

    page.route("**/v1/images?*", refuse)
    page.locator("#add-files").set_input_files(FISH[:3])
    finished(page, "2 images added, 1 failed.")
    expect(page.locator("#add-failures")).to_contain_text("Not today.")
    page.unroute("**/v1/images?*")
    page.get_by_role("button", name=f"Try again: {FISH[1].name}").click()
    finished(page, "3 images added.")
    expect(page.locator("#add-failed")).to_be_hidden()
    page.locator("#add-files").set_input_files(FISH[:3])
    finished(page, "3 images added.")
    expect(page.get_by_text("was there already")).to_have_count(3)
    assert len(uris(store_server, "other")) == 3
    page.locator("#add-folder").set_input_files(folder)
    finished(page, "7 images added, 1 failed.")
    page.locator("#add-done a").first.click()
    expect(page.get_by_role("heading", level=2).first).to_contain_text("similar image")


def test_by_keyboard_alone(page: Page, site: str) -> None:
    open_view(page, site)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "add-files":
            break
    assert page.evaluate(
        "getComputedStyle(document.querySelector('label[for=add-files]')).outlineStyle !== 'none'"
    )
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(FISH[5])
    finished(page, "1 image added.")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("fish")
    assert page.locator("#add-label").input_value() == "fish"


def hold_back(page: Page) -> list[Route]:
    """Let no image arrive at the service."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/v1/images?*", hold)
    return held


def let_go(page: Page, held: list[Route], count: int) -> None:
    """Let so many images arrive, once they are sent."""
    while len(held) < count:
        page.wait_for_timeout(50)
    for route in held:
        route.continue_()


def test_it_goes_on_while_other_views_are_shown(visitor: Visitor, site: str) -> None:
    page = visitor.page
    open_view(page, site)
    held = hold_back(page)
    visitor.drop(FISH[0], FISH[1], curtain=CURTAIN)
    page.get_by_role("link", name="Search").click()
    expect(page.get_by_role("heading", name="Find similar images")).to_be_visible()
    # Here, what is dropped is searched by.
    expect(page.locator("#curtain")).to_have_text("Drop it to find similar images")
    let_go(page, held, 2)
    page.get_by_role("link", name="Add", exact=True).click()
    finished(page, "2 images added.")


def test_it_can_be_stopped(page: Page, site: str) -> None:
    open_view(page, site)
    held = hold_back(page)
    page.locator("#add-files").set_input_files(FISH)
    finished(page, "0 of 6 images")
    page.get_by_role("button", name="Stop").click()
    let_go(page, held, 3)
    finished(page, "Stopped: 3 images were not sent.")


def empty(page: Page) -> None:
    expect(page.get_by_text("Drop images or folders here, or")).to_be_visible()


def done(page: Page) -> None:
    page.locator("#add-files").set_input_files(FISH[:2])
    finished(page, "2 images added.")


def failed(page: Page) -> None:
    broken = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"\xff\xd8"}
    page.locator("#add-files").set_input_files(broken)  # type: ignore[arg-type]
    expect(page.locator("#add-failures li")).to_have_count(1)


@pytest.mark.parametrize("reach", [empty, done, failed])
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
    assert visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visitor.meets_no_barrier()


def test_on_a_phone(browser: Browser, site: str) -> None:
    screen = ViewportSize(width=390, height=800)
    with browser.new_context(viewport=screen, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        open_view(page, site, "touched")
        with page.expect_file_chooser() as chooser:
            page.get_by_text("Choose images").tap()
        chooser.value.set_files(FISH[:2])
        finished(page, "2 images added.")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_hostile_names_are_text(page: Page, site: str, store_server: Server) -> None:
    open_view(page, site, "odd")
    page.set_viewport_size({"width": 390, "height": 800})
    names = [
        "<img src=x onerror=alert(1)>.jpg",
        "\u202egpj.exe \u0645\u0631\u062d\u0628\u0627.jpg",
        f"{'long-' * 40}.jpg",
        "\u00e9?#&+%.jpg",
    ]
    data = [photo.read_bytes() for photo in FISH]
    given = [
        {"name": name, "mimeType": "image/jpeg", "buffer": one}
        for name, one in zip(names, data, strict=False)
    ]
    page.locator("#add-files").set_input_files(given)  # type: ignore[arg-type]
    finished(page, f"{len(names)} images added.")
    assert page.locator("#add-done img").count() == 0
    assert set(page.locator("#add-done li a:first-child").all_inner_texts()) == {*names}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = uris(store_server, "odd")
    assert len(found) == len(names)
    assert all(uri.isascii() for uri in found)
