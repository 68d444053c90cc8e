"""The pool of query actors: each answers searches with a cache of its own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cluster.service.config import ServiceConfig
from cluster.service.embedding import Embedding
from cluster.service.examples import Asked, embedded
from cluster.service.metrics import ServiceMetrics
from cluster.service.opened import Opened
from cluster.service.parts import Parts
from cluster.service.searching import Searching
from cluster.service.turns import Turns
from simdist.errors import (
    BusyError,
    CollectionError,
    ModelMismatchError,
    SimdistError,
    UnknownImageError,
)
from simdist.images.decoding import decode, facts_of
from simdist.images.parts import Part
from simdist.index.collection import Collection
from simdist.index.images import Added, IndexedImage
from simdist.joining.arrival import NEAREST, Copy, copies_among
from simdist.joining.judging import PART_COSINE
from simdist.prints.prints import TINY, is_tiny, prints_of
from simdist.search.examples import named_vector, settled
from simdist.search.pages import Hits
from simdist.search.question import Question
from simdist.sources import ImageRef
from simdist.sources.web import fetch
from simdist.store import connect
from simdist.vectors.checks import shaped

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

# Threads that wait for Redis; for web addresses, however slow those are; and that decode. Of those
# for strangers' addresses and images, one bearer holds so many.
_READERS = 16
_FETCHERS, _FETCHERS_EACH = 32, 16
_DECODERS, _DECODERS_EACH = 3, 2
_FRESH_SECONDS = 1.0  # that it is believed that Redis answers, or does not

T = TypeVar("T")


class QueryWorker:
    """A query worker: a searcher for each collection that is served, warm from the start.

    Attributes:
        config: what the service was told.
        metrics: what it counts.
        finder: of duplicates; without one nobody can ask for them.
        store, opened: where its collections are, and those that it has opened.
    """

    def __init__(
        self,
        config: ServiceConfig,
        embedder: DeploymentHandle[Any],
        parts: Sequence[DeploymentHandle[Any]] = (),
        *,
        finder: DeploymentHandle[Any] | None = None,
        name: str,
    ) -> None:
        """Open the collections, search once in each that has images, decode once.

        Args:
            parts: the workers that search in this one's place, see `parts.Parts`.
            finder: of duplicates, see `duplicates.DuplicateGroups`.
        """
        self.config = config
        self.metrics = ServiceMetrics(name)
        self.finder = finder
        self._embedding = Embedding(
            embedder, self.decoded, self.metrics, max_pixels=config.max_pixels
        )
        self.store = connect(config.redis_url)
        self._check: asyncio.Future[object] | None = None
        self._checked = 0.0
        self.opened = Opened(config, self.store)
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix="simdist-read")
        self._fetching = Turns(_FETCHERS, each=_FETCHERS_EACH, name="simdist-fetch")
        self._decoding = Turns(_DECODERS, each=_DECODERS_EACH, name="simdist-decode")
        self._searching: Searching | Parts
        if parts:
            self._searching = Parts(parts, self._by_vector)
        else:
            self._searching = Searching(self.opened.searcher, self.opened.forget, self.metrics)
            self.opened.warm_up()
        # What decodes is loaded now: the first image would wait for it, two seconds.
        blank = io.BytesIO()
        Image.new("RGB", (64, 64)).save(blank, "JPEG")
        decode(blank.getvalue(), size=32)

    async def check(self) -> None:
        """Check that Redis answers, or did within the last second: anyone may ask.

        Raises:
            StoreError: it does not.
        """
        now = time.monotonic()
        if self._check is None or (self._check.done() and now - self._checked > _FRESH_SECONDS):
            self._checked = now
            ping = self.within(self._reading, lambda: self.store.call("PING"))
            self._check = asyncio.ensure_future(ping)
        await asyncio.shield(self._check)

    async def ask(self, question: Question) -> Hits:
        """The images most similar to what a question asks by, the best first.

        Raises:
            BusyError: not within the deadline.
            UnknownImageError: the URI is not indexed.
            SimdistError: the question cannot be answered, or a part of the service is missing.
        """
        return await self._in_time(self.answer(question))

    async def ask_many(self, questions: Sequence[Question]) -> list[Hits | SimdistError]:
        """As `ask` for each question; what cannot be answered comes as the error."""

        async def answered(question: Question) -> Hits | SimdistError:
            try:
                return await self.answer(question)
            except SimdistError as error:
                return error

        return await self._in_time(asyncio.gather(*map(answered, questions)))

    async def answer(self, question: Question) -> Hits:
        """As `ask`, for who has a deadline of their own."""
        question = replace(question, collection=self.opened.named(question.collection))
        try:
            return await self._answer(question)
        # While it was embedded, another model has taken over.
        except ModelMismatchError:
            return await self._answer(question)

    async def _answer(self, question: Question) -> Hits:
        made_by = ""

        async def by_content(asked: Asked) -> Asked:
            nonlocal made_by
            if asked.text is not None:
                opened = await self.now(question.collection)
                made_by = opened.model_id
                return asked.by_vector(await self._embedding.text(asked.text, opened))
            data = asked.image if asked.url is None else await self.fetch(asked.url)
            if data is None:
                return asked
            if asked.crop is not None:
                cut = partial(Part.parse(asked.crop).cut, data, max_pixels=self.config.max_pixels)
                data = await self.decoded(cut)
            opened = await self.now(question.collection)
            made_by = opened.model_id
            vector, _ = await self._embedding.image(data, opened)
            return asked.by_vector(vector)

        by_vectors = await embedded(question, by_content)
        return (await self._searching.ask(replace(by_vectors, made_by=made_by))).hits

    async def image(self, digest: bytes, collection: str | None) -> IndexedImage:
        """What is stored of an image, by `layout.uri_digest`.

        Raises:
            UnknownImageError: it is not indexed.
        """
        opened = await self.now(collection)
        find = partial(opened.get_by_digest, digest)
        found = await self.within(self._reading, find, stage="look up")
        if found is None:
            raise UnknownImageError(f"no such image is indexed in {opened.name!r}")
        return found

    async def fetch(self, url: str) -> bytes:
        """Fetch an image from a public address, safely, in the time of a request.

        Raises:
            FetchError: it is refused, or cannot be had by then.
        """
        ends_at = time.monotonic() + self.config.deadline

        def get() -> bytes:
            # Less what it has waited for a thread.
            left = max(ends_at - time.monotonic(), 0)
            return fetch(url, allow_loopback=self.config.fetch_loopback, seconds=left)

        return await self.within(self._fetching, get, stage="fetch")

    async def decoded(self, work: Callable[[], T]) -> T:
        """Run work on pixels where it delays no search."""
        return await self.within(self._decoding, work, stage="decode")

    async def add(
        self,
        uri: str,
        data: bytes,
        *,
        label: str | None,
        metadata: Mapping[str, Any],
        collection: str | None,
    ) -> tuple[Added, list[Copy]]:
        """Index one image by its bytes, or raise why not; says which images it is a copy of."""
        opened = await self.now(collection, write=True)
        vector, pixels = await self._in_time(self._embedding.image(data, opened))
        fingerprint = hashlib.blake2b(data, digest_size=16).hexdigest()
        [look] = [TINY] if is_tiny(data) else await self.decoded(lambda: prints_of(pixels[None]))
        ref = ImageRef(uri, fingerprint, len(data), label, metadata=metadata, look=look)
        ref = ref.with_facts(await self.decoded(lambda: facts_of(data)))
        copies = await self._copies(ref, vector, opened.name)
        added = await self.within(self._reading, lambda: opened.add(vector[None], [ref]))
        return added, copies

    async def _copies(
        self, ref: ImageRef, vector: NDArray[np.float32], collection: str | None
    ) -> list[Copy]:
        """The images that one is a copy of, before it is added."""
        opened = await self.now(collection)
        question = Question(vector=vector, n=NEAREST, min_score=PART_COSINE, collection=collection)
        try:
            _, hits = await self._in_time(self._searching.ask(question))
        except CollectionError:
            # It has no images yet.
            return []
        near = [(hit.uri, hit.score) for hit in hits]
        return await self.decoded(lambda: copies_among(opened, ref.uri, ref.look, near))

    async def now(self, name: str | None, *, write: bool = False) -> Collection:
        """A collection that the caller may see, or change, wherever its name leads by now.

        Raises:
            UnknownCollectionError, ForbiddenError: it may not.
        """
        allowed = self.opened.named(name, write=write)
        return await self.reading(lambda: self.opened.open(allowed))

    async def reading(self, work: Callable[[], T]) -> T:
        """Run work that waits for Redis where it delays no search."""
        return await self.within(self._reading, work)

    def collection(self, name: str | None) -> Collection:
        """A collection that is served, as it was last seen.

        Raises:
            UnknownCollectionError: that one is not.
        """
        return self.opened.collection(name)

    async def _by_vector(self, question: Question) -> tuple[str, Question]:
        """The same question by a vector, as others are sent it, and where it is asked."""
        opened = await self.now(question.collection)
        try:
            vector: Any = question.vector
            if vector is None or question.several:
                question = await self.within(self._reading, partial(settled, opened, question))
                find = partial(named_vector, opened, question)
                vector = await self.within(self._reading, find, stage="look up")
            asked = question.by_vector(shaped([vector], dim=opened.dim)[0])
            return opened.home_name, asked
        except UnknownImageError:
            raise
        except CollectionError:
            self.opened.forget(opened)
            raise

    async def _in_time(self, work: Awaitable[T]) -> T:
        """Await work as long as a request may take."""
        try:
            async with asyncio.timeout(self.config.deadline):
                return await work
        except TimeoutError as error:
            raise BusyError(f"no answer within {self.config.deadline:g} s; try again") from error

    async def within(
        self, pool: ThreadPoolExecutor | Turns, work: Callable[[], T], *, stage: str | None = None
    ) -> T:
        """Run work in threads of a pool, and count how long it takes as a stage of a request."""
        started = time.perf_counter()
        try:
            if isinstance(pool, Turns):
                return await pool.run(work)
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        finally:
            if stage is not None:
                self.metrics.stage(stage, time.perf_counter() - started)
