"""The service's embedder: its networks, and a batch of whatever waits when it is free."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.service.ray_serve import keep_replica_private
from simdist.embedding.memory import tune_process
from simdist.images.limits import Pixels

if TYPE_CHECKING:
    from asyncio import Future

    from simdist.embedding import Embedder, Preprocessing

T = TypeVar("T")

# Images put through the network together: what comes later waits for them.
MAX_BATCH = 32
MAX_THREADS = 8
# Kept at once: the one that it was started with, and those of other collections.
MAX_MODELS = 3


def embedding_threads() -> int:
    """Threads of the embedder on a CPU: a query waits for its image, so several work on one.

    The query workers beside it need cores, too. Threads that share theirs with others wait for each
    other: on a machine of two cores, two threads took twice as long as one.
    """
    return min(MAX_THREADS, max(1, (os.cpu_count() or 1) // 2))


class EmbedWorker:
    """Embeds for query workers, on a GPU where it was given one.

    While the network is busy, requests gather; all that wait go through it together next. No
    timer is needed, one request alone never waits, and one that is cancelled while it waits is
    left out without harm to the others. It begins with one model, and loads that of another
    collection when it is first asked for it.
    """

    def __init__(self, model: str, weights: str | None) -> None:
        from simdist.embedding import Embedder, load_model

        keep_replica_private()
        tune_process(threads=embedding_threads())
        loaded = load_model(model, weights=Path(weights) if weights else None)
        first = Embedder(loaded, for_many=True)
        _try(first)
        self._embedders = {first.model.id: first}
        self._first = first.model
        self._named: dict[str, str] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="simdist-embed")
        self._waiting: deque[_Waiting] = deque()
        self._working: asyncio.Task[None] | None = None

    async def model(self, name: str = "", model_id: str = "") -> tuple[str, Preprocessing]:
        """A model's id, and how images become the pixels that it takes.

        Args:
            name, model_id: those that a collection was made with; by default the first.

        Raises:
            UsageError, ModelError: it cannot be loaded.
        """
        if not name:
            return self._first.id, self._first.preprocessing
        # Of the same name may be other weights by now: whoever asked finds out by the id.
        for known in (model_id, self._named.get(name, "")):
            if known in self._embedders:
                return known, self._embedders[known].model.preprocessing
        loaded = await self._in_turn(partial(_loaded, name))
        self._named[name] = loaded.model.id
        self._embedders[loaded.model.id] = loaded
        if len(self._embedders) > MAX_MODELS:
            del self._embedders[next(other for other in self._embedders if other != self._first.id)]
        return loaded.model.id, loaded.model.preprocessing

    async def embed_text(self, text: str, model_id: str) -> NDArray[np.float32] | None:
        """Embed words: (dim,) float32, of length 1, beside the images that show what they say.

        None if the model is no longer here: it is to be asked for again.
        """
        if (embedder := self._embedders.get(model_id)) is None:
            return None
        vectors = await self._in_turn(partial(embedder.embed_texts, [text]))
        vector: NDArray[np.float32] = vectors[0]
        return vector

    async def embed(self, pixels: Pixels, model_id: str) -> NDArray[np.float32] | None:
        """Embed one image: (size, size, 3) uint8 -> (dim,) float32, of length 1; or as above."""
        if model_id not in self._embedders:
            return None
        future: Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(self._embedders[model_id], pixels, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await future

    async def _in_turn(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _work(self) -> None:
        while self._waiting:
            embedder = self._waiting[0].embedder
            batch: list[_Waiting] = []
            while self._waiting and len(batch) < MAX_BATCH:
                if self._waiting[0].embedder is not embedder:
                    break
                one = self._waiting.popleft()
                if not one.future.done():
                    batch.append(one)
            if not batch:
                continue
            images = np.stack([one.pixels for one in batch])
            try:
                vectors = await self._in_turn(partial(embedder.embed, images))
            except Exception as error:
                for one in batch:
                    if not one.future.done():
                        one.future.set_exception(error)
                continue
            for one, vector in zip(batch, vectors, strict=True):
                if not one.future.done():
                    one.future.set_result(vector)


class _Waiting(NamedTuple):
    """An image that waits for its network."""

    embedder: Embedder
    pixels: Pixels
    future: Future[NDArray[np.float32]]


def _loaded(name: str) -> Embedder:
    from simdist.embedding import Embedder, load_model

    # Its licence was accepted when the collection was made.
    embedder = Embedder(load_model(name, accept_licence=True), for_many=True)
    _try(embedder)
    return embedder


def _try(embedder: Embedder) -> None:
    """Embed once: the first image takes longer than all that follow."""
    size = embedder.model.preprocessing.size
    embedder.embed(np.zeros((1, size, size, 3), np.uint8))
