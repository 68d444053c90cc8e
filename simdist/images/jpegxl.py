"""JPEG XL: its codestream alone, whose size is known before it is decoded."""

from __future__ import annotations

from PIL import Image

from simdist.errors import ImageError
from simdist.images.limits import check_pixels

_BARE = b"\xff\x0a"
# ISO/IEC 18181-1, D.2: how many bits a side has, and width to height by their number.
_BITS = (9, 13, 18, 30)
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def open_jxl(data: bytes, *, max_pixels: int) -> Image.Image:
    """Decode the first frame, upright, with its profile and its EXIF in `info`.

    Boxes beside the codestream are not handed on: one may expand to any size.

    Raises:
        ImageError: too large, or damaged.
    """
    from pillow_jxl import Decoder

    stream, exif = _parts(data)
    width, height = _sides(stream)
    check_pixels(width, height, max_pixels)
    try:
        _, info, pixels, profile, _ = Decoder(num_threads=0)(stream)
    except RuntimeError as error:  # its text is for those who build it
        raise ImageError("damaged image: it is cut, or no JPEG XL that can be decoded") from error
    # It applies an orientation that turns the picture.
    if sorted((info.width, info.height)) != sorted((width, height)):
        raise ImageError("damaged image: it says of two sizes")
    mode = "F" if info.mode == "F;16" else info.mode
    picture = Image.frombytes(mode, (info.width, info.height), pixels)
    if profile:
        picture.info["icc_profile"] = bytes(profile)
    if exif:
        picture.info["exif"] = exif
    return picture


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """The codestream, and the EXIF that lies beside it."""
    if data.startswith(_BARE):
        return data, b""
    parts: list[bytes] = []
    exif, at = b"", 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = at + size if size else len(data)
        if end < at + head:
            break
        box = data[at + head : end]
        if kind == b"jxlc":
            parts.append(box)
        elif kind == b"jxlp":
            parts.append(box[4:])
        elif kind == b"Exif":
            # Behind its offset, which some writers leave out.
            offset = 0 if box[:2] in (b"II", b"MM") else 4 + int.from_bytes(box[:4], "big")
            exif = b"Exif\0\0" + box[offset:]
        at = end
    return b"".join(parts), exif


def _sides(stream: bytes) -> tuple[int, int]:
    """Width and height, as the stream's first bits have them."""
    bits, at = int.from_bytes(stream[2:16], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take(_BITS[take(2)]) + 1

    if not stream.startswith(_BARE):
        raise ImageError("damaged image: a JPEG XL without a codestream")
    small = take(1)
    height, ratio = side(), take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height
