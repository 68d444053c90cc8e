"""Vectors as they come from outside: checks, lengths, and the rotation in which they are stored."""

from __future__ import annotations

from functools import cache
from hashlib import shake_128

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.errors import VectorError


def checked(vectors: ArrayLike, *, dim: int) -> NDArray[np.float32]:
    """Vectors as (n, dim) float32, none of them unusable.

    Raises:
        VectorError: wrong shape; or, by index, not finite or of length zero.
    """
    return _checked(vectors, dim)[0]


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length."""
    unit: NDArray[np.float32] = vectors / _lengths(vectors)[:, None]
    return unit


def checked_normalised(vectors: ArrayLike, *, dim: int) -> NDArray[np.float32]:
    """What `checked` returns, each row divided by its length; raises what that raises."""
    array, lengths = _checked(vectors, dim)
    unit: NDArray[np.float32] = array / lengths[:, None]
    return unit


def _checked(vectors: ArrayLike, dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What `checked` returns, and the lengths."""
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise VectorError("vectors must be numbers, all of one dimension") from error
    if array.ndim != 2 or array.shape[1] != dim:
        raise VectorError(f"vectors of shape {array.shape} where (n, {dim}) is needed")
    # Squares overflow before the values do; a length that is not finite is as bad.
    lengths = _lengths(array)
    if not (lengths.min(initial=np.inf) > 0 and lengths.max(initial=0) < np.inf):
        sound = (lengths > 0) & (lengths < np.inf)
        bad = np.flatnonzero(~sound)
        listed = ", ".join(str(index) for index in bad[:10]) + (", ..." if len(bad) > 10 else "")
        raise VectorError(f"vectors not finite or of length zero, by index: {listed}")
    return array, lengths


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # Half the time of np.linalg.norm for one vector, and silent where a square overflows.
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return lengths


def rotated(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turned by a fixed random rotation: (n, d) float32 -> the same.

    Lengths and angles stay, but no feature stands out any more, so that rounding to int8 by the
    largest one costs half as much. Random signs, then a Hadamard transform: N. Ailon, B.
    Chazelle, 'The fast Johnson-Lindenstrauss transform', SIAM J. Computing 39 (2009).
    """
    from simdist.kernels import hadamard_rows

    signs, scales, starts = _rotation(vectors.shape[1])
    return hadamard_rows(vectors, signs * scales, starts)


def unrotated(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `rotated` made these of."""
    from simdist.kernels import hadamard_rows

    signs, scales, starts = _rotation(vectors.shape[1])
    unturned: NDArray[np.float32] = hadamard_rows(vectors, scales, starts)
    unturned *= signs
    return unturned


@cache
def _rotation(
    dim: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """The signs, what keeps lengths as they are, and the bounds of the blocks.

    Their sizes are powers of two, the largest first. The signs are from a hash, not a generator
    of NumPy's: what is stored depends on them for good.
    """
    bits = np.unpackbits(np.frombuffer(shake_128(b"simdist").digest(-(-dim // 8)), np.uint8))
    sizes = [1 << bit for bit in range(dim.bit_length() - 1, -1, -1) if dim >> bit & 1]
    signs = np.where(bits[:dim] == 1, np.float32(1), np.float32(-1))
    scales = np.repeat(np.array(sizes, np.float32) ** np.float32(-0.5), sizes)
    return signs, scales, np.cumsum([0, *sizes])
