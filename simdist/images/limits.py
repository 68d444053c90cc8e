"""What an image may be: suffixes and sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simdist.errors import ImageError

RAW_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef"}
    | {".srw", ".3fr", ".iiq", ".x3f", ".mrw", ".erf", ".mef", ".kdc", ".dcr"}
)
# What is looked at; what it is, its bytes say.
SUFFIXES = RAW_SUFFIXES | {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".insp", ".mpo", ".png", ".apng", ".webp", ".gif"),
    *(".tif", ".tiff", ".bmp", ".dib", ".avif", ".avifs", ".heic", ".heif", ".hif", ".heics"),
    *(".heifs", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c", ".psd"),
}

MAX_BYTES = 64 * 1024 * 1024

# Of what is decoded: a JPEG is decoded at a reduced scale.
MAX_PIXELS = 80_000_000
# So many times as many may a JPEG have: that takes a few seconds, and no more memory.
JPEG_TIMES = 8
# These decoders hold more bytes for each pixel (measured: 7 and 19, where the others hold 9 at
# most): a picture has at most this part of the pixels.
COSTLY = {"JXL": 2, "JPEG2000": 3}

Pixels = NDArray[np.uint8]


def check_size(size: int) -> None:
    """Check how many bytes an image's file has, before they are read.

    Raises:
        ImageError: more than `MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise ImageError(f"the file has {size:,} bytes; at most {MAX_BYTES:,} are read")


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Check how many pixels a picture has, before they are decoded.

    Raises:
        ImageError: none, or more than `max_pixels`.
    """
    if width <= 0 or height <= 0:
        raise ImageError("it has no pixels")
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} is more than {max_pixels:,} pixels")
