"""A print: a picture of 24 x 24 grey pixels, of 16 shades, by which two pictures are compared.

Hashes of 32 bytes such as PDQ know a picture that was resized, but not one that was cropped by a
tenth: docs/duplicates.md compares them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simdist.images.limits import Pixels

SIDE = 24
# Bytes of a print that can be compared; what cannot has a mark instead, of one byte.
BYTES = SIDE * SIDE // 2
FLAT, TINY = b"f", b"t"

_SHADES = 16
# Shades are so many to a standard deviation.
_SHADES_EACH = 3.2
# A picture is flat if it differs so little from a smooth one: a standard deviation, of 255.
_FLAT = 4.0
# By the powers of x and y that a smooth picture is made of.
_SMOOTH = 4
# A picture is tiny if one of its sides has fewer pixels; none that is has so many bytes.
_TINY_SIDE, _TINY_BYTES = 32, 16 * 1024


def prints_of(pixels: Pixels) -> list[bytes]:
    """The prints of decoded images; of those that are blank, or shade off evenly, a mark.

    Args:
        pixels: (n, s, s, 3) uint8, RGB.

    Returns:
        n prints, each of `BYTES` bytes or `FLAT`.
    """
    from simdist.prints.shrink_loops import shrink

    small = shrink(np.ascontiguousarray(pixels), SIDE).reshape(len(pixels), SIDE * SIDE)
    flat = _roughness(small) < _FLAT
    centred = small - small.mean(axis=1, keepdims=True)
    spread = np.maximum(centred.std(axis=1, keepdims=True), 1e-3)
    middle = (_SHADES - 1) / 2
    shades = np.rint(centred / spread * _SHADES_EACH + middle)
    shades = shades.clip(0, _SHADES - 1).astype(np.uint8)
    packed = shades[:, ::2] << 4 | shades[:, 1::2]
    return [
        FLAT if is_flat else row.tobytes()
        for is_flat, row in zip(flat.tolist(), packed, strict=True)
    ]


def is_tiny(data: bytes) -> bool:
    """Whether an image that can be decoded has too few pixels to be told from others."""
    if len(data) > _TINY_BYTES:
        return False
    with Image.open(io.BytesIO(data)) as picture:
        return min(picture.size) < _TINY_SIDE


def packed_prints(prints: Iterable[bytes]) -> NDArray[np.uint8]:
    """Prints that can be compared -> (n, BYTES)."""
    return np.frombuffer(b"".join(prints), np.uint8).reshape(-1, BYTES)


def pictures(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, BYTES) prints -> (n, SIDE, SIDE) float32 shades around zero."""
    shades = np.stack([packed >> 4, packed & 15], axis=2).astype(np.float32)
    return shades.reshape(len(packed), SIDE, SIDE) - (_SHADES - 1) / 2


def _roughness(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, SIDE * SIDE) -> (n,) the standard deviation of what no smooth picture has."""
    basis = _smooth_basis()
    rest = small - (small @ basis) @ basis.T
    roughness: NDArray[np.float32] = rest.std(axis=1)
    return roughness


@cache
def _smooth_basis() -> NDArray[np.float32]:
    """(SIDE * SIDE, k) orthonormal: the polynomials of low degree."""
    at = np.linspace(-1, 1, SIDE)
    powers = [
        np.outer(at**i, at**j).ravel() for i in range(_SMOOTH + 1) for j in range(_SMOOTH + 1 - i)
    ]
    return np.linalg.qr(np.stack(powers, axis=1))[0].astype(np.float32)
