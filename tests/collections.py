"""Small collections of random vectors, and what tests of rebuilt hash tables ask of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.store import Store, layout
from simdist.store.connection import Script
from simdist.vectors.checks import normalised
from tests.index_contents import contents
from tests.servers import keys

# As many as codes need to be shorter than what they stand for.
DIM = 64
# Images with which a collection's tables are neither too small nor about to grow.
START = 320
# For so many they have few hashes of URIs, all of which are gone through at times.
EXPECTED = 20_000
# What a rebuild writes with.
REBUILDING = {"rehash_start", "rehash_fill", "rehash_finish", "drop", "HDEL"}
# Of the state, what is there only while tables are rebuilt.
UNFINISHED = {b"next_fitted", b"next_skipped", b"filled", b"fill", b"retired"}


def ref(number: int, version: int = 0, label: str | None = "things") -> ImageRef:
    """An image by its number; another version of it has other content."""
    return ImageRef(f"file:///photos/{number}.jpg", f"version {version}", 10, label)


def vectors(count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Random unit vectors."""
    values = np.random.default_rng(seed).standard_normal((count, DIM))
    return normalised(values.astype(np.float32))


def create(store: Store, name: str = "test", *, partitions: int = 1) -> Collection:
    """A new collection of such vectors."""
    return Collection.create(
        store, name, model="m", model_id="m-1", dim=DIM, expect=EXPECTED, partitions=partitions
    )


def filled(store: Store, count: int = START) -> Collection:
    """A collection with the first images."""
    collection = create(store)
    collection.add(vectors(count), [ref(i) for i in range(count)])
    return collection


def add_range(collection: Collection, first: int, last: int) -> None:
    """Add the images from one number to another."""
    collection.add(vectors(last)[first:], [ref(i) for i in range(first, last)])


def meta(collection: Collection) -> dict[bytes, bytes]:
    """What Redis keeps of the collection itself."""
    fields: dict[bytes, bytes] = collection.store.call("HGETALL", layout.Keys("test").meta)
    return fields


def tables_made(collection: Collection) -> int:
    """How many hash tables the first partition has had, one after the other."""
    return collection.partitions[0].families.now().generation >> 32


def family_key(collection: Collection) -> str:
    """Where the hash family in use is stored."""
    partition = collection.partitions[0]
    return partition.keys.family(partition.state().generation)


def check(collection: Collection, images: int, generation: int) -> None:
    """All images in the tables once, nothing left over, and searches that find them."""
    assert contents(collection) == sorted(ref(i).uri for i in range(images))
    number = collection.partitions[0].families.now().generation
    assert tables_made(collection) == generation
    assert collection.partitions[0].families.now().following is None
    assert UNFINISHED.isdisjoint(meta(collection))
    names = keys(collection.store, layout.Keys("test").pattern())
    generations = {key.split(b":")[3] for key in names if b":bucket:" in key or b":family:" in key}
    assert generations == {str(number).encode()}
    for i in range(0, images, 97):
        assert Searcher(collection).search(vectors(images)[i], n=1)[0].uri == ref(i).uri


class Killed(BaseException):
    """Stands for the death of the process."""


def name_of(command: Any) -> str:
    """The name of a script, or of a command."""
    return command.name if isinstance(command, Script) else str(command)
