"""The service's embedder: one network, and a batch of whatever waits when it is free."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cluster.service.ray_serve import keep_replica_private
from simdist.embedding.memory import tune_process
from simdist.images.limits import Pixels

if TYPE_CHECKING:
    from asyncio import Future

    from simdist.embedding import Preprocessing

# Images put through the network together: what comes later waits for them.
MAX_BATCH = 32
MAX_THREADS = 8


def embedding_threads() -> int:
    """Threads of the embedder on a CPU: a query waits for its image, so several work on one.

    The query workers beside it need cores, too. Threads that share theirs with others wait for each
    other: on a machine of two cores, two threads took twice as long as one.
    """
    return min(MAX_THREADS, max(1, (os.cpu_count() or 1) // 2))


class EmbedWorker:
    """Embeds images for query workers, on a GPU where it was given one.

    While the network is busy, requests gather; all that wait go through it together next. No
    timer is needed, one request alone never waits, and one that is cancelled while it waits is
    left out without harm to the others.
    """

    def __init__(self, model: str, weights: str | None) -> None:
        from simdist.embedding import Embedder

        keep_replica_private()
        tune_process(threads=embedding_threads())
        file = Path(weights) if weights else None
        # Its licence was accepted when the collection was made.
        self._embedder = Embedder.load(model, weights=file, accept_licence=True)
        size = self._embedder.model.preprocessing.size
        self._embedder.embed(np.zeros((1, size, size, 3), np.uint8))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="simdist-embed")
        self._waiting: deque[tuple[Pixels, Future[NDArray[np.float32]]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def model(self) -> tuple[str, Preprocessing]:
        """The model's id, and how images become the pixels that it takes."""
        model = self._embedder.model
        return model.id, model.preprocessing

    async def embed_text(self, text: str) -> NDArray[np.float32]:
        """Embed words: (dim,) float32, of length 1, beside the images that show what they say."""
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._thread, self._embedder.embed_texts, [text])
        vector: NDArray[np.float32] = vectors[0]
        return vector

    async def embed(self, pixels: Pixels) -> NDArray[np.float32]:
        """Embed one image: (size, size, 3) uint8 -> (dim,) float32, of length 1."""
        future: Future[NDArray[np.float32]] = asyncio.get_running_loop().create_future()
        self._waiting.append((pixels, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch: list[tuple[Pixels, Future[NDArray[np.float32]]]] = []
            while self._waiting and len(batch) < MAX_BATCH:
                pixels, future = self._waiting.popleft()
                if not future.done():
                    batch.append((pixels, future))
            if not batch:
                continue
            images = np.stack([pixels for pixels, _ in batch])
            try:
                vectors = await loop.run_in_executor(self._thread, self._embedder.embed, images)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), vector in zip(batch, vectors, strict=True):
                if not future.done():
                    future.set_result(vector)
