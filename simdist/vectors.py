"""Checks on vectors that come from outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.errors import VectorError


def checked(vectors: ArrayLike, *, dim: int) -> NDArray[np.float32]:
    """Vectors as (n, dim) float32, none of them unusable.

    Raises:
        VectorError: wrong shape; or, by index, not finite or of length zero.
    """
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise VectorError("vectors must be numbers, all of one dimension") from error
    if array.ndim != 2 or array.shape[1] != dim:
        raise VectorError(f"vectors of shape {array.shape} where (n, {dim}) is needed")
    # Squares overflow before the values do; a length that is not finite is as bad.
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(array, axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(bad):
        listed = ", ".join(str(index) for index in bad[:10]) + (", ..." if len(bad) > 10 else "")
        raise VectorError(f"vectors not finite or of length zero, by index: {listed}")
    return array


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / lengths
    return unit
