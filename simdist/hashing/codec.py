"""A hash family as bytes: an .npz file without pickles."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError, StoreError
from simdist.hashing.family import HashFamily
from simdist.hashing.gaussian import GaussianFamily
from simdist.hashing.hyperplanes import HyperplanesFamily
from simdist.hashing.kmeans import KMeansFamily
from simdist.hashing.projection import rounded_centroids
from simdist.hashing.signs import MAX_BITS

Arrays = Mapping[str, NDArray[Any]]

# How each is made of its arrays.
_FAMILIES: dict[str, Callable[..., HashFamily]] = {
    KMeansFamily.kind: KMeansFamily.of,
    HyperplanesFamily.kind: HyperplanesFamily,
    GaussianFamily.kind: GaussianFamily,
}
# The arrays of each: dtype, and shape, where a letter stands for the same length everywhere; d is
# the dimension of the vectors.
_SHAPES: dict[str, dict[str, tuple[type[np.generic], str]]] = {
    KMeansFamily.kind: {
        "axes": (np.int8, "cd"),
        "scales": (np.float32, "c"),
        "centroids": (np.number, "Kc"),
        "cells": (np.float32, "Cc"),
        "starts": (np.int64, "S"),
    },
    HyperplanesFamily.kind: {"planes": (np.floating, "tkd"), "thresholds": (np.floating, "tk")},
    GaussianFamily.kind: {"planes": (np.floating, "tkd")},
}


def dump_family(family: HashFamily) -> bytes:
    """A family as bytes: its kind and a zero byte, then the file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **family.arrays())
    return family.kind.encode() + b"\0" + buffer.getvalue()


def load_family(data: bytes, *, dim: int) -> HashFamily:
    """The family for vectors of a dimension that `dump_family` made these bytes of.

    Nothing in them is run, and no family is made that would read outside its arrays.

    Raises:
        CollectionError: this simdist does not know the kind.
        StoreError: the bytes are damaged.
    """
    name, _, content = data.partition(b"\0")
    kind = name.decode(errors="replace")
    if kind not in _FAMILIES:
        raise CollectionError(f"this simdist has no hash family {kind[:40]!r}: update simdist")
    try:
        arrays = _arrays(content)
        sizes = _sizes(arrays, _SHAPES[kind], dim)
        if kind == KMeansFamily.kind:
            _check_starts(arrays["starts"], cells=sizes["C"], centroids=sizes["K"])
            if arrays["centroids"].dtype != np.int8:
                # In an export of a simdist that stored them as floats.
                arrays["centroids"] = rounded_centroids(arrays["centroids"])
        elif not 1 <= sizes["k"] <= MAX_BITS:
            raise ValueError("its buckets have no possible number of bits")
    # Anything: zipfile and NumPy, which parses Python, raise a dozen kinds on damaged bytes.
    except Exception as error:
        raise StoreError(f"a hash family is damaged: {error}") from error
    return _FAMILIES[kind](**arrays)


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        # Else some bytes could unpack to gigabytes.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist()):
            raise ValueError("it is compressed")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: _single(array) for name, array in file.items()}


def _sizes(
    arrays: Arrays, shapes: Mapping[str, tuple[type[np.generic], str]], dim: int
) -> dict[str, int]:
    """What the letters of `_SHAPES` stand for."""
    if arrays.keys() != shapes.keys():
        raise ValueError(f"it has the arrays {', '.join(arrays)[:80]}")
    sizes = {"d": dim}
    for name, (dtype, letters) in shapes.items():
        array = arrays[name]
        fits = array.ndim == len(letters) and np.issubdtype(array.dtype, dtype)
        if not fits or not array.size or not np.isfinite(array).all():
            raise ValueError(f"its {name} have no possible values")
        for letter, length in zip(letters, array.shape, strict=True):
            if sizes.setdefault(letter, length) != length:
                raise ValueError(f"its {name} have the shape {array.shape}")
    return sizes


def _check_starts(starts: NDArray[np.int64], *, cells: int, centroids: int) -> None:
    rising = len(starts) == cells + 1 and (np.diff(starts) > 0).all()
    if not rising or starts[0] != 0 or starts[-1] != centroids:
        raise ValueError("its cells do not have the centroids that there are")


def _single(array: NDArray[Any]) -> NDArray[Any]:
    """What is stored in half precision is computed with in single."""
    return array.astype(np.float32) if array.dtype == np.float16 else array
