"""Files that every browser shows and a strict decoder refuses; and how much of a file is there."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
# Without which a PNG looks otherwise, or not at all.
_SHOWN = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"}


def mended(data: bytes, form: str) -> bytes | None:
    """The same picture without what hinders: None where nothing can be done.

    A JPEG gets its last two bytes, which some cameras leave out. Of a PNG the chunks remain that
    are shown: others may be damaged, or texts that expand without end.
    """
    if form == "JPEG":
        return data + b"\xff\xd9"
    if form != "PNG":
        return None
    chunks = [chunk for kind, chunk in _png_chunks(data) if kind in _SHOWN]
    return _PNG + b"".join(chunks)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that are there as a whole, and the beginning of the one that is not."""
    at = len(_PNG)
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at:end]
        at = end


def share(data: bytes, form: str, picture: Image.Image | None) -> float | None:
    """How much of a file is there, 0 to 1: of the bytes it says it has, or of its lines.

    Args:
        picture: as far as it was decoded.

    Returns:
        None where that cannot be said.
    """
    if size := _size_said(data, form):
        return len(data) / size if len(data) < size else None
    image = getattr(picture, "_im", None)
    # Lines that were not decoded are black.
    seen = image.getbbox() if image is not None else None
    if picture is None or seen is None or seen[3] >= picture.height:
        return None
    return float(seen[3] / picture.height)


def _size_said(data: bytes, form: str) -> int:
    """Bytes of the whole file, as far as its headers say; 0 where they do not."""
    if form == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if form == "BMP":
        return int.from_bytes(data[2:6], "little")
    if form not in ("AVIF", "HEIF") and not (form == "JXL" and data.startswith(b"\0\0\0\x0c")):
        return 0
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:
            break
        at += size
    return at
