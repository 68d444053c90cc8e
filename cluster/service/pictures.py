"""Small pictures of indexed images: kept in memory and on disk, made where they are not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from cluster.service.originals import Originals
from cluster.service.worker import QueryWorker
from simdist.images.thumbnails import PREVIEW_SIDE, SIDE, Shelf, content_key, preview, thumbnail
from simdist.index.images import IndexedImage

# Bytes of those used last, beside those on disk.
MEMORY = 64 * 1024 * 1024
_MAKE: dict[int, Callable[[bytes], bytes]] = {SIDE: thumbnail, PREVIEW_SIDE: preview}


class Pictures:
    """The pictures of a worker's collections. To be asked from the worker's loop."""

    def __init__(self, worker: QueryWorker, originals: Originals) -> None:
        self._worker = worker
        self._originals = originals
        self._memory = PictureCache()
        folder, room = worker.config.thumbnails_in, worker.config.thumbnail_space
        self._shelf = Shelf(Path(folder), room=room) if folder and room else None

    @staticmethod
    def key(stored: IndexedImage) -> str:
        """What the pictures of an image are known by."""
        return content_key(stored.uri, stored.vector.tobytes())

    async def of(self, image_id: str, key: str, collection: str | None, *, size: int) -> bytes:
        """An image's picture, as a WebP.

        Args:
            size: pixels of its longer side, `SIDE` or `PREVIEW_SIDE`.

        Raises:
            SourceError, ImageError, UsageError: its source cannot be read, or may not be.
        """
        name = f"{key}-{size}"
        found = self._memory.get(name)
        if found is None and self._shelf is not None:
            shelf = self._shelf
            found = await self._worker.reading(lambda: shelf.get(key, size))
        if found is not None:
            # It may have been made for another collection, or by one who may read more.
            await self._originals.check(bytes.fromhex(image_id), collection)
        else:
            data = await self._originals.read(bytes.fromhex(image_id), collection)
            found = made = await self._worker.decoded(lambda: _MAKE[size](data))
            if self._shelf is not None:
                shelf = self._shelf
                await self._worker.reading(lambda: shelf.keep(key, size, made))
        self._memory.keep(name, found)
        return found


class PictureCache:
    """The pictures used last, `MEMORY` bytes of them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, key: str) -> bytes | None:
        """A picture that was kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: str, data: bytes) -> None:
        """Keep a picture; those used longest ago give way."""
        self._size += len(data) - len(self._kept.pop(key, b""))
        self._kept[key] = data
        while self._size > MEMORY:
            self._size -= len(self._kept.popitem(last=False)[1])
