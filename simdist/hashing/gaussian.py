"""The Gaussian hash family: k random hyperplanes through the origin a table, as lshash3 has them.

M. S. Charikar, 'Similarity estimation techniques from rounding algorithms', STOC 2002.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.signs import SignFamily


@dataclass(frozen=True)
class GaussianFamily(SignFamily):
    """Bit i of a bucket, the most significant first, is 1 where the vector is above plane i.

    Attributes:
        planes: (tables, k, d) float64.
    """

    planes: NDArray[np.float64]

    kind: ClassVar[str] = "gaussian"

    @classmethod
    def draw(cls, *, dim: int, bits: int, tables: int, seed: int = 0) -> GaussianFamily:
        """Draw the hyperplanes; the same arguments give the same family."""
        return cls(np.random.default_rng(seed).standard_normal((tables, bits, dim)))

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"planes": self.planes}
