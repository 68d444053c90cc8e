"""JPEG files, decoded and resized without the detours that Pillow takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from simdist.errors import ImageError

if TYPE_CHECKING:
    from simdist.images.limits import Pixels
    from simdist.images.resizing import Resize

# Encoders write up to a dozen. Each scan passes over all pixels, and few bytes are enough for one:
# without a limit a file of 64 MB keeps a decoder busy for hours.
MAX_SCANS = 30
_SCAN, _END = b"\xda", b"\xd9"
# In a scan's data neither a stuffed zero nor a restart marker ends it.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")


def square(data: bytes, width: int, height: int, *, size: int, resize: Resize) -> Pixels | None:
    """Decode a grey or YCbCr JPEG and resize it, with an antialiased bilinear filter.

    It is decoded at a reduced scale where neither side falls below twice `size`: the resize that
    follows loses nothing by it.

    Args:
        data: the file's bytes.
        width, height: what its header says, in pixels.
        size: width and height of the result, in pixels.
        resize: what becomes of a picture that is not square.

    Returns:
        (size, size, 3) uint8, RGB, as it is stored: its orientation is not looked at. None for
        what is damaged or rare; Pillow knows more about those.
    """
    import simplejpeg
    from torch import from_numpy
    from torch.nn.functional import interpolate

    # Powers of two only: the other scales have no fast code, and are less like the full one.
    scale = max((s for s in (1, 2, 4, 8) if min(width, height) >= s * 2 * size), default=1)
    try:
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_width=-(-width // scale), min_height=-(-height // scale)
        )
    except ValueError:
        return None
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
