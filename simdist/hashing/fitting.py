"""A hash family for a collection of so many images."""

from __future__ import annotations

import math

from simdist.errors import UsageError
from simdist.hashing.family import HashFamily, Vectors
from simdist.hashing.gaussian import GaussianFamily
from simdist.hashing.hyperplanes import HyperplanesFamily
from simdist.hashing.kmeans import VECTORS_A_CENTROID, KMeansFamily, centroids_for
from simdist.hashing.signs import check_bits

FAMILIES = (KMeansFamily.kind, HyperplanesFamily.kind, GaussianFamily.kind)

# What the families of bits have by default. A bucket holds at most so many images on average.
_TABLES = 8
_IMAGES_A_BUCKET = 16
_MOST_BITS = 24
# Vectors that are enough to place a centroid, and for principal components and medians.
_SAMPLE_A_CENTROID = 16
# From so many vectors on, half of them are.
_LARGE_SAMPLE = 1 << 19
_HYPERPLANES_SAMPLE = 8192


def fit_family(
    sample: Vectors,
    *,
    kind: str = KMeansFamily.kind,
    images: int,
    size: int | None = None,
    tables: int | None = None,
    seed: int = 0,
) -> HashFamily:
    """Fit a family of a kind that suits a collection; the same arguments give the same family.

    Args:
        sample: (n, d) float32 vectors of the collection, n >= 1.
        kind: one of `FAMILIES`.
        images: how many the collection has or is expected to have; the size follows from it.
        size: centroids for kmeans, bits for the other two; overrides what follows from `images`.
            kmeans has fewer if fewer vectors of the sample differ.
        tables: 8 by default; kmeans has one.

    Raises:
        UsageError: there is no such kind, or it cannot have this size or so many tables.
    """
    _check_kind(kind)
    if not len(sample):
        raise UsageError("a hash family is fitted on vectors: give at least one")
    if kind == KMeansFamily.kind:
        _check_kmeans(size, tables, len(sample))
        fits_sample = max(1, len(sample) // VECTORS_A_CENTROID)
        count = size or min(centroids_for(images), fits_sample)
        return KMeansFamily.fit(sample, centroids=count, seed=seed)
    bits = _bits_for(images) if size is None else size
    tables = _TABLES if tables is None else tables
    check_bits(bits)
    if tables < 1:
        raise UsageError(f"{kind} needs at least one table, not {tables}")
    if kind == HyperplanesFamily.kind:
        return HyperplanesFamily.fit(sample, bits=bits, tables=tables, seed=seed)
    return GaussianFamily.draw(dim=sample.shape[1], bits=bits, tables=tables, seed=seed)


def sample_size(kind: str, images: int) -> int:
    """How many vectors to fit a family on, for a collection of so many images; at least one.

    Raises:
        UsageError: there is no such kind.
    """
    _check_kind(kind)
    centroids = centroids_for(images)
    least = VECTORS_A_CENTROID * centroids
    wanted = {
        KMeansFamily.kind: max(least, min(_SAMPLE_A_CENTROID * centroids, _LARGE_SAMPLE)),
        HyperplanesFamily.kind: _HYPERPLANES_SAMPLE,
        # Drawn, not fitted: a vector only says how long vectors are.
        GaussianFamily.kind: 1,
    }
    return max(1, min(images, wanted[kind]))


def _check_kind(kind: str) -> None:
    if kind not in FAMILIES:
        raise UsageError(f"there is no hash family {kind!r}: choose one of {', '.join(FAMILIES)}")


def _check_kmeans(size: int | None, tables: int | None, vectors: int) -> None:
    if tables not in {None, 1}:
        raise UsageError(
            f"kmeans has one table, not {tables}: leave the number out, or choose hyperplanes"
        )
    if size is not None and not 1 <= size <= vectors:
        raise UsageError(
            f"kmeans cannot have {size} centroids with a sample of {vectors} vectors: "
            f"choose a size from 1 to {vectors}"
        )


def _bits_for(images: int) -> int:
    """As few bits as leave a bucket 8 to 16 images on average."""
    return max(1, min(math.ceil(math.log2(max(images, 1) / _IMAGES_A_BUCKET)), _MOST_BITS))
