"""Hyperplanes fitted on a sample: rotated principal components, cut at their medians.

The leading components, half-whitened, are turned at random in each table, so that every bit
carries its share of the variance; a threshold at the median fills both sides alike. After
Y. Gong, S. Lazebnik, 'Iterative quantization', CVPR 2011, with the random rotation they start from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.components import principal_components
from simdist.hashing.family import Vectors
from simdist.hashing.signs import SignFamily, check_bits


@dataclass(frozen=True)
class HyperplanesFamily(SignFamily):
    """Bit i of a bucket, the most significant first, is 1 where the vector is above plane i.

    Attributes:
        planes: (tables, k, d) float32.
        thresholds: (tables, k) float32, the planes' distances from the origin.
    """

    planes: NDArray[np.float32]
    thresholds: NDArray[np.float32]

    kind: ClassVar[str] = "hyperplanes"

    @classmethod
    def fit(cls, sample: Vectors, *, bits: int, tables: int, seed: int = 0) -> HyperplanesFamily:
        """Learn from a sample, (n, d) float32, n >= 1; the same arguments give the same family."""
        check_bits(bits)
        generator = np.random.default_rng(seed)
        basis, variances = principal_components(sample, generator)
        # Half-whitened: variances become their roots. What only rounding left is not blown up.
        axes = basis * np.maximum(variances, max(1e-6 * variances[0], 1e-12)) ** -0.25
        turned = [_rotations(axes.shape[1], bits, generator) @ axes.T for _ in range(tables)]
        planes = np.stack(turned).astype(np.float32)
        projections = sample @ planes.reshape(tables * bits, -1).T
        thresholds = np.median(projections, axis=0).astype(np.float32)
        return cls(planes, thresholds.reshape(tables, bits))

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"planes": self.planes, "thresholds": self.thresholds}

    def distances(self, vectors: Vectors) -> NDArray[np.floating[Any]]:
        """(n, d) -> (n, tables, k) signed distances, in the half-whitened space."""
        return super().distances(vectors) - self.thresholds


def _rotations(dim: int, rows: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(rows, dim): rows of a random rotation, and of further ones where it has too few."""
    parts = [np.linalg.qr(generator.standard_normal((dim, dim)))[0] for _ in range(0, rows, dim)]
    return np.concatenate(parts)[:rows]
