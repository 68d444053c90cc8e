"""The page's own file is what a browser makes of it: each element ends where it says so."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

PAGE = Path(__file__).parents[2] / "cluster" / "page" / "index.html"
# Those that have no end.
VOID = {"br", "img", "input", "link", "meta"}


class Nesting(HTMLParser):
    """Reads a page, and notes what ends in place of another element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[tuple[int, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        inner = self.open.pop()
        if inner != tag:
            self.wrong.append((self.getpos()[0], inner, tag))


def test_elements_nest() -> None:
    page = Nesting()
    page.feed(PAGE.read_text("utf-8"))
    page.close()
    assert page.wrong == []
    assert page.open == []
