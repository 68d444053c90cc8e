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
from simdist.errors import BusyError, SimdistError
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
        # Of models that the embedder has, or had, by their ids.
        self._known: dict[str, Preprocessing] = {}

    async def image(self, data: bytes, opened: Collection) -> tuple[NDArray[np.float32], Pixels]:
        """An image's vector, (dim,), and the pixels that it is made of.

        Raises:
            BusyError: too many wait.
            ModelMismatchError, ModelError, UsageError: the collection's model cannot be had.
            ImageError: it is not an acceptable image.
        """

        async def embed(preprocessing: Preprocessing) -> tuple[NDArray[np.float32], Pixels]:
            pixels = await self._decoded(
                partial(preprocessing.pixels, data, max_pixels=self._max_pixels)
            )
            asked = self._embedder.embed.remote(pixels, opened.model_id)
            return await self._timed(asked, opened), pixels

        return await self._whenever(opened, embed)

    async def text(self, text: str, opened: Collection) -> NDArray[np.float32]:
        """The vector of words, (dim,).

        Raises:
            BusyError, ModelMismatchError, ModelError: as `image`.
            UsageError: the collection's model reads no words.
        """
        require_words(opened.model_id)

        async def embed(_: Preprocessing) -> NDArray[np.float32]:
            asked = self._embedder.embed_text.remote(text, opened.model_id)
            return await self._timed(asked, opened)

        return await self._whenever(opened, embed)

    async def _timed(
        self, embedding: Awaitable[NDArray[np.float32] | None], opened: Collection
    ) -> NDArray[np.float32]:
        started = time.perf_counter()
        vector = await embedding
        self._metrics.stage("embed", time.perf_counter() - started)
        if vector is None:
            raise _ForgottenError(opened.model_id)
        return vector

    async def _whenever(
        self, opened: Collection, work: Callable[[Preprocessing], Awaitable[T]]
    ) -> T:
        """What the embedder does for a collection of its model, as soon as there is one."""
        from ray.exceptions import RayActorError, RayTaskError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        while True:
            try:
                return await work(await self._preprocessing(opened))
            # Others have been asked for since, or another embedder took its place.
            except _ForgottenError as error:
                self._known.pop(error.model_id, None)
            except BackPressureError as error:
                raise BusyError("more images wait than can be embedded; try again") from error
            except RayTaskError as error:
                if isinstance(error.cause, SimdistError):
                    raise error.cause from error
                raise
            # It died, and is being replaced.
            except (RayActorError, DeploymentUnavailableError):
                await asyncio.sleep(_PAUSE)

    async def _preprocessing(self, opened: Collection) -> Preprocessing:
        """That of a collection's model, which the embedder loads if it must."""
        if opened.model_id not in self._known:
            model_id, preprocessing = await self._embedder.model.remote()
            if model_id != opened.model_id:
                # That of another collection, by the name that it says.
                model_id, preprocessing = await self._embedder.model.remote(
                    opened.model, opened.model_id
                )
            opened.require_model(model_id)
            self._known[model_id] = preprocessing
        return self._known[opened.model_id]


class _ForgottenError(Exception):
    """The embedder does not have that model any more."""

    def __init__(self, model_id: str) -> None:
        super().__init__(model_id)
        self.model_id = model_id
