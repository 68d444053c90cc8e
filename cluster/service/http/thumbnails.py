"""Small pictures of indexed images, kept in bounded memory."""

from __future__ import annotations

import io
from collections import OrderedDict

from simdist.images.decoding import open_image

SIDE, PREVIEW_SIDE = 256, 2560
QUALITY = 82
MEMORY = 64 * 1024 * 1024


def thumbnail(data: bytes) -> bytes:
    """An image's bytes -> a JPEG whose longer side has at most `SIDE` pixels.

    Raises:
        ImageError: not an acceptable image.
    """
    return _smaller(data, SIDE)


def preview(data: bytes) -> bytes:
    """As `thumbnail`, for a whole screen: `PREVIEW_SIDE` pixels.

    Raises:
        ImageError: as `thumbnail`.
    """
    return _smaller(data, PREVIEW_SIDE)


def _smaller(data: bytes, side: int) -> bytes:
    picture = open_image(data, at_least=side)
    picture.thumbnail((side, side))
    out = io.BytesIO()
    # Nothing of the original's metadata: it may say where and when a photograph was taken.
    picture.info.clear()
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


class ThumbnailCache:
    """The thumbnails used last, `MEMORY` bytes of them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: str) -> bytes | None:
        """A thumbnail that was kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: str, data: bytes) -> None:
        """Keep a thumbnail; those used longest ago give way."""
        self._size += len(data) - len(self._kept.pop(key, b""))
        self._kept[key] = data
        while self._size > MEMORY:
            self._size -= len(self._kept.popitem(last=False)[1])
