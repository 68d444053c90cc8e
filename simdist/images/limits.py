"""What an image may be: formats, suffixes, sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp"})

MAX_BYTES = 64 * 1024 * 1024

MAX_PIXELS = 80_000_000

Pixels = NDArray[np.uint8]
