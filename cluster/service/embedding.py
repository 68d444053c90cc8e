"""The embedder as query workers reach it: whenever it is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cluster.service.metrics import ServiceMetrics
from simdist.embedding import Preprocessing, require_words
from simdist.errors import BusyError
from simdist.images.limits import Pixels
from simdist.index.collection import Collection

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_PAUSE = 0.2  # seconds between two attempts to reach an embedder that is not there

T = TypeVar("T")


class Embedding:
    """Has images and words embedded for collections. To be asked from one event loop."""

    def __init__(
        self,
        embedder: DeploymentHandle[Any],
        decoded: Callable[[Callable[[], Pixels]], Awaitable[Pixels]],
        metrics: ServiceMetrics,
        *,
        max_pixels: int,
    ) -> None:
        """Nothing is asked yet.

        Args:
            decoded: runs work on pixels where it delays no search.
            max_pixels: of an image.
        """
        self._embedder = embedder
        self._decoded = decoded
        self._metrics = metrics
        self._max_pixels = max_pixels
        self._model: tuple[str, Preprocessing] | None = None

    async def image(self, data: bytes, opened: Collection) -> tuple[NDArray[np.float32], Pixels]:
        """An image's vector, (dim,), and the pixels that it is made of.

        Raises:
            BusyError: too many wait.
            ModelMismatchError: the collection is of another model.
            ImageError: it is not an acceptable image.
        """

        async def embed(preprocessing: Preprocessing) -> tuple[NDArray[np.float32], Pixels]:
            pixels = await self._decoded(
                partial(preprocessing.pixels, data, max_pixels=self._max_pixels)
            )
            return await self._timed(self._embedder.embed.remote(pixels)), pixels

        return await self._whenever(opened, embed)

    async def text(self, text: str, opened: Collection) -> NDArray[np.float32]:
        """The vector of words, (dim,).

        Raises:
            BusyError, ModelMismatchError: as `image`.
            UsageError: the collection's model reads no words.
        """
        require_words(opened.model_id)
        return await self._whenever(
            opened, lambda _: self._timed(self._embedder.embed_text.remote(text))
        )

    async def _timed(self, embedding: Awaitable[NDArray[np.float32]]) -> NDArray[np.float32]:
        started = time.perf_counter()
        vector = await embedding
        self._metrics.stage("embed", time.perf_counter() - started)
        return vector

    async def _whenever(
        self, opened: Collection, work: Callable[[Preprocessing], Awaitable[T]]
    ) -> T:
        """What the embedder does for a collection of its model, as soon as there is one."""
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        while True:
            try:
                if self._model is None:
                    self._model = await self._embedder.model.remote()
                model_id, preprocessing = self._model
                opened.require_model(model_id)
                return await work(preprocessing)
            except BackPressureError as error:
                raise BusyError("more images wait than can be embedded; try again") from error
            # It died, and is being replaced.
            except (RayActorError, DeploymentUnavailableError):
                await asyncio.sleep(_PAUSE)
