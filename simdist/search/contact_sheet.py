"""One picture of searches: each query beside what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING
from urllib.parse import unquote

from PIL import Image, ImageDraw, ImageFont, ImageOps

from simdist.errors import ImageError, OutputError, Remedy, SourceError, UsageError
from simdist.images.decoding import open_image
from simdist.sources import local_path, read_bytes

if TYPE_CHECKING:
    from simdist.search.query import Query
    from simdist.search.question import Hit

SIDE = 224
GAP = 16
CAPTION = 44
COLUMNS = 5
FONT_SIZE = 15
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

_CELL_WIDTH, _CELL_HEIGHT = SIDE + GAP, SIDE + CAPTION + GAP
# A gap more behind the query sets it apart.
_QUERY_WIDTH = GAP + _CELL_WIDTH + GAP
_BACKGROUND, _INK, _FAINT = "#ffffff", "#1a1a1a", "#6b6b6b"
_FRAME = "#1668c7"


def contact_sheet(searches: Sequence[tuple[Query, Sequence[Hit]]]) -> Image.Image:
    """Draw each query at the left and its hits beside it, with scores and file names.

    Args:
        searches: what was searched with and what was found; hits beyond `COLUMNS` go on below.

    Returns:
        An RGB picture.
    """
    most = max((len(hits) for _, hits in searches), default=0)
    lines = [max(1, -(-len(hits) // COLUMNS)) for _, hits in searches]
    width = _QUERY_WIDTH + max(1, min(COLUMNS, most)) * _CELL_WIDTH
    sheet = Image.new("RGB", (width, GAP + sum(lines) * _CELL_HEIGHT), _BACKGROUND)
    top = GAP
    for (query, hits), height in zip(searches, lines, strict=True):
        _draw_search(sheet, top, query, hits)
        top += height * _CELL_HEIGHT
    return sheet


def _draw_search(sheet: Image.Image, top: int, query: Query, hits: Sequence[Hit]) -> None:
    if query.uri is None:
        _draw_cell(sheet, (GAP, top), _written(query.name), "query", "")
    else:
        _draw_cell(sheet, (GAP, top), query.picture(), "query", _file_name(query.uri))
    frame = (GAP - 4, top - 4, GAP + SIDE + 3, top + SIDE + 3)
    ImageDraw.Draw(sheet).rectangle(frame, outline=_FRAME, width=3)
    for rank, hit in enumerate(hits):
        line, column = divmod(rank, COLUMNS)
        corner = (_QUERY_WIDTH + column * _CELL_WIDTH, top + line * _CELL_HEIGHT)
        title = f"{rank + 1}.  {hit.score:.3f}" + (f"  {hit.label}" if hit.label else "")
        _draw_cell(sheet, corner, _picture(hit.uri), title, _file_name(hit.uri))


def check_target(path: Path) -> None:
    """Check, before the work is done, that a contact sheet can be written to a path.

    Raises:
        UsageError: its suffix is not one of `SUFFIXES`, or its folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} must end in {', '.join(SUFFIXES)}")
    if not local_path(str(path)).parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder: make it first")


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format that its suffix names.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        picture.save(local_path(str(path)))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def show_picture(picture: Image.Image) -> None:
    """Open a picture in the desktop's viewer.

    Raises:
        OutputError: there is no viewer.
    """
    from PIL import ImageShow

    if not ImageShow.show(picture, "simdist"):
        raise OutputError(
            "there is no picture viewer here: write the contact sheet to a file instead",
            remedy=Remedy.OUT,
        )


def _picture(uri: str) -> Image.Image | None:
    try:
        return open_image(read_bytes(uri), at_least=SIDE)
    except (SourceError, ImageError, UsageError):
        # Moved or changed since it was indexed: its frame stays empty, and says so.
        return None


def _written(words: str) -> Image.Image:
    """Words as a picture, as many as it has room for."""
    picture = Image.new("RGB", (SIDE, SIDE), _BACKGROUND)
    font = ImageFont.load_default(FONT_SIZE)
    lines = wrap(_printable(words), width=SIDE // (FONT_SIZE // 2) - 4, max_lines=10)
    draw = ImageDraw.Draw(picture)
    draw.multiline_text((10, 10), "\n".join(lines), fill=_INK, font=font)
    return picture


def _draw_cell(
    sheet: Image.Image, corner: tuple[int, int], picture: Image.Image | None, title: str, name: str
) -> None:
    left, top = corner
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    if picture is None:
        draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline=_FAINT)
        draw.text((left + 10, top + 10), "cannot be read", fill=_FAINT, font=font)
    else:
        fitted = ImageOps.contain(picture, (SIDE, SIDE))
        offset = ((SIDE - fitted.width) // 2, (SIDE - fitted.height) // 2)
        sheet.paste(fitted, (left + offset[0], top + offset[1]))
    below = top + SIDE + 5
    draw.text((left, below), _shortened(title, font), fill=_INK, font=font)
    draw.text((left, below + FONT_SIZE + 4), _shortened(name, font), fill=_FAINT, font=font)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    text = _printable(text)
    if font.getlength(text) <= SIDE:
        return text
    # Both ends are kept: names often differ only in their last digits.
    keep = len(text)
    while keep > 2 and font.getlength(_without_middle(text, keep)) > SIDE:
        keep -= 1
    return _without_middle(text, keep)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _without_middle(text: str, keep: int) -> str:
    head = (keep + 1) // 2
    return f"{text[:head]}...{text[len(text) - (keep - head) :]}"


def _file_name(uri: str) -> str:
    return unquote(uri.rpartition("/")[2], errors="replace")
