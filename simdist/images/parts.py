"""A part of a picture, by which to search."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

from simdist.errors import ImageError, UsageError
from simdist.images.limits import MAX_PIXELS

# Pixels of a part's side that are enough for any network.
_ENOUGH = 500
# What sums of decimal fractions may be above 1.
_UNSURE = 1e-6


class Part(NamedTuple):
    """A rectangle in an upright picture, in fractions of its width and height."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read "x,y,w,h".

        Raises:
            UsageError: it is none.
        """
        try:
            x, y, width, height = map(float, text.split(","))
        except ValueError:
            x = y = width = height = math.nan
        inside = x >= 0 and y >= 0 and max(x + width, y + height) <= 1 + _UNSURE
        if not (inside and width > 0 and height > 0):
            raise UsageError(
                f"{text[:60]!r} is no part of an image: x,y,w,h, as fractions of its width and "
                "height, such as 0.25,0.1,0.5,0.5"
            )
        return cls(x, y, width, height)

    def cut(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> bytes:
        """The part of an image, as the bytes of another one.

        Raises:
            ImageError: as `decoding.decode`; or the part is less than a pixel.
        """
        from simdist.images.decoding import open_image

        at_least = math.ceil(_ENOUGH / min(self.width, self.height))
        whole = open_image(data, at_least=at_least, max_pixels=max_pixels)
        left, top = round(self.x * whole.width), round(self.y * whole.height)
        right = min(whole.width, round((self.x + self.width) * whole.width))
        bottom = min(whole.height, round((self.y + self.height) * whole.height))
        if right <= left or bottom <= top:
            raise ImageError("less than a pixel of the image is in this part")
        file = io.BytesIO()
        whole.crop((left, top, right, bottom)).save(file, "PNG", compress_level=1)
        return file.getvalue()
