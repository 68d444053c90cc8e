"""What can happen to a collection, a step at a time, and the dictionary that it must equal."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from simdist.index import growth as rehash
from simdist.index.collection import Collection
from simdist.index.growth import grow
from simdist.index.offloading import bring_back, offload
from simdist.search.searcher import Searcher
from tests.collections import ref, vectors
from tests.index_contents import contents

# Image -> which of its contents is indexed.
Model = dict[int, int]


@dataclass(frozen=True)
class Step:
    """Something to do with images, or with all: "rehash", "offload", "back"."""

    kind: str
    images: Sequence[int] = ()
    state: int = 0

    def do(self, collection: Collection) -> None:
        if self.kind == "add":
            data = np.stack([content(image, self.state) for image in self.images])
            collection.add(data, [ref(image, self.state) for image in self.images])
        elif self.kind == "delete":
            collection.delete(ref(image).uri for image in self.images)
        elif self.kind == "offload":
            offload(collection, files(), bits=2)
        elif self.kind == "back":
            bring_back(collection)
        else:
            rebuild(collection)

    def after(self, model: Model) -> Model:
        """What a dictionary holds when the step is done."""
        if self.kind == "add":
            return model | dict.fromkeys(self.images, self.state)
        gone = set(self.images) if self.kind == "delete" else set()
        return {image: state for image, state in model.items() if image not in gone}


@cache
def files() -> str:
    """A folder for what is offloaded, for as long as this process lives."""
    folder = tempfile.mkdtemp(prefix="simdist-test-")
    atexit.register(shutil.rmtree, folder)
    return folder


def content(image: int, state: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = vectors(1, seed=1000 * image + state)[0]
    return values


def rebuild(collection: Collection) -> None:
    """Go on with a rebuild of the tables that was interrupted, or start one, and finish it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehash, "GROWTH", 0)
        for partition in collection.partitions:
            if partition.is_fitted() and partition.state().live:
                grow(partition)


def check(collection: Collection, model: Model, searcher: Searcher | None = None) -> None:
    """The index is whole, and an exhaustive search in it finds what a dictionary holds."""
    assert contents(collection) == sorted(ref(image).uri for image in model)
    assert collection.known([ref(image, state) for image, state in model.items()]).all()
    if collection.is_fitted():
        query = vectors(1, seed=99)[0]
        hits = (searcher or Searcher(collection)).search(query, n=1000, probes=100_000)
        scores = {ref(image).uri: content(image, state) @ query for image, state in model.items()}
        assert {hit.uri: hit.score for hit in hits} == pytest.approx(scores, abs=0.02)


def forget_leases(collection: Collection) -> None:
    """As if the time that a dead process had for its rebuild were over."""
    for partition in collection.partitions:
        collection.store.call("DEL", partition.keys.lease)
