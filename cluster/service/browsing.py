"""The listings of a worker's collections: all images in an order, and what kinds there are."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from cluster.service.worker import QueryWorker
from simdist.errors import CollectionError, SimdistError
from simdist.index.collection import Collection
from simdist.index.scrolling import EVERYTHING, Choice
from simdist.search.browsing import Browser, Facets, Found
from simdist.search.listing import Order

# Bytes of all listings together; those used longest ago give way.
MEMORY = 512 * 1024 * 1024
# What waits for a listing waits here: searches do not.
_THREADS = 2
# Listings of at most so many images, which take a second, are there when somebody looks first.
_AT_START = 200_000

T = TypeVar("T")


class Browsing:
    """Looks around in collections. To be asked from the worker's loop.

    A listing takes some 10 us an image to be made. Whoever asks first waits for it no longer than
    a request may take, and it goes on being made meanwhile.
    """

    def __init__(self, worker: QueryWorker) -> None:
        self._worker = worker
        self._browsers: OrderedDict[str, Browser] = OrderedDict()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="simdist-browse")
        for name in worker.config.collections:
            with suppress(SimdistError):
                self._pool.submit(_prepare, self._browser(worker.opened.open(name)))

    async def images(self, collection: str | None, order: Order, choice: Choice) -> Found:
        """The images that are meant, in an order.

        Raises:
            UnknownCollectionError, CollectionError: there is no such collection, or too much of it.
        """
        return await self._ask(collection, lambda browser: browser.images(order, choice))

    async def facets(self, collection: str | None, choice: Choice) -> Facets:
        """Which folders, labels and months there are.

        Raises:
            UnknownCollectionError, CollectionError: as `images`.
        """
        return await self._ask(collection, lambda browser: browser.facets(choice))

    async def _ask(self, collection: str | None, ask: Callable[[Browser], T]) -> T:
        opened = await self._worker.now(collection)
        browser = self._browser(opened)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, lambda: ask(browser))
        except CollectionError:
            # Perhaps it was dropped and made again.
            self._browsers.pop(opened.home_name, None)
            self._worker.opened.forget(opened)
            raise

    def _browser(self, collection: Collection) -> Browser:
        name = collection.home_name
        browser = self._browsers.pop(name, None)
        if browser is None:
            staleness = self._worker.config.max_staleness
            browser = Browser(collection, max_staleness=staleness)
        self._browsers[name] = browser
        while len(self._browsers) > 1 and sum(map(_size, self._browsers.values())) > MEMORY:
            self._browsers.popitem(last=False)
        return browser


def _prepare(browser: Browser) -> None:
    # Whoever asks is told what is wrong.
    with suppress(SimdistError):
        if browser.collection.count() <= _AT_START:
            browser.images("newest", EVERYTHING)


def _size(browser: Browser) -> int:
    return browser.size
