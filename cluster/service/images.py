"""Images of a collection that callers list, change and delete, one or many."""

from __future__ import annotations

from cluster.service.worker import QueryWorker
from simdist.errors import UnknownImageError, UsageError
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.deleting import delete_chosen
from simdist.index.images import IndexedImage
from simdist.index.scrolling import EVERYTHING, Choice, Page, scroll

# Images that one request looks at, some tenths of a second of a thread; and that it changes.
LOOKED_AT, CHANGED = 10_000, 1000


class Images:
    """What callers do with images, as far as they may. To be asked from the worker's loop.

    A request looks at `LOOKED_AT` images at most: what is behind them is left to the next, which
    goes on where this one has stopped.
    """

    def __init__(self, worker: QueryWorker) -> None:
        self._worker = worker

    async def page(
        self, collection: str | None, choice: Choice, *, n: int, after: str | None
    ) -> Page:
        """The next images that are meant, at most n of them.

        Raises:
            UsageError: `after` is of no page.
        """
        opened = await self._worker.now(collection)
        return await self._worker.reading(
            lambda: scroll(opened, n=n, after=after, choice=choice, most=LOOKED_AT)
        )

    async def amend(
        self, digest: bytes, amendment: Amendment, collection: str | None
    ) -> IndexedImage:
        """Change what is said of one image, by `layout.uri_digest`; what there is of it now.

        Raises:
            UnknownImageError: it is not indexed.
            UsageError: it cannot be changed so.
        """
        opened = await self._worker.now(collection, write=True)

        def change() -> IndexedImage | None:
            found = opened.get_by_digest(digest)
            if found is None or not amend(opened, [found.uri], amendment):
                return None
            return opened.get_by_digest(digest)

        changed = await self._worker.reading(change)
        if changed is None:
            raise UnknownImageError(f"no such image is indexed in {opened.name!r}")
        return changed

    async def amend_chosen(
        self, collection: str | None, choice: Choice, amendment: Amendment, *, after: str | None
    ) -> tuple[int, Page]:
        """Change some of those that are meant; how many, and the page of all that were looked at.

        An image that is so already is passed over: changed ones come again, behind the others.
        """
        opened = await self._worker.now(collection, write=True)

        def change() -> tuple[int, Page]:
            page = _some(opened, choice, after)
            uris = [one.uri for one in page.images if amendment.applied(one) != one]
            return amend(opened, uris, amendment, choice=choice), page

        return await self._worker.reading(change)

    async def delete(self, uri: str, collection: str | None) -> int:
        """Delete an image by its URI; returns how many there were."""
        opened = await self._worker.now(collection, write=True)
        return await self._worker.reading(lambda: opened.delete([uri]))

    async def delete_chosen(
        self, collection: str | None, choice: Choice, *, after: str | None
    ) -> tuple[int, Page]:
        """Delete some of those that are meant; how many, and the page of them."""
        opened = await self._worker.now(collection, write=True)

        def delete() -> tuple[int, Page]:
            page = _some(opened, choice, after)
            return delete_chosen(opened, [one.uri for one in page.images], choice), page

        return await self._worker.reading(delete)


def _some(collection: Collection, choice: Choice, after: str | None) -> Page:
    """Some images that are to be changed.

    Raises:
        UsageError: nothing says which are meant: all is never meant by saying nothing.
    """
    if choice == EVERYTHING:
        raise UsageError("say which images: by prefix, label or where")
    return scroll(collection, n=CHANGED, after=after, choice=choice, most=LOOKED_AT)
