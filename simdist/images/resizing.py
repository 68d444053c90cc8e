"""How a picture of any shape becomes the square that a network takes."""

from __future__ import annotations

from enum import StrEnum


class Resize(StrEnum):
    """What becomes of a picture that is not square.

    squash: all of it is squeezed into the square.
    crop: the largest square in its centre is taken, and the rest left out.
    """

    squash = "squash"
    crop = "crop"

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The part of a picture that is resized: left, upper, right and lower edge, in pixels."""
        if self is Resize.squash:
            return 0, 0, width, height
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side
