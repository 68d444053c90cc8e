"""Vectors as they come from outside: checks, and lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.errors import VectorError


def checked(vectors: ArrayLike, *, dim: int) -> NDArray[np.float32]:
    """Vectors as (n, dim) float32, none of them unusable.

    Raises:
        VectorError: wrong shape; or, by index, not finite or of length zero.
    """
    array = shaped(vectors, dim=dim)
    # Squares overflow before the values do; a length that is not finite is as bad.
    lengths = _lengths(array)
    if not (lengths.min(initial=np.inf) > 0 and lengths.max(initial=0) < np.inf):
        bad = np.flatnonzero(~usable(array))
        listed = ", ".join(str(index) for index in bad[:10]) + (", ..." if len(bad) > 10 else "")
        raise VectorError(f"vectors not finite or of length zero, by index: {listed}")
    return array


def usable(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of (n, dim) vectors can be indexed: (n,) bool, true where the length is above zero and
    finite, in float32.
    """
    lengths = _lengths(vectors)
    sound: NDArray[np.bool_] = (lengths > 0) & (lengths < np.inf)
    return sound


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length."""
    unit: NDArray[np.float32] = vectors / _lengths(vectors)[:, None]
    return unit


def shaped(vectors: ArrayLike, *, dim: int) -> NDArray[np.float32]:
    """Vectors as (n, dim) float32, which may be unusable still.

    Raises:
        VectorError: a wrong shape, or no numbers.
    """
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise VectorError("vectors must be numbers, all of one dimension") from error
    if array.ndim != 2 or array.shape[1] != dim:
        raise VectorError(f"vectors of shape {array.shape} where (n, {dim}) is needed")
    return array


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # Half the time of np.linalg.norm for one vector, and silent where a square overflows.
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return lengths
