"""How long does the page take to show a collection, and does it keep up when it is scrolled?

    python -m bench.gallery [FOLDER] [--images 100000] [--minutes 20]

Puts so many images in a collection, hard links of the photographs in FOLDER, with dates and random
vectors; their thumbnails are made for the first screens only. Then Chromium opens *Browse* in a
service that was just started: until its first screen has all of its pictures, with thumbnails that
have to be made, with such as are on disk, and once more. Then it scrolls, on all of a core and on a
quarter of it, and for so many minutes to and fro.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.sources import ImageRef, list_folder
from simdist.store import connect
from tests.browser.visitor import COUNT_FRAMES
from tests.servers import running, valkey
from tests.service import Service, running_service

PHOTOS = Path("examples/photos")
SCREEN: ViewportSize = {"width": 1280, "height": 800}
_BATCH = 8192
# In the page: whether all pictures in sight have come.
_SHOWN = """() => {
    const frame = document.getElementById('grid').getBoundingClientRect();
    const tiles = [...document.querySelectorAll('.tile')].filter(
        tile => tile.getBoundingClientRect().top < frame.bottom);
    return tiles.length > 8 && tiles.every(tile => tile.firstChild.naturalWidth > 0)
        && performance.now();
}"""
# Pixels a second, by the wheel.
_SPEEDS = (600, 1200, 2400, 6000)
# Scrolls so many pixels a frame, to and fro, for so many seconds.
_SCROLL = """async ([step, seconds]) => {
    const frame = document.getElementById('grid');
    const began = performance.now();
    while (performance.now() - began < 1000 * seconds) {
        const before = frame.scrollTop;
        frame.scrollTop += step;
        if (frame.scrollTop === before) {
            step = -step;
        }
        await new Promise(requestAnimationFrame);
    }
}"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=PHOTOS)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=20)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(valkey(), Path(folder) / "server") as server,
        sync_playwright() as playwright,
    ):
        _fill(server.url, _linked(arguments.folder, Path(folder), arguments.images))
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        data = str(Path(folder) / "data")
        for kind in ("made when they are asked for", "on disk"):
            with running_service(
                server.url, "--collection", "many", SIMDIST_DATA_DIR=data
            ) as service:
                print(f"a service that was just started, thumbnails {kind}: ", end="")
                _first_screen(browser, service)
                if kind == "on disk":
                    print("once more, by another browser: ", end="")
                    _first_screen(browser, service)
                    _scroll(browser, service, minutes=arguments.minutes)
        browser.close()


def _linked(photographs: Path, folder: Path, count: int) -> list[ImageRef]:
    """So many files, which take no room: those of a folder, over and over."""
    real = sorted(photographs.rglob("*.jpg"))
    for i in range(count):
        file = folder / "photos" / f"{2005 + i % 20}" / f"IMG_{i:07}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(_local(real[i % len(real)], folder), file)
    return [ref for ref in list_folder(folder / "photos") if isinstance(ref, ImageRef)]


def _local(file: Path, folder: Path) -> Path:
    """A copy beside which there can be links to it."""
    copy = folder / "originals" / file.name
    if not copy.exists():
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return copy


def _fill(url: str, refs: list[ImageRef]) -> None:
    store = connect(url)
    model = Embedder.load("efficientnet-lite0").model
    collection = Collection.ensure(store, "many", model=model)
    rng = np.random.default_rng(0)
    for start in range(0, len(refs), _BATCH):
        part = refs[start : start + _BATCH]
        vectors = rng.standard_normal((len(part), model.dim)).astype(np.float32)
        collection.add(vectors, [_dated(ref, start + i) for i, ref in enumerate(part)])
    store.close()
    print(f"{len(refs):,} images")


def _dated(ref: ImageRef, number: int) -> ImageRef:
    date = f"{2005 + number % 20}-{1 + number // 20 % 12:02}-{1 + number // 240 % 28:02}T10:00:00"
    return replace(ref, metadata={"width": 320, "height": 240, "format": "JPEG", "date": date})


@contextmanager
def _page(browser: Browser) -> Iterator[Page]:
    """In a browser that has seen nothing but the tour."""
    with browser.new_context(viewport=SCREEN) as context:
        context.add_init_script("localStorage.setItem('simdist-tour', 'seen')")
        yield context.new_page()


def _first_screen(browser: Browser, service: Service) -> None:
    with _page(browser) as page:
        # It has to start, and to find this machine.
        page.goto(f"{service.url}/healthz")
        page.goto(f"{service.url}/#/browse")
        ready = page.wait_for_function(_SHOWN, polling=20, timeout=60_000).json_value()
        print(f"all pictures of the first screen after {ready / 1000:.2f} s")


def _scroll(browser: Browser, service: Service, *, minutes: float) -> None:
    with _page(browser) as page:
        page.goto(f"{service.url}/#/browse")
        page.wait_for_function(_SHOWN, timeout=60_000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        for rate in (1, 4):
            session.send("Emulation.setCPUThrottlingRate", {"rate": rate})
            for speed in _SPEEDS:
                page.evaluate(COUNT_FRAMES)
                wheel = {"x": 700, "y": 400, "yDistance": -5 * speed, "speed": speed}
                mouse = wheel | {"gestureSourceType": "mouse"}
                session.send("Input.synthesizeScrollGesture", mouse)
                frames, tasks = page.evaluate("() => counted()")
                print(f"1/{rate} of a core, {speed} pixels a second: {frames:.1f} frames/s", end="")
                print(f", {len(tasks)} tasks of more than 50 ms", end="")
                print(f", the longest {max(tasks, default=0):.0f} ms")
        session.send("Emulation.setCPUThrottlingRate", {"rate": 1})
        ends = time.monotonic() + 60 * minutes
        while time.monotonic() < ends:
            page.evaluate(_SCROLL, [240, min(60, max(1, ends - time.monotonic()))])
            session.send("HeapProfiler.collectGarbage")
            kept = {
                one["name"]: one["value"]
                for one in session.send("Performance.getMetrics")["metrics"]
            }
            print(
                f"kept: {kept['JSHeapUsedSize'] / 1e6:.2f} MB, {kept['Nodes']:.0f} nodes",
                flush=True,
            )


if __name__ == "__main__":
    main()
