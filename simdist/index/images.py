"""Images of a collection: what is stored of one, and what became of those that were added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

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
