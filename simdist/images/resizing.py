"""How a picture of any shape becomes the square that a network takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

    from simdist.images.limits import Pixels


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


class Filter(StrEnum):
    """The filter that resizes, antialiased."""

    bilinear = "bilinear"
    bicubic = "bicubic"


@dataclass(frozen=True)
class Scaling:
    """A picture is resized as a whole, and its middle cut out: as torchvision and timm do it.

    Attributes:
        side: what the shorter side is resized to, in pixels, or both sides of what is squashed; not
            below the side of the square that is cut out.
    """

    side: int
    filter: Filter

    def box(
        self, resize: Resize, width: int, height: int, size: int
    ) -> tuple[float, float, float, float]:
        """The part of a picture that becomes the square of `size`, as in `Resize.box`."""
        shorter = min(width, height)
        edges = []
        for length in (width, height):
            squash = resize is Resize.squash
            # As torchvision rounds.
            resized = self.side if squash else int(self.side * length / shorter)
            first = round((resized - size) / 2)
            edges.append((first * length / resized, (first + size) * length / resized))
        (left, right), (top, bottom) = edges
        return left, top, right, bottom

    def cut(self, picture: Image.Image, resize: Resize, size: int) -> Pixels:
        """An RGB picture -> (size, size, 3) uint8."""
        from PIL.Image import Resampling

        # The filter sees the pixels around the box, as if the whole were resized.
        box = self.box(resize, *picture.size, size)
        return np.asarray(picture.resize((size, size), Resampling[self.filter.upper()], box))
