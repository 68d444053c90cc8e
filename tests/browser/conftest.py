"""The service, Debian's Chromium, and a visitor who has its page before them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.index.tuning import tune
from simdist.sources import ImageRef, list_folder, uri_path
from simdist.store import connect
from tests.browser.visitor import Visitor
from tests.conftest import PHOTOS
from tests.servers import Server, running, valkey
from tests.service import COLLECTION, Service, embedded_once, index_photos, running_service

# Without what a browser asks its maker for.
_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)
# What the page keeps of who has seen how it is used.
SEEN = "localStorage.setItem('simdist-tour', 'seen')"
# Milliseconds: ample on the slowest machine.
TIMEOUT = 60_000


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's Chromium; tests that need it are skipped where it is not installed."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("needs Debian's Chromium (apt-get install chromium)")
    return binary


@pytest.fixture(scope="package")
def store_server(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Server]:
    """A Valkey with two collections: all photographs, with measured recalls, and the fish."""
    with running(valkey(), tmp_path_factory.mktemp("page")) as server:
        tune(index_photos(server.url, embedder).partitions)
        refs = [ref for ref in list_folder(PHOTOS / "fish") if isinstance(ref, ImageRef)]
        fish = Collection.ensure(connect(server.url), "fish", model=embedder.model)
        fish.add(embedded_once(embedder, [uri_path(ref.uri) for ref in refs]), refs)
        yield server


@pytest.fixture(scope="package")
def service(chromium: str, store_server: Server) -> Iterator[Service]:
    """A service of both collections."""
    served = ("--collection", COLLECTION, "--collection", "fish")
    with running_service(store_server.url, *served, SIMDIST_FETCH_LOOPBACK="1") as started:
        yield started


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Not for the whole session: while Playwright runs, its thread can run no other event loop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*_QUIET])
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser with nothing of another test, in which the tour was seen."""
    context = browser.new_context()
    context.add_init_script(SEEN)
    context.set_default_timeout(TIMEOUT)
    expect.set_options(timeout=TIMEOUT)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """An empty page; whatever is shown in it breaks no Content-Security-Policy and no script."""
    page = context.new_page()
    wrong: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # A status that is no 2xx, or no answer: what the page makes of it is tested.
        if not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    # Asked for now, not just before a file is to be chosen: Chromium takes a key first that comes
    # right behind.
    page.on("filechooser", lambda _: None)
    yield page
    assert not wrong


@pytest.fixture
def visitor(page: Page) -> Visitor:
    """Somebody before an empty page."""
    return Visitor(page)
