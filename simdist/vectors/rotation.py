"""The fixed random rotation in which vectors are stored."""

from __future__ import annotations

from functools import cache
from hashlib import shake_128

import numpy as np
from numpy.typing import NDArray


def rotated(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turned by a fixed random rotation: (n, d) float32 -> the same.

    Lengths and angles stay, but no feature stands out any more, so that rounding to int8 by the
    largest one costs half as much. Random signs, then a Hadamard transform: N. Ailon, B.
    Chazelle, 'The fast Johnson-Lindenstrauss transform', SIAM J. Computing 39 (2009).
    """
    from simdist.vectors.loops import hadamard_rows

    return hadamard_rows(vectors, *rotation(vectors.shape[1]))


@cache
def rotation(dim: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The (dim,) factors and the starts with which `loops.hadamard_rows` rotates."""
    signs, scales, starts = _rotation(dim)
    return signs * scales, starts


def unrotated(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `rotated` made these of."""
    from simdist.vectors.loops import hadamard_rows

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
