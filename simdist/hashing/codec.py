"""A hash family as bytes: an .npz file without pickles."""

from __future__ import annotations

import io

import numpy as np

from simdist.errors import CollectionError
from simdist.hashing.family import HashFamily
from simdist.hashing.gaussian import GaussianFamily
from simdist.hashing.kmeans import KMeansFamily

_FAMILIES: dict[str, type[KMeansFamily] | type[GaussianFamily]] = {
    KMeansFamily.kind: KMeansFamily,
    GaussianFamily.kind: GaussianFamily,
}


def dump_family(family: HashFamily) -> bytes:
    """A family as bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **family.arrays())
    return buffer.getvalue()


def load_family(kind: str, data: bytes) -> HashFamily:
    """The family that `dump_family` made these bytes of; nothing in them is run.

    Raises:
        CollectionError: this simdist does not know the kind.
    """
    if kind not in _FAMILIES:
        raise CollectionError(f"this simdist has no hash family {kind!r}: update simdist")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return _FAMILIES[kind](**file)
