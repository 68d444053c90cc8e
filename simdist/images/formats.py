"""What a file is, by its first bytes, and what opens it."""

from __future__ import annotations

import re
from functools import lru_cache

from simdist.errors import ImageError

# As messages name them; all but RAW and JPEG XL are opened by Pillow's plugins of these names.
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF", "JXL", "JPEG2000", "PSD"),
    "RAW",
)

SIGNATURE = 64  # bytes that say what a file is
_TEXT = 1024  # of which an SVG's element may begin

_BEGINNINGS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "JXL": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    "JPEG2000": (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
    "PSD": (b"8BPS",),
    "RAW": (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM"),
}
_BRANDS = {
    "AVIF": {b"avif", b"avis"},
    "HEIF": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"},
    "RAW": {b"crx "},
}
_NOT_READ = {
    "an SVG drawing": re.compile(
        rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.*?)?(?:<!.*?)?<svg[\s>]", re.DOTALL
    ),
    "a PDF document": re.compile(rb"%PDF-"),
    "a PostScript drawing": re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"),
    "a film": re.compile(rb"....ftyp|....moov|\x1a\x45\xdf\xa3|RIFF....AVI ", re.DOTALL),
}


def format_of(data: bytes) -> str | None:
    """Which of `FORMATS` a file's bytes begin as; a BMP takes only two for that."""
    if data[4:8] == b"ftyp":
        size = max(16, min(int.from_bytes(data[:4], "big"), SIGNATURE))
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
        return next((name for name, known in _BRANDS.items() if brands & known), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in _BEGINNINGS["TIFF"] and data[8:10] == b"CR":
        return "RAW"
    return next((name for name, begin in _BEGINNINGS.items() if data.startswith(begin)), None)


def begins_as_image(data: bytes) -> bool:
    """Whether a file of an unknown kind begins as an image; a text may begin as a BMP."""
    form = format_of(data)
    return form is not None and (form != "BMP" or data[6:10] == bytes(4))


def known_format(data: bytes) -> str:
    """As `format_of`.

    Raises:
        ImageError: none of them; what it is instead, where that is known.
    """
    if form := format_of(data):
        load_plugin(form)
        return form
    for name, pattern in _NOT_READ.items():
        if pattern.match(data[:_TEXT]):
            raise ImageError(f"{name}, which is not read: not an image of a known format")
    raise ImageError(f"not an image of a known format ({', '.join(FORMATS)})")


@lru_cache(maxsize=len(FORMATS))
def load_plugin(form: str) -> None:
    """Have Pillow know a format; with one thread, since as many images are decoded side by side."""
    match form:
        case "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
        case "AVIF":
            from PIL import AvifImagePlugin

            AvifImagePlugin.DEFAULT_MAX_THREADS = 1
