"""Pixels of more than 8 bits -> 8 bits, scaled by what they hold.

Microscopes, scanners and sensors write 10, 12 or 14 bits into files of 16, and nothing in the file
says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simdist.errors import ImageError
from simdist.images.limits import Pixels

_BITS, _SAMPLE = 258, 339  # TIFF's tags
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def is_deep(picture: Image.Image) -> bool:
    """Whether its pixels are numbers of more than 8 bits, of one channel."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16")


def numbers_of(band: Image.Image, picture: Image.Image) -> NDArray[Any]:
    """The pixels of a part of a picture; Pillow takes TIFF's 32 bits for signed ones."""
    values = np.asarray(band)
    tags = getattr(picture, "tag_v2", {})
    unsigned = tags.get(_BITS) == (32,) and tags.get(_SAMPLE, (1,)) == (1,)
    return values.view(np.uint32) if picture.mode == "I" and unsigned else values


@dataclass(frozen=True)
class Scale:
    """From which number to which pixels go, 0 to 255; shifted by so many bits if they are whole."""

    low: float
    high: float
    shift: int | None = None

    @classmethod
    def of(cls, bands: Iterable[NDArray[Any]]) -> Scale:
        """What suits pixels, a part of the picture at a time.

        Whole numbers from zero on are shifted, so that the bits of the largest become eight; floats
        up to 1, or up to 255, are taken for that. All others go from the smallest to the largest.

        Raises:
            ImageError: none of them is finite.
        """
        low, high, whole = np.inf, -np.inf, True
        for band in bands:
            values = band
            if band.dtype.kind == "f":
                whole, values = False, band[np.isfinite(band)]
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
        if low > high:
            raise ImageError("none of its pixels is a number")
        if low < 0:
            return cls(low, high)
        if not whole:
            return cls(0, 1 if high <= 1 else max(high, 255))
        bits = int(high).bit_length()
        return cls(0, 0, bits - 8) if bits >= 8 else cls(0, max(1, (1 << bits) - 1))

    def apply(self, values: NDArray[Any]) -> Pixels:
        """The same pixels as uint8; what is no number is the lowest."""
        if self.shift is not None:
            return (values >> self.shift).astype(np.uint8)
        with np.errstate(invalid="ignore"):  # of what is no number, in a damaged file
            wide = np.nan_to_num(values.astype(np.float64), nan=self.low)
        span = max(self.high - self.low, np.finfo(np.float64).tiny)
        return (np.clip((wide - self.low) / span, 0, 1) * 255).round().astype(np.uint8)


def low_bytes(picture: Image.Image) -> bool:
    """Have a picture of 16 bits a channel, not decoded yet, decode to its lower bytes.

    Pillow takes the upper ones: of 10 bits it would leave 2. Returns whether it is such a picture.
    """
    tiles: list[Any] = getattr(picture, "tile", [])
    swapped = []
    for tile in tiles:
        first, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        mode, _, order = str(first).partition(";16")
        if mode not in ("RGB", "RGBA", "RGBX") or order not in _SWAPPED:
            return False
        raw = f"{mode};16{_SWAPPED[order]}"
        swapped.append(tile._replace(args=(raw, *rest) if isinstance(tile.args, tuple) else raw))
    picture.tile = swapped  # type: ignore[attr-defined]
    return bool(swapped)
