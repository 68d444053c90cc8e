"""Several examples in one question -> the one vector that it is searched by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.errors import UnknownImageError, UsageError, VectorError
from simdist.index.collection import Collection
from simdist.index.partition import Partition
from simdist.search.question import Example, Question
from simdist.store import layout
from simdist.vectors.checks import checked, normalised

# How much the mean of what hits are not to be like counts. Measured on Caltech-101 and on groceries
# (docs/decisions.md): from .1 to .3 is best on both, .5 loses what it gained, 1 ruins the answer.
UNLIKE = 0.25


def settled(collection: Collection, question: Question) -> Question:
    """The same question by one vector, if it has several examples: by Rocchio's formula.

    Each side is the mean of its examples' unit vectors by their weights, and from what hits are to
    be like `UNLIKE` of the other side is taken away. (J. J. Rocchio: Relevance feedback in
    information retrieval, 1971.) Examples that are indexed are no hits.

    Raises:
        UsageError: an example is an image or an address, which must be embedded first.
        UnknownImageError: one is not indexed.
        VectorError: one is of a wrong shape, not finite or zero; or they cancel out.
    """
    if not question.several:
        return question
    like, unlike = question.positive, question.unlike
    given, named = _vectors(collection, [*like, *unlike])
    units = normalised(checked(given, dim=collection.dim))
    weights = np.concatenate([_shares(like), -UNLIKE * _shares(unlike)])
    vector = weights @ units
    if not np.linalg.norm(vector) > np.finfo(np.float32).eps:
        raise VectorError("the examples cancel each other out: leave one of them out")
    return question.by_vector(vector, without=question.without | named)


def named_vector(collection: Collection, question: Question) -> ArrayLike:
    """What a question asks by, or the stored vector of the image that it names.

    Raises:
        UsageError: it asks by an image or an address, which must be embedded first.
        UnknownImageError: the image that it names is not indexed.
    """
    if question.vector is not None:
        return question.vector
    if not (question.uri or question.id):
        raise UsageError("a search here is by a vector, or by the URI or id of an indexed image")
    vectors, _ = _vectors(collection, question.positive)
    stored: NDArray[np.float32] = vectors[0]
    return stored


def _vectors(collection: Collection, examples: Sequence[Example]) -> tuple[list[Any], set[str]]:
    """What examples are, or the stored vectors of those that are named; and the URIs of these.

    Looked up in one round trip for each partition.
    """
    vectors: dict[int, Any] = {}
    homes: dict[Partition, dict[int, bytes]] = defaultdict(dict)
    for number, example in enumerate(examples):
        if example.vector is not None:
            vectors[number] = example.vector
        elif example.uri is None and example.id is None:
            raise UsageError(
                "a search here is by a vector, or by the URI or id of an indexed image"
            )
        else:
            digest = (
                bytes.fromhex(example.id) if example.id else layout.uri_digest(example.uri or "")
            )
            homes[collection.home(digest)][number] = digest
    named: set[str] = set()
    for partition, digests in homes.items():
        found = partition.find_many(list(digests.values()))
        packed = []
        for number, stored in zip(digests, found, strict=True):
            uri = examples[number].uri
            if stored is None:
                name = uri or "no image of that id"
                raise UnknownImageError(f"{name} is not indexed in {collection.name!r}")
            named.add(uri or layout.unpack_uri(stored[1]))
            packed.append(stored[0])
        restored = partition.codec.turned_back(partition.codec.restore(np.array(packed)))
        vectors |= zip(digests, restored, strict=True)
    return [vectors[number] for number in range(len(examples))], named


def _shares(examples: Sequence[Example]) -> NDArray[np.float32]:
    """The weights, which become 1 together."""
    weights = np.array([example.weight for example in examples], np.float32)
    shares: NDArray[np.float32] = weights / max(weights.sum(), np.finfo(np.float32).tiny)
    return shares
