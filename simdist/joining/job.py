"""The work that finding neighbours is: a collection in buckets, range by range of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simdist.hashing import KMeansFamily
from simdist.index.collection import Collection
from simdist.joining.buckets import Buckets, Choice, fit_buckets
from simdist.joining.duplicates import groups_of_same
from simdist.joining.plan import Plan, Wanted
from simdist.joining.whole import OnProgress, Whole

# So few are all compared with each other.
_ALL = 16_384
# How many buckets each is compared with: the fewest of these with which a sample of so many images
# finds what is asked for, surely enough.
_NEAR = (6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 512)
_SAMPLE = 512
# Ranges of buckets that are worked on, and written, one by one.
_RANGES = 64


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


def plan_job(collection: Collection, whole: Whole, wanted: Wanted, on_progress: OnProgress) -> Job:
    """Put a collection into buckets, and find out with how many each must be compared."""
    generation, near, recall = 0, 0, 1.0
    buckets = Buckets.one(whole.packed, whole.slots)
    groups = np.empty(0, np.int32)
    if wanted.no_duplicates:
        groups = groups_of_same(collection, whole, on_progress)
    choice = Choice(wanted.k, wanted.min_score, wanted.max_score, _labels(whole, wanted), groups)
    if len(whole) > _ALL:
        hashing = collection.partitions[0].families.now()
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
        groups=hashlib.sha256(groups.tobytes()).hexdigest() if wanted.no_duplicates else "",
    )
    ends = np.linspace(0, len(whole), min(_RANGES, len(buckets)) + 1)
    bounds = np.unique(np.searchsorted(buckets.starts, ends)).tolist()
    return Job(plan, buckets, choice, tuple(bounds))


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
    home = np.empty(count, np.int32)
    home[buckets.members] = np.repeat(np.arange(len(buckets)), np.diff(buckets.starts))
    own, others = np.broadcast_arrays(home[sample][:, None], home[exact])
    needed = np.minimum(buckets.ranks(own, others), buckets.ranks(others, own))
    near, recall = len(buckets), 1.0
    for near in (*(near for near in _NEAR if near < len(buckets)), len(buckets)):
        met = (needed < near).mean(axis=1)
        recall = float(met.mean())
        # The sample may have been lucky: by two standard errors of its mean.
        if recall - 2 * met.std() / len(met) ** 0.5 >= wanted.recall:
            break
    return near, round(recall, 4)
