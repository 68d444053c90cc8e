"""The frames of an animation, the pages of a TIFF: the first that shows something is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from PIL import Image

from simdist.images.limits import check_pixels

# Frames that are looked at, if the first is blank: a title that fades in.
MAX_FRAMES = 24


def first_shown(
    picture: Image.Image, read: Callable[[Image.Image], Image.Image], *, max_pixels: int
) -> Image.Image:
    """The first frame with more than one colour, as `read` gives it; else the first.

    No more than `max_pixels` are looked at behind the first.
    """
    first = read(picture)
    if not is_blank(first) or not getattr(picture, "is_animated", False):
        return first
    # A picture becomes its next frame when that is read.
    first, left = first.copy(), max_pixels
    for number in range(1, MAX_FRAMES):
        try:
            picture.seek(number)
            check_pixels(*picture.size, left)
            left -= picture.width * picture.height
            frame = read(picture)
        # The end, or damage: the first one is good.
        except Exception:
            break
        if not is_blank(frame):
            return frame
    return first


def is_blank(picture: Image.Image) -> bool:
    """Whether all pixels have one colour."""
    return all(low == high for low, high in extrema(picture))


def extrema(rgb: Image.Image) -> list[tuple[int, int]]:
    """The darkest and the brightest of each channel."""
    return [(int(low), int(high)) for low, high in cast("Any", rgb.getextrema())]
