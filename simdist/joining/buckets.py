"""Vectors in buckets that are compared with the buckets around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simdist.hashing import KMeansFamily
from simdist.vectors.codec import INVERSE_LENGTH, Codec, wholes

# Vectors in a bucket, on average, and how many buckets of the nearest it is compared with: the
# recall follows from it (docs/duplicates.md).
_A_BUCKET = 64
NEAR, _MOST_NEAR = 48, 256
# Vectors of a sample for each bucket.
_SAMPLED_EACH = 6
# Vectors that are compared with each other at once.
_IMAGES, _CANDIDATES = 256, 4096
LARGEST = _IMAGES * _CANDIDATES
_ROWS = 65_536


@dataclass(frozen=True)
class Block:
    """Some vectors to be compared with some others.

    Attributes:
        products: (c, q) int32, of their values.
        sides: numbers and inverse lengths of the c candidates, then of the q vectors.
    """

    products: NDArray[np.int32]
    sides: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]


@dataclass(frozen=True)
class Buckets:
    """n vectors in K buckets.

    Attributes:
        packed: stored vectors of int8 values.
        slots: (n,) where the vector of each number is.
        members: (n,) int32, numbers, those of a bucket side by side.
        starts: (K + 1,) bucket b has those from starts[b] up to starts[b + 1].
        near: (m,) the buckets that are compared with each, itself among them, in order.
        near_starts: (K + 1,) as `starts`, of `near`.
        ranked: (K, r) the buckets around each, the nearest first.
    """

    packed: NDArray[np.uint8]
    slots: NDArray[np.int64]
    members: NDArray[np.int32]
    starts: NDArray[np.int64]
    near: NDArray[np.int32]
    near_starts: NDArray[np.int64]
    ranked: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        packed: NDArray[np.uint8],
        slots: NDArray[np.int64],
        family: KMeansFamily,
        *,
        near: int = NEAR,
    ) -> Buckets:
        """Put vectors, (n, width) bytes of int8 values, into the buckets of a family."""
        buckets = np.empty(len(slots), np.int64)
        codec = Codec.of("int8", packed.shape[1] - INVERSE_LENGTH)
        for start in range(0, len(slots), _ROWS):
            part = slots[start : start + _ROWS]
            buckets[start : start + _ROWS] = family.buckets(*codec.unpack(_taken(packed, part)))[
                :, 0
            ]
        members = np.argsort(buckets, kind="stable").astype(np.int32)
        starts = np.searchsorted(buckets[members], np.arange(family.size + 1))
        ranked = family.around(min(_MOST_NEAR, family.size))
        return cls(packed, slots, members, starts, *_mutual(ranked[:, :near]), ranked)

    @classmethod
    def one(cls, packed: NDArray[np.uint8], slots: NDArray[np.int64]) -> Buckets:
        """All vectors in one bucket."""
        count = len(slots)
        ends, first = np.array([0, count]), np.zeros(1, np.int32)
        numbers, alone = np.arange(count, dtype=np.int32), np.zeros((1, 1), np.int32)
        return cls(packed, slots, numbers, ends, first, np.array([0, 1]), alone)

    def compared_with(self, near: int) -> Buckets:
        """The same, each compared with so many of the nearest; with all that there are ranks of."""
        around, starts = _mutual(self.ranked[:, :near])
        return replace(self, near=around, near_starts=starts)

    def ranks(self, one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.int64]:
        """How near others are to some buckets, 0 for itself; the number of all if not ranked."""
        met = self.ranked[one] == other[..., None]
        return np.where(met.any(axis=-1), met.argmax(axis=-1), len(self))

    def near_of(self, bucket: int) -> NDArray[np.int32]:
        """The buckets that are compared with one."""
        return self.near[self.near_starts[bucket] : self.near_starts[bucket + 1]]

    def __len__(self) -> int:
        """How many buckets there are."""
        return len(self.starts) - 1

    def within(self, bucket: int) -> NDArray[np.int32]:
        """The numbers of those in a bucket, in order."""
        return self.members[self.starts[bucket] : self.starts[bucket + 1]]

    def around(self, bucket: int, *, once: bool) -> NDArray[np.int32]:
        """The numbers of those in the buckets that are compared with one.

        Args:
            once: leave out itself, and the buckets before it, which are compared with it.
        """
        near = self.near_of(bucket)
        near = near[near > bucket] if once else near
        firsts = self.starts[near]
        counts = self.starts[near + 1] - firsts
        before = np.cumsum(counts) - counts
        # All of them at once: a bucket has few, and there are many.
        places = np.repeat(firsts - before, counts) + np.arange(counts.sum())
        return np.take(self.members, places)

    def blocks(
        self, images: NDArray[np.int32], candidates: NDArray[np.int32]
    ) -> Iterator[tuple[slice, Block]]:
        """Compare some vectors with others, in blocks; yields which of the first each is of."""
        from numkong import dots_pack, dots_packed

        for first in range(0, len(images), _IMAGES):
            asked = images[first : first + _IMAGES]
            values, inverses = self._vectors(asked)
            packed = dots_pack(values, "int8")
            for start in range(0, len(candidates), _CANDIDATES):
                some = candidates[start : start + _CANDIDATES]
                others, other_inverses = self._vectors(some)
                products = np.asarray(dots_packed(others, packed))
                sides = (some, other_inverses, asked, inverses)
                yield slice(first, first + len(asked)), Block(products, sides)

    def _vectors(self, numbers: NDArray[np.int32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        found = _taken(self.packed, self.slots[numbers])
        inverses = np.ascontiguousarray(found[:, :INVERSE_LENGTH]).view("<f4").ravel()
        return found[:, INVERSE_LENGTH:].view(np.int8), inverses


@dataclass(frozen=True)
class Choice:
    """Which of its candidates an image gets: the k that score best.

    Attributes:
        least, most: scores from the one on, and below the other.
        labels: (n,) int32 of all images, only those with equal ones count; empty for any.
        groups: (n,) int32 of all images, only those with other ones count; empty for any.
    """

    k: int
    least: float = -2.0
    most: float = 2.0
    labels: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    groups: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def of(
        self, buckets: Buckets, images: NDArray[np.int32], candidates: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """(q, k) numbers, the best first, -1 for none, and their scores, -inf for none."""
        best = np.full((len(images), self.k), -1, np.int32)
        scores = np.full((len(images), self.k), -np.inf, np.float32)
        self.improve(buckets, images, candidates, (best, scores))
        return best, scores

    def improve(
        self,
        buckets: Buckets,
        images: NDArray[np.int32],
        candidates: NDArray[np.int32],
        found: tuple[NDArray[np.int32], NDArray[np.float32]],
    ) -> None:
        """Put what is better among the best that there are, as `of` returns them."""
        from simdist.joining.join_loops import improve

        best, scores = found
        bounds = (self.least, self.most)
        for part, block in buckets.blocks(images, candidates):
            here = best[part], scores[part]
            sorts = self.labels, self.groups
            improve(block.products, block.sides, bounds, sorts, here)


def fit_buckets(
    packed: NDArray[np.uint8], slots: NDArray[np.int64], *, near: int = NEAR
) -> Buckets:
    """Buckets that follow from the vectors alone, and the order of their numbers."""
    size = max(1, len(slots) // _A_BUCKET)
    codec = Codec.of("int8", packed.shape[1] - INVERSE_LENGTH)
    wanted = min(len(slots), _SAMPLED_EACH * size)
    drawn = np.random.default_rng(0).choice(len(slots), wanted, replace=False)
    sample = codec.restore(_taken(packed, slots[np.sort(drawn)]))
    return Buckets.of(packed, slots, KMeansFamily.fit(sample, centroids=size), near=near)


def _taken(packed: NDArray[np.uint8], slots: NDArray[np.int64]) -> NDArray[np.uint8]:
    chosen = wholes(packed)[slots]
    return chosen.view(np.uint8).reshape(len(slots), packed.shape[1])


def _mutual(nearest: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The nearest of each bucket, and those that it is among the nearest of: if one of two is
    compared with the other, both are.

    Returns:
        They end to end, ordered, and where each one's start.
    """
    size = len(nearest)
    one = np.repeat(np.arange(size), nearest.shape[1])
    other = nearest.ravel().astype(np.int64)
    both = np.sort(np.concatenate([one * size + other, other * size + one]))
    both = both[np.diff(both, prepend=-1) > 0]
    return (both % size).astype(np.int32), np.searchsorted(both // size, np.arange(size + 1))
