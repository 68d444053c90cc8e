"""What a collection is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.settings import DEFAULT_RESULTS


class Hit(NamedTuple):
    """A similar image. `score` is the cosine similarity, 1 at the most."""

    # Not a frozen dataclass: ten of those took a tenth of a query's time to make.

    uri: str
    score: float
    label: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """What a service is asked: one of the first five says by what, the others how to answer.

    Attributes:
        vector: (dim,) numbers.
        uri: of an indexed image.
        digest: its `layout.uri_digest`.
        url: a public web address of an image.
        image: the bytes of an image.
        collection: by default the service's first.
        recall: as `Searcher.search` has it.
        min_score: leave out what is less similar.
        label: only images with this label, among the `MAX_RESULTS` most similar ones.
    """

    vector: NDArray[np.float32] | None = None
    uri: str | None = None
    digest: bytes | None = None
    url: str | None = None
    image: bytes | None = None
    collection: str | None = None
    n: int = DEFAULT_RESULTS
    recall: float | None = None
    min_score: float | None = None
    label: str | None = None
