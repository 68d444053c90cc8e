"""A shard: the images that travel through the pipeline together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simdist.ingest.failures import Failure
from simdist.sources import Access, ImageRef


@dataclass(frozen=True)
class Work:
    """Seconds that processes were busy with a shard, stage by stage."""

    fetch: float = 0.0
    decode: float = 0.0
    embed: float = 0.0


@dataclass(frozen=True)
class Shard:
    """Some images on their way: those that are well so far, and those that are not.

    `access` is how their object stores are reached; `digests` stand for the images' bytes, once
    they are read; `gps` says whether to keep where they were taken.
    """

    refs: tuple[ImageRef, ...]
    failures: tuple[Failure, ...] = ()
    access: Access = field(default_factory=Access)
    work: Work = field(default_factory=Work)
    digests: tuple[bytes, ...] = ()
    gps: bool = False


@dataclass(frozen=True)
class Embedded:
    """A shard at its end: `vectors` are the (n, dim) float32 embeddings of `refs`, unchecked."""

    refs: tuple[ImageRef, ...]
    failures: tuple[Failure, ...]
    vectors: NDArray[np.float32]
    work: Work = field(default_factory=Work)
