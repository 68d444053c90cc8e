"""Rows of bytes side by side, so that a query is multiplied with sixteen of them at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Rows side by side: the compiled loops have as many sums.
LANES = 16
# Values that a step of these loops takes: four pairs, each with sums of its own, for none of them
# is to wait for the one before.
STEP = 8


def pack_columns(columns: NDArray[np.int8]) -> NDArray[np.int8]:
    """(k, d) int8 -> (groups, pairs, 32), for `products.dot_columns`; zeros where there is nothing.

    A group has 16 columns: of each the first two values, then of each the next two.
    """
    count, width = columns.shape
    groups, steps = -(-count // LANES), -(-width // STEP)
    padded = np.zeros((groups * LANES, steps * STEP), np.int8)
    padded[:count, :width] = columns
    pairs = padded.reshape(groups, LANES, steps * STEP // 2, 2)
    return np.ascontiguousarray(pairs.transpose(0, 2, 1, 3)).reshape(groups, -1, 2 * LANES)


def unpack_columns(packed: NDArray[np.int8]) -> NDArray[np.int8]:
    """`pack_columns` undone, but for the zeros: (groups, pairs, 32) -> (16 groups, 2 pairs)."""
    groups, pairs, _ = packed.shape
    columns = packed.reshape(groups, pairs, LANES, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns).reshape(groups * LANES, 2 * pairs)
