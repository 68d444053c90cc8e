"""Finds, among images on their way into a collection, the duplicates of those that came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.index.collection import Collection
from simdist.index.images import Version
from simdist.ingest.duplicates import Arrived, OnDuplicate
from simdist.joining.arrival import NEAREST, Copy, Near, copies, looks_of
from simdist.joining.judging import PART_COSINE
from simdist.prints.prints import BYTES
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.vectors.checks import normalised

# In an image's metadata, the URI of the image that it is linked to.
DUPLICATE_OF = "duplicate_of"
# Duplicates that a summary names; all are counted.
NAMED_DUPLICATES = 20
# An image that came before, and the URI that it is linked to.
_Linked = tuple[Near, str | None]
# Images that are compared, and searched for, at once.
_BATCH = 256


class Sieve:
    """Finds the duplicates among images that are about to be added to a collection.

    Attributes:
        count: how many there were so far.
        left_out: how many of them were left out.
        named: the first of them.
    """

    def __init__(self, collection: Collection, action: OnDuplicate) -> None:
        self.count = self.left_out = 0
        self.named: list[Arrived] = []
        self._collection = collection
        self._action = action
        # What the last batch added is found.
        self._searcher = Searcher(collection, max_staleness=0)

    def treat(
        self, vectors: NDArray[np.float32], refs: Sequence[ImageRef]
    ) -> tuple[NDArray[np.float32], list[ImageRef]]:
        """What to add of some images, in their order, and what to say of each.

        They are compared with what the collection has, and with those before them. One that the
        collection has already is replaced, never left out.

        Args:
            vectors: (n, dim) float32, finite and not of length zero.

        Raises:
            StoreError: the server cannot be reached.
        """
        unit = normalised(vectors)
        known = self._collection.versions(refs) != Version.NONE
        kept: list[int] = []
        taken: list[ImageRef] = []
        for start in range(0, len(refs), _BATCH):
            hits = self._hits(unit[start : start + _BATCH])
            for number, near in enumerate(hits, start):
                ref = refs[number]
                cosines = unit[kept] @ unit[number] if kept else np.empty(0)
                for i in np.flatnonzero(cosines >= PART_COSINE).tolist():
                    before = taken[i]
                    its = Near(before.uri, float(cosines[i]), before.look)
                    near.append((its, _link(before.metadata)))
                original = _original(ref, near)
                if original is not None:
                    self._count(ref, original)
                    if self._action is OnDuplicate.skip and not known[number]:
                        self.left_out += 1
                        continue
                    if self._action is OnDuplicate.link:
                        ref = _linked(ref, original.uri)
                kept.append(number)
                taken.append(ref)
        return vectors[kept], taken

    def _hits(self, unit: NDArray[np.float32]) -> list[list[_Linked]]:
        """Those of the collection's images that are near to each of some."""
        if not self._collection.is_fitted():
            return [[] for _ in unit]
        found = [
            [hit for hit in hits if hit.score >= PART_COSINE]
            for hits in self._searcher.search_many(unit, n=NEAREST)
        ]
        uris = sorted({hit.uri for hits in found for hit in hits})
        looks = dict(zip(uris, looks_of(self._collection, uris), strict=True))
        return [
            [(Near(hit.uri, hit.score, looks[hit.uri]), _link(hit.metadata)) for hit in hits]
            for hits in found
        ]

    def _count(self, ref: ImageRef, original: Copy) -> None:
        self.count += 1
        if len(self.named) < NAMED_DUPLICATES:
            self.named.append(Arrived(ref.uri, original.uri, original.score))


def _original(ref: ImageRef, near: Sequence[_Linked]) -> Copy | None:
    """Which of the images near to one it is a duplicate of; None if it is none.

    Rather one without a link, and none that is linked to this.
    """
    if len(ref.look) != BYTES:
        return None
    nearest = sorted(near, key=lambda one: (-one[0].cosine, one[0].uri))[:NEAREST]
    others = {one.uri: (one, link) for one, link in nearest if ref.uri not in (one.uri, link)}
    found = copies(ref.look, [one for one, _ in others.values()])
    same = [copy for copy in found if copy.kind == "same"]
    return min(same, key=lambda copy: others[copy.uri][1] is not None, default=None)


def _link(metadata: Mapping[str, Any]) -> str | None:
    link = metadata.get(DUPLICATE_OF)
    return link if isinstance(link, str) else None


def _linked(ref: ImageRef, uri: str) -> ImageRef:
    """With a link, unless its metadata would become too large."""
    linked = replace(ref, metadata={**ref.metadata, DUPLICATE_OF: uri})
    return ref if linked.flaw() else linked
