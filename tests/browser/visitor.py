"""Who visits the service's page: what they do to it, and what they see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

# In the browser: counts frames a second, and tasks that last, until `counted()` is asked.
COUNT_FRAMES = """() => {
    const began = performance.now();
    const tasks = [];
    let [frames, last, counting] = [0, began, true];
    new PerformanceObserver(list => tasks.push(...list.getEntries().map(one => one.duration)))
        .observe({type: 'longtask'});
    const count = () => {
        frames += 1;
        last = performance.now();
        counting && requestAnimationFrame(count);
    };
    requestAnimationFrame(count);
    window.counted = () => {
        counting = false;
        return [frames / (last - began) * 1000, tasks];
    };
}"""
# In the browser: every thumbnail was asked for, answered, and decoded.
_ALL_SEEN = "all => all.length > 0 && all.every(img => img.complete && img.naturalWidth > 0)"
_COPY = """async path => {
    const bitmap = await createImageBitmap(await (await fetch(path)).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext('2d').drawImage(bitmap, 0, 0);
    const png = await canvas.convertToBlob({type: 'image/png'});
    await navigator.clipboard.write([new ClipboardItem({'image/png': png})]);
}"""


@dataclass(frozen=True)
class Visitor:
    """Somebody before a page."""

    page: Page

    def drop(self, *files: Path, curtain: str = "Drop it to find similar images") -> None:
        """Drag files into the browser, and drop them; the page says what will become of them."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        session = self.page.context.new_cdp_session(self.page)
        for step in ("dragEnter", "dragOver", "drop"):
            event: Any = {"type": step, "x": 200, "y": 200, "data": data}
            session.send("Input.dispatchDragEvent", event)
            if step == "dragOver":
                expect(self.page.get_by_text(curtain)).to_be_visible()
        session.detach()

    def pick(self, file: Path) -> None:
        """Choose a file with the button."""
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_text("Choose an image").click()
        chooser.value.set_files(file)

    def copy_image(self, path: str) -> None:
        """Copy an image of the site to the clipboard."""
        self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page.evaluate(_COPY, path)

    def copy_text(self, text: str) -> None:
        """Copy a text to the clipboard."""
        self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page.evaluate("text => navigator.clipboard.writeText(text)", text)

    def paste(self) -> None:
        """Paste what was copied."""
        self.page.keyboard.press("Control+V")

    def search_address(self, address: str) -> None:
        """Type an address and press Enter."""
        field = self.page.get_by_label("Address of an image")
        field.fill(address)
        field.press("Enter")

    def sees(self, count: int) -> list[tuple[str, str]]:
        """So many results, and all of their thumbnails; returns their URIs and scores."""
        tiles = self.page.get_by_role("list").get_by_role("link")
        expect(self.page.locator("[aria-busy]")).to_have_attribute("aria-busy", "false")
        expect(self.page.get_by_role("heading", level=2)).to_have_text(f"{count} similar images")
        expect(tiles).to_have_count(count)
        # They are loaded when they are about to be seen.
        for row in tiles.all()[::4]:
            row.scroll_into_view_if_needed()
        self.page.wait_for_function(
            f"() => ({_ALL_SEEN})([...document.querySelectorAll('li img')])"
        )
        return [
            (tile.get_attribute("title") or "", tile.locator(".score").inner_text())
            for tile in tiles.all()
        ]

    def asked_by(self, name: str) -> None:
        """The image that is searched by has this name, and can be seen."""
        expect(self.page.get_by_role("figure").get_by_text(name)).to_be_visible()
        self.page.wait_for_function(f"() => ({_ALL_SEEN})([document.querySelector('figure img')])")

    def is_told(self, *parts: str) -> None:
        """There is an error that says so, and no result."""
        for part in parts:
            expect(self.page.get_by_role("alert")).to_contain_text(part)
        expect(self.page.get_by_role("list")).to_be_hidden()

    def meets_no_barrier(self, *, rules: int = 20) -> None:
        """None of axe-core's rules for accessible pages is broken, and more than so many apply."""
        results = Axe().run(self.page, options={})
        assert results.violations_count == 0, results.generate_report()
        assert len(results.response["passes"]) > rules
