"""The files of indexed images, read where they were indexed, as far as they may be shown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from simdist.errors import UnknownImageError
from simdist.index.origin import Origin
from simdist.sources import Access, is_web_address
from simdist.sources.originals import Original, check_place, read_original, root_uri

if TYPE_CHECKING:
    from cluster.service.worker import QueryWorker

# Threads that wait for folders and object stores, which others chose.
_THREADS = 8


class Originals:
    """The files of a worker's collections. To be asked from the worker's loop."""

    def __init__(self, worker: QueryWorker) -> None:
        self._worker = worker
        self._roots = [root_uri(place) for place in worker.config.thumbnails_from]
        self._files = ThreadPoolExecutor(_THREADS, thread_name_prefix="simdist-files")

    async def check(self, digest: bytes, collection: str | None) -> None:
        """Check that an image may be shown from where it lies, without reading it.

        Args:
            digest: of its URI, by `layout.uri_digest`.

        Raises:
            UnknownImageError: it is not indexed.
            SourceError, UsageError: it may not be shown.
        """
        original = await self._find(digest, collection)
        if not is_web_address(original.uri):
            check = partial(check_place, original, roots=self._roots)
            await self._worker.within(self._files, check)

    async def read(self, digest: bytes, collection: str | None) -> bytes:
        """An image's bytes.

        Args:
            digest: of its URI, by `layout.uri_digest`.

        Raises:
            UnknownImageError: it is not indexed.
            SourceError, ImageError, UsageError: it cannot be read from there, or may not be.
        """
        original = await self._find(digest, collection)
        if is_web_address(original.uri):
            return await self._worker.fetch(original.uri)
        read = partial(read_original, original, roots=self._roots, access=Access.resolve())
        return await self._worker.within(self._files, read, stage="fetch")

    async def _find(self, digest: bytes, collection: str | None) -> Original:
        opened = await self._worker.now(collection)
        origin = await self._worker.reading(lambda: Origin.find(opened, digest))
        if origin is None:
            raise UnknownImageError(f"no such image is indexed in {opened.name!r}")
        return Original(origin.uri, origin.place, origin.has)
