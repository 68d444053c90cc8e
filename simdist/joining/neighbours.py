"""For each image of a collection those that are nearest to it, range by range of its buckets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import UsageError
from simdist.hashing import KMeansFamily
from simdist.index.collection import Collection
from simdist.joining.buckets import Buckets, Choice, fit_buckets
from simdist.joining.whole import Whole, read_whole
from simdist.settings import Settings
from simdist.store import open_store

MAX_K = 1000
# So few are all compared with each other.
_ALL = 16_384
# How many buckets each is compared with: the fewest of these with which a sample of so many images
# finds what is asked for.
_NEAR, _SAMPLE = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512), 512
# Ranges of buckets that are worked on, and written, one by one.
_RANGES = 64


@dataclass(frozen=True)
class Neighbour:
    """One of an image's nearest. `rank` counts from 1, `score` is their cosine."""

    uri: str
    neighbour: str
    score: float
    rank: int


@dataclass(frozen=True)
class Wanted:
    """Which neighbours an image gets.

    Attributes:
        k: at most so many.
        recall: the share of the true ones that is found at least, measured with a sample.
        min_score, max_score: cosines from the one on, and below the other.
        same_label: only those with the image's own label.
    """

    k: int = 20
    recall: float = 0.95
    min_score: float = -1.0
    max_score: float = 2.0
    same_label: bool = False

    def __post_init__(self) -> None:
        """Check that it makes sense.

        Raises:
            UsageError: it does not.
        """
        if not 1 <= self.k <= MAX_K:
            raise UsageError(f"an image has 1 to {MAX_K:,} neighbours, not {self.k:,}")
        if not 0 < self.recall <= 1:
            raise UsageError(f"a recall is above 0 and at most 1, not {self.recall:g}")


@dataclass(frozen=True)
class Plan:
    """All that the neighbours in a collection follow from: equal plans give equal ones.

    Attributes:
        collection: its name.
        generation: of the hash tables that the buckets are from; 0 for buckets of their own.
        near: how many buckets each is compared with; 0 for all.
        recall: what that finds of a sample's true neighbours.
        born, epochs, rows: of the partitions (`Whole`).
    """

    collection: str
    model_id: str
    wanted: Wanted
    generation: int
    near: int
    recall: float
    born: tuple[str, ...]
    epochs: tuple[int, ...]
    rows: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """As it is written beside the neighbours."""
        fields = asdict(self)
        return fields | {name: list(fields[name]) for name in ("born", "epochs", "rows")}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Plan:
        """As it was written.

        Raises:
            ValueError, TypeError, KeyError: it is damaged.
        """
        lists: dict[str, tuple[Any, ...]]
        lists = {name: tuple(map(int, fields[name])) for name in ("epochs", "rows")}
        lists["born"] = tuple(map(str, fields["born"]))
        return cls(**fields | lists | {"wanted": Wanted(**fields["wanted"])})

    def goes_on_from(self, earlier: Plan) -> bool:
        """Whether only what has changed since needs to be compared."""
        then = replace(earlier, recall=self.recall, epochs=self.epochs, rows=self.rows)
        # Buckets of their own follow from all vectors, and are others now.
        return then == self and (self.generation > 0 or not self.near)


@dataclass(frozen=True)
class Job:
    """The work on a collection as it is: its buckets, in ranges.

    Attributes:
        bounds: where ranges start, and the end.
        known: what is known of earlier; None for nothing.
    """

    plan: Plan
    buckets: Buckets
    choice: Choice
    bounds: tuple[int, ...]
    known: Known | None = None

    def run(self, number: int) -> Part:
        """The neighbours of all images in one range of buckets."""
        first, last = self.bounds[number], self.bounds[number + 1]
        images = self.buckets.members[self.buckets.starts[first] : self.buckets.starts[last]]
        best = np.empty((len(images), self.choice.k), np.int32)
        scores = np.empty(best.shape, np.float32)
        done = 0
        for bucket in range(first, last):
            within = self.buckets.within(bucket)
            here = slice(done, done + len(within))
            best[here], scores[here] = self._of(within, self.buckets.around(bucket, once=False))
            done += len(within)
        return Part(images, best, scores)

    def _of(
        self, images: NDArray[np.int32], candidates: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        if self.known is None:
            return self.choice.of(self.buckets, images, candidates)
        best, scores = self.known.best[images], self.known.scores[images]
        new = self.known.new[candidates]
        old = np.flatnonzero(~self.known.stale[images])
        if new.any() and len(old):
            both = best[old], scores[old]
            self.choice.improve(self.buckets, images[old], candidates[new], both)
            best[old], scores[old] = both
        stale = np.flatnonzero(self.known.stale[images])
        if len(stale):
            best[stale], scores[stale] = self.choice.of(self.buckets, images[stale], candidates)
        return best, scores


@dataclass(frozen=True)
class Part:
    """The neighbours of some images: (m,), (m, k) numbers, -1 for none, and (m, k) scores."""

    images: NDArray[np.int32]
    best: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Known:
    """What an earlier run has found, in today's numbers.

    Attributes:
        best, scores: (n, k) as in `Part`, of those that are not stale.
        new: (n,) which images have come, or changed, since.
        stale: (n,) of which all has to be found anew: the new, and those that have lost one.
    """

    best: NDArray[np.int32]
    scores: NDArray[np.float32]
    new: NDArray[np.bool_]
    stale: NDArray[np.bool_]


def plan_job(collection: Collection, whole: Whole, wanted: Wanted) -> Job:
    """Put a collection into buckets, and find out with how many each must be compared."""
    generation, near, recall = 0, 0, 1.0
    buckets = Buckets.one(whole.packed, whole.slots)
    choice = Choice(wanted.k, wanted.min_score, wanted.max_score, _labels(whole, wanted))
    if len(whole) > _ALL:
        hashing = collection.partitions[0].hashing()
        if isinstance(hashing.family, KMeansFamily):
            generation = hashing.generation
            buckets = Buckets.of(whole.packed, whole.slots, hashing.family)
        else:
            buckets = fit_buckets(whole.packed, whole.slots)
        near, recall = _near_for(buckets, wanted)
        buckets = buckets.compared_with(near)
    plan = Plan(
        collection=collection.name,
        model_id=collection.model_id,
        wanted=wanted,
        generation=generation,
        near=near,
        recall=recall,
        born=whole.born,
        epochs=whole.epochs,
        rows=whole.rows,
    )
    ends = np.linspace(0, len(whole), min(_RANGES, len(buckets)) + 1)
    bounds = np.unique(np.searchsorted(buckets.starts, ends)).tolist()
    return Job(plan, buckets, choice, tuple(bounds))


def neighbours(
    collection: str,
    *,
    k: int = 20,
    recall: float = 0.95,
    min_score: float = -1.0,
    max_score: float = 2.0,
    same_label: bool = False,
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
        redis: URL of the server; by default the environment's, or one of its own.

    Raises:
        UsageError: arguments that make no sense.
        CollectionError, StoreError: it cannot be read.
    """
    wanted = Wanted(k, recall, min_score, max_score, same_label)
    with open_store(Settings.resolve(redis_url=redis)) as store:
        opened = Collection.open(store, collection)
        whole = read_whole(opened, lambda *_: None)
        job = plan_job(opened, whole, wanted)
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


def _labels(whole: Whole, wanted: Wanted) -> NDArray[np.int32]:
    """A number for each image's label; those without one have none in common."""
    if not wanted.same_label:
        return np.empty(0, np.int32)
    known: dict[str, int] = {}
    labels = np.empty(len(whole), np.int32)
    for number in range(len(whole)):
        label = whole.record(number).label
        labels[number] = -1 - number if label is None else known.setdefault(label, len(known))
    return labels


def _near_for(buckets: Buckets, wanted: Wanted) -> tuple[int, float]:
    """With how many buckets each must be compared for a recall, and the recall."""
    count = len(buckets.slots)
    drawn = np.random.default_rng(0).choice(count, min(count, _SAMPLE), replace=False)
    sample, everything = np.sort(drawn).astype(np.int32), np.arange(count, dtype=np.int32)
    choice = Choice(wanted.k)
    exact, _ = choice.of(Buckets.one(buckets.packed, buckets.slots), sample, everything)
    home = np.empty(count, np.int64)
    home[buckets.members] = np.repeat(np.arange(len(buckets)), np.diff(buckets.starts))
    near, recall = len(buckets), 1.0
    for near in (*(near for near in _NEAR if near < len(buckets)), len(buckets)):
        wider = buckets.compared_with(near)
        met = [
            np.isin(home[found], wider.near_of(bucket)).mean()
            for found, bucket in zip(exact, home[sample].tolist(), strict=True)
        ]
        recall = float(np.mean(met))
        if recall >= wanted.recall:
            break
    return near, round(recall, 4)
