"""Which images of a collection a new one is a copy of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from simdist.index.collection import Collection
from simdist.index.lookup import look_up
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
    others = [other for other, cosine in near if other != uri and cosine >= PART_COSINE]
    looks = looks_of(collection, others)
    return copies(look, zip(others, looks, strict=True))


def looks_of(collection: Collection, uris: Sequence[str]) -> list[bytes]:
    """The prints of images; empty for those that have none, or are not there.

    Raises:
        StoreError: the server cannot be reached.
    """
    stored = look_up(collection, uris)
    return [layout.unpack_look(one.record) if one else b"" for one in stored]


def copies(look: bytes, others: Iterable[tuple[str, bytes]]) -> list[Copy]:
    """Those of some images that one with this print is a copy of, the best first.

    Args:
        look: `BYTES` of it.
        others: their URIs and prints; what cannot be compared is no copy.
    """
    found = []
    for uri, other in others:
        if len(other) != BYTES:
            continue
        match = _match(look, other)
        if are_copies(match.agreement, match.area):
            kind: Literal["same", "similar"] = "same" if match.area >= SAME_AREA else "similar"
            found.append(Copy(uri, round(match.agreement, 4), kind))
    return sorted(found, key=lambda copy: (-copy.score, copy.uri))


def _match(look: bytes, other: bytes) -> Match:
    one, two = pictures(packed_prints([look, other]))
    whole = Match(float(whole_agreements(one[None], two[None])[0]), 1.0)
    parts = Windows(one).find(two[None]) + Windows(two).find(one[None])
    return max([whole, *parts], key=lambda match: match.agreement)
