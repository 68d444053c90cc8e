"""The compiled loops: of a search, of packing, of the rotation. They hold no lock.

They are compiled when they are first called, for the machine at hand, and kept on disk: all at the
top, for numba finds none again that was made within a function and calls another. This module
imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled

# Sums in any order, as vector instructions need it.
_SUMS = {"reassoc", "contract", "nsz"}


@compiled()
def _stage(row: NDArray[np.float32], stride: int) -> None:
    for start in range(0, row.shape[0], 2 * stride):
        left, right = row[start : start + stride], row[start + stride : start + 2 * stride]
        for i in range(stride):
            left[i], right[i] = left[i] + right[i], left[i] - right[i]


@compiled()
def _two_stages(row: NDArray[np.float32], stride: int) -> None:
    quarter = stride // 2
    for start in range(0, row.shape[0], 2 * stride):
        a = row[start : start + quarter]
        b = row[start + quarter : start + stride]
        c = row[start + stride : start + stride + quarter]
        d = row[start + stride + quarter : start + 2 * stride]
        for i in range(quarter):
            above, above_less = a[i] + c[i], a[i] - c[i]
            below, below_less = b[i] + d[i], b[i] - d[i]
            a[i], b[i] = above + below, above - below
            c[i], d[i] = above_less + below_less, above_less - below_less


# Such short strides would not vectorise.
@compiled()
def _last_three_stages(row: NDArray[np.float32]) -> None:
    eights = row.reshape(-1, 8)
    for i in range(eights.shape[0]):
        a, b, c, d = eights[i, 0], eights[i, 1], eights[i, 2], eights[i, 3]
        e, f, g, h = eights[i, 4], eights[i, 5], eights[i, 6], eights[i, 7]
        a, b, c, d, e, f, g, h = a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h
        a, b, c, d, e, f, g, h = a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h
        eights[i, 0], eights[i, 1], eights[i, 2], eights[i, 3] = a + b, a - b, c + d, c - d
        eights[i, 4], eights[i, 5], eights[i, 6], eights[i, 7] = e + f, e - f, g + h, g - h


@compiled()
def hadamard_rows(
    vectors: NDArray[np.float32], factors: NDArray[np.float32], starts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The fast Walsh-Hadamard transform of each row, multiplied by the factors first.

    Args:
        vectors: (n, d) float32.
        factors: (d,) float32.
        starts: (b + 1,) int64: columns starts[i] to starts[i + 1], a power of two of them, are
            transformed for themselves.

    Returns:
        (n, d) float32.
    """
    rows = np.empty(vectors.shape, np.float32)
    for n in range(vectors.shape[0]):
        for i in range(vectors.shape[1]):
            rows[n, i] = vectors[n, i] * factors[i]
        for block in range(starts.shape[0] - 1):
            row = rows[n, starts[block] : starts[block + 1]]
            stride = row.shape[0] // 2
            while stride > 8:
                _two_stages(row, stride)
                stride //= 4
            if stride == 8:
                _stage(row, stride)
                stride //= 2
            if stride == 4:
                _last_three_stages(row)
                stride = 0
            while stride:
                _stage(row, stride)
                stride //= 2
    return rows


@compiled(fastmath=_SUMS | {"nnan"})
def round_rows(
    rows: NDArray[np.float32], values: NDArray[np.int8], inverse_lengths: NDArray[np.float32]
) -> None:
    """Round (n, d) float32 to int8, such that the greatest of each row is 127.

    Args:
        values: (n, d) int8, filled in.
        inverse_lengths: (n,) float32, filled in with 1 / their length.
    """
    # The bits of floats, less their sign, are in the order of the floats, and the greatest of
    # integers is found ten times as fast.
    integers, greatest = rows.view(np.int32), np.empty(1, np.int32)
    for n in range(rows.shape[0]):
        row, target, bits = rows[n], values[n], integers[n]
        peak = np.int32(0)
        for i in range(row.shape[0]):
            peak = max(peak, bits[i] & np.int32(0x7FFFFFFF))
        greatest[0] = peak
        scale = np.float32(127) / greatest.view(np.float32)[0]
        square = np.float32(0)
        for i in range(row.shape[0]):
            whole = np.rint(row[i] * scale)
            target[i] = np.int8(whole)
            square += whole * whole
        inverse_lengths[n] = np.float32(1) / np.sqrt(square)


@compiled()
def restore_rows(
    values: NDArray[np.generic], inverse_lengths: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Stored vectors, (n, d) int8 or float32 and (n,) 1 / lengths -> (n, d) float32, length 1."""
    rows = np.empty(values.shape, np.float32)
    for n in range(values.shape[0]):
        for i in range(values.shape[1]):
            rows[n, i] = values[n, i] * inverse_lengths[n]
    return rows


@compiled()
def code_rows(
    values: NDArray[np.int8],
    inverse_lengths: NDArray[np.float32],
    bits: int,
    codes: NDArray[np.uint8],
    factors: NDArray[np.float32],
) -> None:
    """The upper bits of the values of each row, and by what a product with them is multiplied.

    A byte holds those of values that lie 32 apart, the first of them in its lowest bits.

    Args:
        values: (n, d) int8.
        inverse_lengths: (n,) float32, 1 / their length; 0 for a row that is none.
        bits: of each value, 4, 2 or 1.
        codes: (n, w) uint8, zeros, filled in; w is a multiple of 32, and enough.
        factors: (n,) float32, filled in: see `simdist.vectors.codes`; 0 for a row that is none.
    """
    parts, shift, half = 8 // bits, 8 - bits, 1 << (bits - 1)
    for n in range(values.shape[0]):
        factors[n] = 0
        if inverse_lengths[n] == 0:
            continue
        product = np.int64(0)
        for i in range(values.shape[1]):
            value = np.int64(values[n, i])
            code = (value >> shift) + half
            product += value * (2 * (code - half) + 1)
            at, part = i % (32 * parts) % 32 + i // (32 * parts) * 32, i % (32 * parts) // 32
            codes[n, at] |= np.uint8(code << (bits * part))
        if product == 0:
            # It is no vector: whoever reads this says so.
            factors[n] = np.inf
            continue
        middle = np.float64(1 << shift) / 2
        factors[n] = 1 / (np.float64(inverse_lengths[n]) * product * middle)
