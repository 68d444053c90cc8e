"""Principal components by a randomised range finder.

N. Halko, P. Martinsson, J. Tropp, 'Finding structure with randomness', SIAM Review 53 (2011),
algorithms 4.4 and 5.3: a few products with a thin matrix, where an exact decomposition of
1,280 features costs seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Vectors

COMPONENTS = 96
# More rows of a sample make the axes no better.
_ROWS = 4096
_POWER_ITERATIONS = 2
_OVERSAMPLING = 16


class Components(NamedTuple):
    """The leading principal components of a sample.

    Attributes:
        basis: (d, c) float32, orthonormal columns, the axis of the largest variance first.
        variances: (c,) float64, of the sample along these axes.
    """

    basis: Vectors
    variances: NDArray[np.float64]


def principal_components(sample: Vectors, generator: np.random.Generator) -> Components:
    """(n, d) float32 -> the leading `COMPONENTS` axes, or as many as n and d allow."""
    if len(sample) > _ROWS:
        sample = sample[generator.choice(len(sample), _ROWS, replace=False)]
    centred = sample - sample.mean(axis=0)
    count = min(COMPONENTS, *sample.shape)
    width = min(count + _OVERSAMPLING, *sample.shape)
    axes = generator.standard_normal((sample.shape[1], width), dtype=np.float32)
    for _ in range(_POWER_ITERATIONS):
        axes = np.linalg.qr(centred.T @ (centred @ axes))[0]
    within = (centred @ axes).astype(np.float64)
    variances, turn = np.linalg.eigh(within.T @ within / len(sample))
    # eigh lists the smallest first.
    basis = axes @ turn[:, ::-1][:, :count].astype(np.float32)
    return Components(np.ascontiguousarray(basis), variances[::-1][:count].clip(min=0))
