"""Which images of a collection a new one is a copy of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simdist.index.collection import Collection
from simdist.index.lookup import look_up
from simdist.joining.judging import PART_COSINE, SAME_AREA, Agreed, are_copies
from simdist.prints.prints import BYTES, packed_prints, pictures
from simdist.prints.windows import Windows
from simdist.store import layout

# So many of the most similar images are looked at.
NEAREST = 16


@dataclass(frozen=True)
class Copy:
    """An image that a new one is a copy of; score and kind are as in `duplicates.Duplicate`."""

    uri: str
    score: float
    kind: Literal["same", "similar"]


@dataclass(frozen=True)
class Near:
    """An image that may be copied: the cosine of its embedding and the new one, and its print."""

    uri: str
    cosine: float
    look: bytes


def copies_among(
    collection: Collection, uri: str, look: bytes, near: Iterable[tuple[str, float]]
) -> list[Copy]:
    """Those of the nearest images whose prints say that they are copies, the best first.

    Args:
        uri: of the new image, which is none of its own copies.
        look: its print; without one that can be compared there are none.
        near: URIs of the most similar images, and their cosines.

    Raises:
        StoreError: the server cannot be reached.
    """
    if len(look) != BYTES:
        return []
    near = [one for one in near if one[0] != uri and one[1] >= PART_COSINE]
    looks = looks_of(collection, [other for other, _ in near])
    return copies(look, [Near(*one, its) for one, its in zip(near, looks, strict=True)])


def looks_of(collection: Collection, uris: Sequence[str]) -> list[bytes]:
    """The prints of images; empty for those that have none, or are not there.

    Raises:
        StoreError: the server cannot be reached.
    """
    stored = look_up(collection, uris)
    return [layout.unpack_look(one.record) if one else b"" for one in stored]


def copies(look: bytes, near: Sequence[Near]) -> list[Copy]:
    """Those of some images that one with this print is a copy of, the best first.

    Args:
        look: `BYTES` of it.
        near: they; what has no print that can be compared is no copy.
    """
    near = [one for one in near if len(one.look) == BYTES]
    if not near:
        return []
    from threadpoolctl import threadpool_limits

    [picture] = pictures(packed_prints([look]))
    others = pictures(packed_prints(one.look for one in near))
    cosines = np.array([one.cosine for one in near], np.float32)
    agreed = Agreed.nothing(len(near))
    agreed.compare(np.arange(len(near)), np.broadcast_to(picture, others.shape), others)
    left = np.flatnonzero(~are_copies(agreed, cosines))
    # Small products: threads that share a core wait for each other, four times as long.
    with threadpool_limits(1, user_api="blas"):
        inside = Windows(picture).find(others[left]) if len(left) else []
        for number, match in zip(left.tolist(), inside, strict=True):
            agreed.note(number, match, number)
            [around] = Windows(others[number]).find(picture[None])
            agreed.note(number, around, number)
    found = []
    for number in np.flatnonzero(are_copies(agreed, cosines)).tolist():
        kind: Literal["same", "similar"]
        kind = "same" if agreed.areas[number] >= SAME_AREA else "similar"
        found.append(Copy(near[number].uri, round(float(agreed.agreements[number]), 4), kind))
    return sorted(found, key=lambda copy: (-copy.score, copy.uri))
