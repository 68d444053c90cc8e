"""A stored vector: what it is made of, how it is packed, and how it is read back.

A stored vector is `width` bytes: the float32 inverse of its values' length, then the values. A
deleted one is all zeros. The float32 or int8 values are those of the vector in the space in which
it is stored, which `turned` leads to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.vectors.rotation import rotated, rotation, unrotated

# Bytes of the inverse length in front of the values.
INVERSE_LENGTH = 4


@dataclass(frozen=True)
class Codec(ABC):
    """How the vectors of a collection are stored.

    Attributes:
        dim: length of a vector.
        dtype: of the stored values.
    """

    dim: int
    dtype: ClassVar[np.dtype[Any]]

    @staticmethod
    def of(dtype: str, dim: int) -> Codec:
        """The codec whose values have this dtype, "int8" or "float32"."""
        return _CODECS[dtype](dim)

    @property
    def values(self) -> int:
        """Values of a stored vector."""
        return self.dim

    @property
    def width(self) -> int:
        """Bytes of a stored vector."""
        return INVERSE_LENGTH + self.dim * self.dtype.itemsize

    @abstractmethod
    def turned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, dim) vectors in the space in which they are stored, hashed and compared."""

    @abstractmethod
    def turning(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """With what `loops.hadamard_rows` does what `turned` does."""

    @abstractmethod
    def turned_back(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """The (n, dim) vectors that `turned` was given."""

    @abstractmethod
    def _fill(
        self, vectors: NDArray[np.float32], values: NDArray[np.uint8], lengths: NDArray[np.float32]
    ) -> None:
        """Write the values of (n, dim) turned vectors as bytes, and (n,) inverse lengths."""

    def pack(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Turned vectors as they are stored: (n, dim) float32 -> (n, width) bytes."""
        packed = np.empty((len(vectors), self.width), np.uint8)
        inverse_lengths = np.empty(len(vectors), "<f4")
        self._fill(vectors, packed[:, INVERSE_LENGTH:], inverse_lengths)
        packed[:, :INVERSE_LENGTH] = inverse_lengths[:, None].view(np.uint8)
        return packed

    def unpack(self, packed: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Stored vectors, (n, width) bytes -> (n, dim) values, a view, and (n,) 1 / lengths."""
        inverse_lengths = np.ascontiguousarray(packed[:, :INVERSE_LENGTH]).view("<f4").ravel()
        return packed[:, INVERSE_LENGTH:].view(self.dtype), inverse_lengths

    def check(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Check that (n, width) bytes can be stored vectors, deleted ones among them.

        Returns:
            (n,) 1 / their lengths; 0 for a deleted one.

        Raises:
            StoreError: a length or a value is no finite number: every score would be wrong.
        """
        values, inverse_lengths = self.unpack(packed)
        if not are_lengths(inverse_lengths) or (
            self.dtype.kind == "f" and not np.isfinite(values).all()
        ):
            raise StoreError("stored vectors are damaged: they hold what is no number")
        return inverse_lengths

    def restore(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Stored vectors, (n, width) bytes -> (n, dim) float32, still turned, of length 1.

        Raises:
            StoreError: they are damaged.
        """
        from simdist.vectors.loops import restore_rows

        self.check(packed)
        return restore_rows(*self.unpack(packed))

    def matrix(self, packed: bytes) -> NDArray[np.uint8]:
        """Stored vectors end to end -> (n, width) bytes."""
        return np.frombuffer(packed, np.uint8).reshape(-1, self.width)


class Int8Codec(Codec):
    """A byte a value, after a rotation that spreads every feature over all of them.

    Only the direction is kept; its cosine with the original is above .9998 as a rule.
    """

    dtype = np.dtype(np.int8)

    def turned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return rotated(vectors)

    def turning(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return rotation(self.dim)

    def turned_back(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return unrotated(vectors)

    def _fill(
        self, vectors: NDArray[np.float32], values: NDArray[np.uint8], lengths: NDArray[np.float32]
    ) -> None:
        from simdist.vectors.loops import round_rows

        round_rows(vectors, values.view(np.int8), lengths)


class Float32Codec(Codec):
    """The vectors exactly as they came."""

    dtype = np.dtype(np.float32)

    def turned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors

    def turning(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return np.ones(self.dim, np.float32), np.zeros(1, np.int64)

    def turned_back(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors

    def _fill(
        self, vectors: NDArray[np.float32], values: NDArray[np.uint8], lengths: NDArray[np.float32]
    ) -> None:
        values[:] = np.ascontiguousarray(vectors).view(np.uint8)
        lengths[:] = 1 / np.linalg.norm(vectors, axis=1)


_CODECS: dict[str, type[Int8Codec | Float32Codec]] = {"int8": Int8Codec, "float32": Float32Codec}
DTYPES = frozenset(_CODECS)


def are_lengths(values: NDArray[np.float32]) -> bool:
    """Whether all are finite, and none is below 0; what is no number is neither."""
    return bool(values.min(initial=0) >= 0 and values.max(initial=0) < np.inf)


def alive(packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which stored vectors are not deleted: (n, width) bytes -> (n,) bool."""
    return np.asarray(packed[:, :INVERSE_LENGTH].any(axis=1))


def wholes(rows: NDArray[Any]) -> NDArray[np.void]:
    """(n, k) -> (n,), a view in which each row is one item, whose bytes NumPy copies at once.

    Copying rows of bytes by their indices takes ten times as long.
    """
    view: NDArray[np.void] = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))
    return view[:, 0]
