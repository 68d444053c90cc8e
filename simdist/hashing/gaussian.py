"""The Gaussian hash family: k random hyperplanes through the origin a table, as lshash3 has them.

M. S. Charikar, 'Similarity estimation techniques from rounding algorithms', STOC 2002; probes in
the order of Q. Lv et al., 'Multi-probe LSH', VLDB 2007.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simdist.errors import UsageError
from simdist.hashing.family import Buckets, Vectors

MAX_BITS = 32
# Probes flip only the bits whose hyperplanes lie nearest; all subsets of these are ranked.
_FLIPPED_BITS = 12


@dataclass(frozen=True)
class GaussianFamily:
    """Bit i of a bucket, the most significant first, is 1 where the vector is above plane i.

    Attributes:
        planes: (tables, k, d) float64.
    """

    planes: NDArray[np.float64]

    kind: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        if self.planes.ndim != 3 or not 1 <= self.planes.shape[1] <= MAX_BITS:
            raise UsageError(f"a table needs 1 to {MAX_BITS} hyperplanes")

    @classmethod
    def draw(cls, *, dim: int, bits: int, tables: int, seed: int = 0) -> GaussianFamily:
        """Draw the hyperplanes; the same arguments give the same family."""
        return cls(np.random.default_rng(seed).standard_normal((tables, bits, dim)))

    @property
    def tables(self) -> int:
        return len(self.planes)

    @property
    def size(self) -> int:
        return int(2 ** self.planes.shape[1])

    def buckets(self, vectors: Vectors) -> Buckets:
        return self._pack(self._projections(vectors) > 0)

    def probes(self, vectors: Vectors, count: int) -> Buckets:
        projections = self._projections(vectors)
        home = self._pack(projections > 0)
        bits = self.planes.shape[1]
        flipped = min(bits, _FLIPPED_BITS)
        # The bits most easily wrong, and what it costs to flip each.
        order = np.argsort(np.abs(projections), axis=2, kind="stable")[:, :, :flipped]
        costs = np.take_along_axis(projections**2, order, axis=2)
        subsets = (np.arange(2**flipped)[:, None] >> np.arange(flipped)) & 1
        ranking = np.argsort(costs @ subsets.T, axis=2, kind="stable")[:, :, :count]
        masks = np.left_shift(np.uint32(1), (bits - 1 - order).astype(np.uint32))
        flips = np.einsum("ntsf,ntf->nts", subsets[ranking].astype(np.uint32), masks)
        probes: Buckets = home[:, :, None] ^ flips
        return probes

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"planes": self.planes}

    def _projections(self, vectors: Vectors) -> NDArray[np.float64]:
        """(n, d) -> (n, tables, k) signed distances."""
        tables, bits, dim = self.planes.shape
        flat: NDArray[np.float64] = vectors @ self.planes.reshape(tables * bits, dim).T
        return flat.reshape(len(vectors), tables, bits)

    def _pack(self, signs: NDArray[np.bool_]) -> Buckets:
        bits = signs.shape[2]
        weights = np.left_shift(np.uint32(1), np.arange(bits, dtype=np.uint32)[::-1])
        packed: Buckets = np.where(signs, weights, np.uint32(0)).sum(axis=2, dtype=np.uint32)
        return packed
