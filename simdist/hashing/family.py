"""What a hash family is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from simdist.hashing.ranking_loops import Ranking

Vectors = NDArray[np.float32]
Buckets = NDArray[np.uint32]


class HashFamily(Protocol):
    """Maps a vector to one bucket in each table, and lists a query's buckets by probability.

    Attributes:
        kind: its name in the table of families.
        tables: how many hash tables it fills.
        size: how many buckets a table can have.
    """

    kind: ClassVar[str]

    @property
    def tables(self) -> int: ...

    @property
    def size(self) -> int: ...

    def buckets(self, vectors: NDArray[Any], inverse_lengths: Vectors | None = None) -> Buckets:
        """(n, d) -> (n, tables) uint32: where the vectors are stored.

        Args:
            vectors: float32 or int8.
            inverse_lengths: (n,) float32, 1 / their lengths; None: these are 1.
        """
        ...

    def probes(self, vectors: Vectors, count: int) -> Buckets:
        """(n, d) float32 -> (n, tables, min(count, size)) uint32, the most probable first."""
        ...

    def ranking(self, count: int) -> tuple[Ranking, int] | None:
        """By what a compiled loop finds the first `count` probes; None if only `probes` does.

        With it comes how many cells of centroids are looked into.
        """
        ...

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Its parameters, from which `from_arrays` makes the same family again."""
        ...
