"""Codes: the upper bits of a stored vector's values, by which most others are ruled out.

A code of `bits` bits stands for the middle of the values that share them. `<q, x>` is estimated as
`<q, c> * <x, x> / <x, c>`, as RaBitQ does (Gao and Long, SIGMOD 2024): `c` are the middles, and the
factor is stored in front of the codes, times 1 / the length of `x`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.vectors.codec import INVERSE_LENGTH, Codec, Int8Codec, are_lengths

BITS = (4, 2, 1)
# Bytes of codes are a multiple of this: what the loops take at once.
_CHUNK = 32


@dataclass(frozen=True)
class Codes:
    """How codes of stored vectors are made.

    Attributes:
        codec: of the vectors; only those of bytes have codes.
        bits: of each value, one of `BITS`.
    """

    codec: Int8Codec
    bits: int
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)

    @classmethod
    def of(cls, codec: Codec, bits: int) -> Codes:
        """Codes of a collection's vectors.

        Raises:
            StoreError: there are none of so many bits, or of its vectors.
        """
        if bits not in BITS or not isinstance(codec, Int8Codec):
            raise StoreError(f"there are no codes of {bits} bits of such vectors")
        return cls(codec, bits)

    @property
    def values(self) -> int:
        """Bytes of the codes of a vector."""
        return -(-self.codec.dim * self.bits // (8 * _CHUNK)) * _CHUNK

    @property
    def width(self) -> int:
        """Bytes of a vector's factor and its codes."""
        return INVERSE_LENGTH + self.values

    def pack(self, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Stored vectors, (n, codec.width) bytes -> (n, width) bytes; zeros stay zeros."""
        from simdist.vectors.loops import code_rows

        values, inverse_lengths = self.codec.unpack(packed)
        coded = np.zeros((len(packed), self.width), np.uint8)
        factors = np.empty(len(packed), "<f4")
        code_rows(values, inverse_lengths, self.bits, coded[:, INVERSE_LENGTH:], factors)
        coded[:, :INVERSE_LENGTH] = factors[:, None].view(np.uint8)
        return coded

    def unpack(self, coded: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """(n, width) bytes -> (n, values) codes, a view, and (n,) factors."""
        factors = np.ascontiguousarray(coded[:, :INVERSE_LENGTH]).view("<f4").ravel()
        return coded[:, INVERSE_LENGTH:], factors

    def matrix(self, coded: bytes) -> NDArray[np.uint8]:
        """Codes end to end -> (n, width) bytes."""
        return np.frombuffer(coded, np.uint8).reshape(-1, self.width)

    def check(self, coded: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Check that (n, width) bytes can be codes, of deleted vectors among them.

        Returns:
            (n,) their factors; 0 for that of a deleted one.

        Raises:
            StoreError: a factor is no finite number: every score would be wrong.
        """
        _, factors = self.unpack(coded)
        if not are_lengths(factors):
            raise StoreError("codes are damaged: they hold what is no number")
        return factors
