"""Which images of a collection a new one is a copy of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from simdist.index.collection import Collection
from simdist.joining.judging import PART_COSINE, SAME_AREA, are_copies
from simdist.prints.prints import BYTES, packed_prints, pictures
from simdist.prints.windows import Match, Windows, whole_agreements
from simdist.store import layout

# So many of the most similar images are looked at.
NEAREST = 16


@dataclass(frozen=True)
class Copy:
    """An image that a new one is a copy of; score and kind are as in `duplicates.Duplicate`."""

    uri: str
    score: float
    kind: Literal["same", "similar"]


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
    copies = []
    for other, cosine in near:
        if other == uri or cosine < PART_COSINE:
            continue
        digest = layout.uri_digest(other)
        found = collection.home(digest).find(digest)
        its_look = layout.unpack_look(found[1]) if found else b""
        if len(its_look) != BYTES:
            continue
        match = _match(look, its_look)
        if are_copies(match.agreement, match.area):
            kind: Literal["same", "similar"] = "same" if match.area >= SAME_AREA else "similar"
            copies.append(Copy(other, round(match.agreement, 4), kind))
    return sorted(copies, key=lambda copy: (-copy.score, copy.uri))


def _match(look: bytes, other: bytes) -> Match:
    one, two = pictures(packed_prints([look, other]))
    whole = Match(float(whole_agreements(one[None], two[None])[0]), 1.0)
    parts = Windows(one).find(two[None]) + Windows(two).find(one[None])
    return max([whole, *parts], key=lambda match: match.agreement)
