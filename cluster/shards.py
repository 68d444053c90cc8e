"""A shard: the images that travel through the pipeline together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simdist.sources import Access, ImageRef

Stage = Literal["list", "fetch", "decode", "embed"]

MAX_REASON = 300


@dataclass(frozen=True)
class Failure:
    """An image that could not be indexed: where it got stuck, and why."""

    uri: str
    stage: Stage
    reason: str

    @classmethod
    def of(cls, uri: str, stage: Stage, reason: object) -> Failure:
        """A failure whose reason is one line that can be printed."""
        # File names that are not UTF-8 reach messages as lone surrogates.
        text = str(reason).encode("utf-8", "backslashreplace").decode()
        return cls(uri, stage, " ".join(text.split())[:MAX_REASON] or "no reason given")


@dataclass(frozen=True)
class Shard:
    """Some images on their way: those that are well so far, and those that are not.

    `access` is how their object stores are reached.
    """

    refs: tuple[ImageRef, ...]
    failures: tuple[Failure, ...] = ()
    access: Access = field(default_factory=Access)

    def __bool__(self) -> bool:
        return bool(self.refs or self.failures)


@dataclass(frozen=True)
class Embedded:
    """A shard at its end: `vectors` are the (n, dim) float32 embeddings of its `refs`."""

    refs: tuple[ImageRef, ...]
    failures: tuple[Failure, ...]
    vectors: NDArray[np.float32]
