"""A hash family as bytes: an .npz file without pickles."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError
from simdist.hashing.family import HashFamily
from simdist.hashing.gaussian import GaussianFamily
from simdist.hashing.hyperplanes import HyperplanesFamily
from simdist.hashing.kmeans import KMeansFamily

_FAMILIES: dict[str, type[KMeansFamily | HyperplanesFamily | GaussianFamily]] = {
    family.kind: family for family in (KMeansFamily, HyperplanesFamily, GaussianFamily)
}


def dump_family(family: HashFamily) -> bytes:
    """A family as bytes: its kind and a zero byte, then the file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **family.arrays())
    return family.kind.encode() + b"\0" + buffer.getvalue()


def load_family(data: bytes) -> HashFamily:
    """The family that `dump_family` made these bytes of; nothing in them is run.

    Raises:
        CollectionError: this simdist does not know the kind.
    """
    name, _, content = data.partition(b"\0")
    kind = name.decode(errors="replace")
    if kind not in _FAMILIES:
        raise CollectionError(f"this simdist has no hash family {kind!r}: update simdist")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: _single(array) for name, array in file.items()}
    return _FAMILIES[kind](**arrays)


def _single(array: NDArray[Any]) -> NDArray[Any]:
    """What is stored in half precision is computed with in single."""
    return array.astype(np.float32) if array.dtype == np.float16 else array
