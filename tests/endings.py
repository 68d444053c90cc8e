"""A collection ends at any command of whoever uses it, in one way or another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from simdist.errors import CollectionError, MissingCollectionError
from simdist.index import dropping
from simdist.index.check import check
from simdist.index.collection import Collection
from simdist.store import Store, layout, name_scripts
from tests.collections import create, filled, ref, vectors
from tests.index_contents import contents
from tests.servers import empty, keys

Use = Callable[[Collection, Path], object]
End = Callable[[Store], None]

# Images of one that is made anew.
ANEW = 40
# What is said then.
CLEAR = (
    "|the collection 'test' is gone: ingest it again"
    "|there is no collection 'test'.*"
    "|the collection 'test' was lost, and made anew meanwhile: run the same command again"
)


def dropped(store: Store) -> None:
    dropping.drop(store, "test")


def closed(store: Store) -> None:
    """A drop that is killed as soon as the collection is gone, with all its keys there still."""
    [home] = dropping.begin_drop(store, "test")
    name_scripts.close(store, layout.Keys(home).meta)


def made_anew(store: Store, *, partitions: int = 1) -> None:
    dropping.drop(store, "test")
    collection = create(store, partitions=partitions)
    collection.add(vectors(ANEW, seed=9), [ref(i, version=9) for i in range(ANEW)])


def made_anew_in_parts(store: Store) -> None:
    made_anew(store, partitions=2)


ENDS: list[End] = [dropped, closed, made_anew]


def every_answer(
    store: Store,
    other: Store,
    use: Use,
    end: End,
    folder: Path,
    *,
    make: Callable[[Store], object] = filled,
    step: int = 1,
) -> Iterator[str]:
    """What is said if the collection ends before the first command, the second, and so on.

    Args:
        step: with it only before one in so many; each way to end it begins with another.
    """
    first: dict[End, int] = {dropped: 0, closed: 1}
    for at in range(first.get(end, 2) % step, 1000, step):
        empty(other)
        make(other)
        collection, said = Collection.open(store, "test"), ""
        with pytest.MonkeyPatch.context() as patch:
            ended = before_command(patch, store, at, partial(end, other))
            try:
                use(collection, folder / str(at))
            except CollectionError as error:
                said = str(error)
        if not ended:
            return
        if end in {made_anew, made_anew_in_parts}:
            new = Collection.open(other, "test")
            assert contents(new) == sorted(ref(i).uri for i in range(ANEW))
            assert [damage for one in check(new) for damage in one.damages] == []
            dropping.drop(other, "test")
        dropping.finish(other, dropping.begun(other, "test"))
        yield said
        # One that was begun only.
        with suppress(MissingCollectionError):
            dropping.drop(other, "other")
        assert keys(other, "*") == []


def before_command(
    patch: pytest.MonkeyPatch, store: Store, at: int, do: Callable[[], None]
) -> list[int]:
    """Do something before a command of a store; returns a list that has it as soon as it is so."""
    sent, done = count(), list[int]()
    for name in ("call", "call_many", "run"):
        method = getattr(Store, name)

        def call(self: Store, *rest: Any, method: Any = method, **options: Any) -> Any:
            if self is store and next(sent) == at:
                done.append(at)
                do()
            return method(self, *rest, **options)

        patch.setattr(Store, name, call)
    return done
