"""Images of a collection: what is stored of one, and what became of those that were added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Version(IntEnum):
    """What a collection has of an image: nothing, this content of it, or another."""

    NONE = 0
    SAME = 1
    OTHER = 2


@dataclass(frozen=True)
class Added:
    """What became of a batch: how many images were added, replaced, or there already."""

    added: int
    replaced: int
    unchanged: int

    def __add__(self, other: Added) -> Added:
        """What became of both."""
        return Added(
            self.added + other.added,
            self.replaced + other.replaced,
            self.unchanged + other.unchanged,
        )


@dataclass(frozen=True)
class IndexedImage:
    """What is stored of one image. `vector` is (dim,) float32, of length 1."""

    uri: str
    label: str | None
    metadata: Mapping[str, Any]
    vector: NDArray[np.float32]


class Stored(NamedTuple):
    """What is stored of one image, as it is: (width,) bytes of its vector, its record
    (`layout.unpack_record`), and its fingerprint's digest.
    """

    vector: NDArray[np.uint8]
    record: bytes
    fingerprint: bytes


def unpack_stored(
    rows: Sequence[tuple[bytes, bytes]], fingerprints: Sequence[bytes]
) -> list[Stored | None]:
    """Stored vectors and records, and fingerprints' digests; None where there is no record."""
    return [
        Stored(np.frombuffer(vector, np.uint8), record, fingerprint) if record else None
        for (vector, record), fingerprint in zip(rows, fingerprints, strict=True)
    ]
