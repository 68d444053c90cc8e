"""What is done to an image before a network sees it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from simdist.images.limits import MAX_PIXELS, Pixels
from simdist.images.resizing import Resize, Scaling

MAX_SIZE = 4096


@dataclass(frozen=True)
class Preprocessing:
    """An image's bytes -> uint8 pixels -> what the network was trained on.

    Attributes:
        size: side of the square input, in pixels.
        mean, std: on the 0 to 255 scale; the network takes (pixels - mean) / std, per RGB channel.
        resize: what becomes of a picture that is not square.
        scaling: how it is resized, and its middle cut out, if not as `decode` does by itself.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = Resize.squash
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: nothing can be prepared with them.
        """
        if not 0 < self.size <= MAX_SIZE or not all(map(math.isfinite, self.mean + self.std)):
            raise ValueError("size or mean or std out of range")
        if min(self.std) <= 0:
            raise ValueError("std must be above zero")
        if self.scaling and not self.size <= self.scaling.side <= 2 * MAX_SIZE:
            raise ValueError("nothing of that size can be cut out")

    def pixels(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
        """An image's bytes -> (size, size, 3) uint8, RGB.

        Raises:
            ImageError: not an acceptable image.
        """
        from simdist.images.decoding import decode

        return decode(
            data,
            size=self.size,
            resize=self.resize,
            scaling=self.scaling,
            max_pixels=max_pixels,
        )

    def pixels_and_facts(self, data: bytes, *, gps: bool = False) -> tuple[Pixels, dict[str, Any]]:
        """As `pixels`, and what the file says of its picture, see `simdist.images.facts`.

        Raises:
            ImageError: not an acceptable image.
        """
        from simdist.images.decoding import decode_with_facts

        return decode_with_facts(
            data, size=self.size, resize=self.resize, scaling=self.scaling, gps=gps
        )

    def as_json(self) -> dict[str, object]:
        """The fields, as a bundle's card has them, and as they make up a model's id."""
        fields = asdict(self)
        # Models had ids before there was a choice: theirs stay.
        if self.resize is Resize.squash:
            del fields["resize"]
        if self.scaling is None:
            del fields["scaling"]
        return fields
