"""JPEG files, decoded and resized without the detours that Pillow takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from simdist.errors import ImageError

if TYPE_CHECKING:
    from simdist.images.limits import Pixels
    from simdist.images.resizing import Resize, Scaling

# Encoders write up to a dozen. Each scan passes over all pixels, and few bytes are enough for one:
# without a limit a file of 64 MB keeps a decoder busy for hours.
MAX_SCANS = 30
_SCAN, _END = b"\xda", b"\xd9"
_SCALES = (1, 2, 4, 8)
# Frame headers of what is coded line by line: baseline, and with more than 8 bits or tables.
_SEQUENTIAL = (0xC0, 0xC1)
_TABLES = (0xC4, 0xC8, 0xCC)  # of numbers between those of frames
# In a scan's data neither a stuffed zero nor a restart marker ends it.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")


def scale_for(width: int, height: int, *, at_least: int, max_pixels: int) -> int:
    """At which part of its sides to decode: 1, 2, 4 or 8.

    The smallest picture neither of whose sides falls below twice `at_least`: the resize that
    follows loses nothing by it. A smaller one, if that has more than `max_pixels`.
    """
    # Powers of two only: the other scales have no fast code, and are less like the full one.
    scale = max((s for s in _SCALES if min(width, height) >= s * 2 * at_least), default=1)
    while scale < _SCALES[-1] and width * height > scale * scale * max_pixels:
        scale *= 2
    return scale


def square(
    data: bytes,
    width: int,
    height: int,
    *,
    size: int,
    resize: Resize,
    scaling: Scaling | None,
    max_pixels: int,
) -> Pixels | None:
    """Decode a grey or YCbCr JPEG and resize it, with an antialiased filter.

    It is decoded at a reduced scale, see `scale_for`.

    Args:
        data: the file's bytes.
        width, height: what its header says, in pixels.
        size: width and height of the result, in pixels.
        resize: what becomes of a picture that is not square.
        scaling: how it is resized and cut; by default with a bilinear filter, after it is cut.
        max_pixels: to decode.

    Returns:
        (size, size, 3) uint8, RGB, as it is stored: its orientation is not looked at. None for
        what is damaged or rare; Pillow knows more about those.
    """
    import simplejpeg
    from torch import from_numpy
    from torch.nn.functional import interpolate

    at_least = scaling.side if scaling else size
    scale = scale_for(width, height, at_least=at_least, max_pixels=max_pixels)
    try:
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_width=-(-width // scale), min_height=-(-height // scale)
        )
    except ValueError:
        return None
    if scaling:
        return scaling.cut(Image.fromarray(pixels), resize, size)
    left, top, right, bottom = resize.box(pixels.shape[1], pixels.shape[0])
    pixels = np.ascontiguousarray(pixels[top:bottom, left:right])
    # Permuted with its batch: torch then sees that channels are last, and keeps them so.
    planes = from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized = interpolate(planes, size=(size, size), mode="bilinear", antialias=True)
    return np.asarray(resized[0].permute(1, 2, 0))


def check_scans(data: bytes) -> None:
    """Refuse a JPEG that takes hours to decode.

    Raises:
        ImageError: it has more than `MAX_SCANS` scans.
    """
    # Whatever else such a file carries, a film say, may hold those two bytes by chance.
    if data.count(b"\xff" + _SCAN) <= MAX_SCANS:
        return
    at, scans = 2, 0
    while (found := _MARKER.search(data, at)) and found[1] != _END:
        scans += found[1] == _SCAN
        if scans > MAX_SCANS:
            raise ImageError(f"a JPEG with more than {MAX_SCANS} scans")
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")


def held(data: bytes) -> float:
    """How many numbers for each pixel a decoder must hold at once, of 2 bytes each.

    None for what is coded line by line, in one scan of all its channels.
    """
    at, shares, sequential = 2, [1.0] * 4, False
    while at + 10 <= len(data) and data[at] == 0xFF:
        kind, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xFF:  # a byte to fill
            at += 1
            continue
        if kind == _SCAN[0]:
            return 0 if sequential and data[at + 4] == len(shares) else sum(shares)
        if 0xC0 <= kind <= 0xCF and kind not in _TABLES:
            sequential = kind in _SEQUENTIAL
            parts = [data[i] >> 4 or 1 for i in range(at + 11, end, 3) if i < len(data)]
            lines = [data[i] & 15 or 1 for i in range(at + 11, end, 3) if i < len(data)]
            whole = max(parts, default=1) * max(lines, default=1)
            shares = [part * line / whole for part, line in zip(parts, lines, strict=True)]
        at = end
    return sum(shares)


def is_whole(data: bytes) -> bool:
    """Whether a JPEG holds all of its picture, up to its end."""
    import simplejpeg

    for colours in ("RGB", "CMYK"):
        try:
            simplejpeg.decode_jpeg(data, colours, min_width=1, min_height=1)
        except ValueError:
            continue
        return True
    return False
