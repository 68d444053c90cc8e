"""For each image of a collection those that are nearest to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simdist.index.collection import Collection
from simdist.joining.job import plan_job
from simdist.joining.plan import Wanted
from simdist.joining.whole import Whole, read_whole
from simdist.settings import Settings
from simdist.store import open_store


@dataclass(frozen=True)
class Neighbour:
    """One of an image's nearest. `rank` counts from 1, `score` is their cosine."""

    uri: str
    neighbour: str
    score: float
    rank: int


def neighbours(
    collection: str,
    *,
    k: int = 20,
    recall: float = 0.95,
    min_score: float = -1.0,
    max_score: float = 2.0,
    same_label: bool = False,
    no_duplicates: bool = False,
    redis: str | None = None,
) -> Iterator[Neighbour]:
    """The nearest of each image of a collection, by URI; found in this process.

    >>> for one in simdist.neighbours("demo", k=3):
    ...     print(one.uri, one.neighbour, one.score)

    Args:
        collection: its name.
        k: for each image.
        recall: the share of the true ones to find at least.
        min_score, max_score: cosines from the one on, and below the other.
        same_label: only those with the image's own label.
        no_duplicates: leave out the same picture in another form.
        redis: URL of the server; by default the environment's, or one of its own.

    Raises:
        UsageError: arguments that make no sense.
        CollectionError, StoreError: it cannot be read.
    """
    wanted = Wanted(k, recall, min_score, max_score, same_label, no_duplicates)
    with open_store(Settings.resolve(redis_url=redis)) as store:
        opened = Collection.open(store, collection)
        whole = read_whole(opened, _ignore)
        job = plan_job(opened, whole, wanted, _ignore)
    best = np.full((len(whole), k), -1, np.int32)
    scores = np.empty((len(whole), k), np.float32)
    for number in range(len(job.bounds) - 1):
        part = job.run(number)
        best[part.images], scores[part.images] = part.best, part.scores
    yield from records(whole, best, scores)


def records(
    whole: Whole, best: NDArray[np.int32], scores: NDArray[np.float32]
) -> Iterator[Neighbour]:
    """Neighbours as records, in the order of their URIs.

    Args:
        best, scores: (n, k) of all images.
    """
    for number in range(len(whole)):
        uri = whole.uri(number)
        for rank, (other, score) in enumerate(
            zip(best[number].tolist(), scores[number].tolist(), strict=True), 1
        ):
            if other < 0:
                break
            yield Neighbour(uri, whole.uri(other), score, rank)


def _ignore(doing: str, done: int, total: int) -> None:
    """Nobody wants to know how far it is."""
