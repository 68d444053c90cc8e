"""What an image may be: formats, suffixes, sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simdist.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp"})

MAX_BYTES = 64 * 1024 * 1024

MAX_PIXELS = 80_000_000

Pixels = NDArray[np.uint8]


def check_size(size: int) -> None:
    """Check how many bytes an image's file has, before they are read.

    Raises:
        ImageError: more than `MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise ImageError(f"the file has {size:,} bytes; at most {MAX_BYTES:,} are read")
