"""How a picture of any shape becomes the square that a network takes."""

from __future__ import annotations

import math
from enum import StrEnum


class Resize(StrEnum):
    """What becomes of a picture that is not square.

    squash: all of it is squeezed into the square.
    trim: half of the way to a square is cut off, at both ends of the longer sides, and what is left
        is squeezed: twice as wide as high becomes 1.4 times.
    crop: the largest square in its centre is taken, and the rest left out.
    """

    squash = "squash"
    trim = "trim"
    crop = "crop"

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The part of a picture that is resized: left, upper, right and lower edge, in pixels."""
        if self is Resize.squash:
            return 0, 0, width, height
        side = min(width, height)
        # The geometric mean of the two sides: cut and squeezed by the same factor.
        longer = round(math.sqrt(width * height)) if self is Resize.trim else side
        across, down = min(width, longer), min(height, longer)
        left, top = (width - across) // 2, (height - down) // 2
        return left, top, left + across, top + down
