"""Indexes pictures that are in memory, as an ingest does with files."""

from __future__ import annotations

import numpy as np

from simdist.embedding import Embedder
from simdist.embedding.memory import tune_process
from simdist.index.collection import Collection
from simdist.prints.prints import TINY, is_tiny, prints_of
from simdist.sources import ImageRef
from simdist.store import Store

_BATCH = 64


class Indexer:
    """A new collection, and what is on its way into it."""

    def __init__(self, store: Store, name: str) -> None:
        tune_process()
        self._embedder = Embedder.load("efficientnet-lite0")
        self.collection = Collection.ensure(store, name, model=self._embedder.model)
        self._held: list[tuple[str, bytes]] = []
        self.images = 0

    def add(self, uri: str, data: bytes) -> None:
        """Add one, sooner or later."""
        self._held.append((uri, data))
        if len(self._held) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Add what is held."""
        if not self._held:
            return
        pixels = np.stack([self._embedder.model.preprocessing.pixels(d) for _, d in self._held])
        looks = prints_of(pixels)
        refs = [
            ImageRef(uri, "1", len(data), None, look=TINY if is_tiny(data) else look)
            for (uri, data), look in zip(self._held, looks, strict=True)
        ]
        self.collection.add(self._embedder.embed(pixels), refs)
        self.images += len(refs)
        self._held.clear()
