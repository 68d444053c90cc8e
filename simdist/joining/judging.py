"""What two images are to each other: the same picture, a similar one, or how similar."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simdist.joining.candidates import Pairs, background, pairs_by_prints, similar_pairs
from simdist.joining.whole import OnProgress, Whole
from simdist.prints.prints import BYTES, packed_prints, pictures
from simdist.prints.windows import Match, Windows, details, turned, whole_agreements

# Prints that agree so much are of copies, if more speaks for it. If one shows all of the other, as
# far as so much of its area: its details agree, too. Else the less was cut off the more similar the
# embeddings are, at least so much and so much more for all of the area; and where little was cut
# off the prints agree more. All measured (docs/duplicates.md): motorcycles on plain ground agree by
# .99, but neither in their details nor by their embeddings.
COPY, _WHOLE_AREA, _DETAILS = 0.96, 0.95, 0.905
_CUT_COSINE, _CUT_MORE = 0.38, 0.57
_LITTLE_CUT, _LITTLE_COPY = 0.85, 0.975
# What is less certain scores at most so much.
_UNCERTAIN = 0.95
# A copy that shows so much of the other is the same picture, one that shows less a similar one.
SAME_AREA = 0.7
# Parts are looked for in images whose embeddings are so similar, in so many of the most similar.
PART_COSINE, _PARTS = 0.6, 24
# Among eight ways to turn a part one agrees so much more by chance.
_BY_CHANCE = 0.01
_BATCH = 4096
_REPORT = 64


@dataclass(frozen=True)
class Judged:
    """Pairs of images with what they are to each other.

    Attributes:
        numbers: (m, 2) int32, the smaller first, ordered.
        scores: (m,) float32: how much their prints agree if they are copies, at least `COPY`; else
            how similar their embeddings are, less what is similar to much.
        same: (m,) whether they are the same picture.
        parts: (m,) the number of the one that is a part of the other; -1 for neither.
    """

    numbers: NDArray[np.int32]
    scores: NDArray[np.float32]
    same: NDArray[np.bool_]
    parts: NDArray[np.int32]


def judged(whole: Whole, on_progress: OnProgress, *, turns: bool) -> Judged:
    """Judge all pairs of a collection that may be copies or similar; blank and tiny ones are out.

    Args:
        turns: look also at prints that are mirrored, and turned by quarters.
    """
    sizes = np.array([len(look) for look in whole.looks()], np.int64)
    # Flat and tiny ones have a mark of one byte.
    usable, printed = np.flatnonzero(sizes != 1), np.flatnonzero(sizes == BYTES)
    slots = whole.slots[usable]
    found = similar_pairs(whole.packed, slots, on_progress)
    # There are many more pairs than images: a number of theirs takes half as much as an index.
    pairs = Pairs(usable.astype(np.int32)[found.numbers], found.cosines)
    del found
    prints = packed_prints(look for look in whole.looks() if len(look) == BYTES)
    ways = sorted({False, turns})
    extra = [pairs_by_prints(prints, printed, on_progress, turned=way) for way in ways]
    pairs = _with_more(whole, pairs, np.concatenate(extra))
    place = np.full(len(whole), -1, np.int32)
    place[printed] = np.arange(len(printed))
    agreed = _agreements(pairs, prints, place, on_progress, turns=turns)
    typical = np.zeros(len(whole), np.float32)
    if len(usable):
        typical[usable] = background(whole.packed, slots)
    scores = pairs.cosines - typical[pairs.numbers].mean(axis=1)
    both_printed = (place >= 0)[pairs.numbers].all(axis=1)
    scores = np.minimum(scores, np.where(both_printed, _UNCERTAIN, 1)).astype(np.float32)
    copies = are_copies(agreed, pairs.cosines)
    scores = np.where(copies, agreed.agreements, scores).clip(-1, 1).astype(np.float32)
    # Equal vectors are of equal pixels, whether there are prints or not.
    equal = ~both_printed & (pairs.cosines >= 1 - 1e-6)
    same = equal | (copies & (agreed.areas >= SAME_AREA))
    return Judged(pairs.numbers, scores, same, np.where(copies, agreed.parts, -1).astype(np.int32))


@dataclass(frozen=True)
class Agreed:
    """How much pairs of prints agree, m of them.

    Attributes:
        agreements: (m,) float32, -1 to 1.
        areas: (m,) float32, on how much of the larger one's area.
        details: (m,) float32, how much their details agree where all of both is compared.
        parts: (m,) int32, the number of the one that is a part of the other; -1 for neither.
    """

    agreements: NDArray[np.float32]
    areas: NDArray[np.float32]
    details: NDArray[np.float32]
    parts: NDArray[np.int32]

    @classmethod
    def nothing(cls, count: int) -> Agreed:
        """Pairs of which nothing is known yet."""
        least, none = np.full(count, -1, np.float32), np.full(count, -1, np.int32)
        return cls(least, np.ones(count, np.float32), least.copy(), none)

    def compare(
        self, which: NDArray[np.intp], one: NDArray[np.float32], other: NDArray[np.float32]
    ) -> None:
        """Compare pictures as they are, (k, s, s), that are some of the pairs."""
        alike = whole_agreements(one, other)
        self.agreements[which] = np.maximum(self.agreements[which], alike)
        fine = np.einsum("nk,nk->n", details(one), details(other))
        self.details[which] = np.maximum(self.details[which], fine)

    def note(self, pair: int, match: Match, part: int, *, less: float = 0.0) -> None:
        """Note where one print has been found in the other, if they agree more so."""
        if match.agreement - less > self.agreements[pair]:
            self.agreements[pair], self.areas[pair] = match.agreement - less, match.area
            self.parts[pair] = part


def are_copies(agreed: Agreed, cosines: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(m,) which pairs are copies, by their prints and the cosines of their embeddings."""
    areas, agreements = agreed.areas, agreed.agreements
    whole = (areas >= _WHOLE_AREA) & (agreed.details >= _DETAILS)
    cut = (areas < _LITTLE_CUT) | (agreements >= _LITTLE_COPY)
    cut &= cosines >= _CUT_COSINE + _CUT_MORE * areas
    copies: NDArray[np.bool_] = (agreements >= COPY) & (whole | cut)
    return copies


def _with_more(whole: Whole, pairs: Pairs, more: NDArray[np.int32]) -> Pairs:
    """The pairs and those found otherwise, with their cosines."""
    if not len(more):
        return pairs
    keys = _keys(pairs.numbers)
    new = np.unique(_keys(np.sort(more, axis=1)))
    new = new[~np.isin(new, keys)]
    numbers = np.column_stack([new >> 32, new & 0xFFFFFFFF]).astype(np.int32)
    cosines = np.empty(len(numbers), np.float32)
    for start in range(0, len(numbers), _BATCH):
        one, other = whole.slots[numbers[start : start + _BATCH]].T
        products = np.einsum(
            "nd,nd->n", whole.values[one].astype(np.int32), whole.values[other].astype(np.int32)
        )
        inverses = whole.inverse_lengths[one] * whole.inverse_lengths[other]
        cosines[start : start + _BATCH] = products.astype(np.float32) * inverses
    order = np.argsort(np.concatenate([keys, new]))
    return Pairs(
        np.concatenate([pairs.numbers, numbers])[order],
        np.concatenate([pairs.cosines, cosines])[order],
    )


def _keys(numbers: NDArray[np.int32]) -> NDArray[np.int64]:
    return numbers[:, 0].astype(np.int64) << 32 | numbers[:, 1]


def _agreements(
    pairs: Pairs,
    prints: NDArray[np.uint8],
    place: NDArray[np.int32],
    on_progress: OnProgress,
    *,
    turns: bool,
) -> Agreed:
    """How much the prints of each pair agree.

    Args:
        place: where in `prints` that of each image is; -1 for none.
    """
    agreed = Agreed.nothing(len(pairs.numbers))
    known = np.flatnonzero((place >= 0)[pairs.numbers].all(axis=1))
    for start in range(0, len(known), _BATCH):
        some = known[start : start + _BATCH]
        one, other = (pictures(prints[side]) for side in place[pairs.numbers[some]].T)
        for way in turned(one) if turns else (one,):
            agreed.compare(some, way, other)
    closer = ~are_copies(agreed, pairs.cosines) & (pairs.cosines >= PART_COSINE)
    left = known[closer[known]]
    left = left[_among_nearest(pairs.numbers[left], pairs.cosines[left])]
    # Each picture with all that may be parts of it, and it may be a part of.
    placed = place[pairs.numbers[left]]
    images, which = np.concatenate([placed, placed[:, ::-1]]), np.tile(left, 2)
    part = np.concatenate([pairs.numbers[left][:, 1], pairs.numbers[left][:, 0]])
    order = np.lexsort((which, images[:, 0]))
    images, which, part = images[order], which[order], part[order]
    bounds = np.flatnonzero(np.diff(images[:, 0], prepend=-1, append=-1)).tolist()
    for number, (start, end) in enumerate(pairwise(bounds)):
        [picture] = pictures(prints[images[start : start + 1, 0]])
        windows, sought = Windows(picture), pictures(prints[images[start:end, 1]])
        for turn, way in enumerate(turned(sought) if turns else (sought,)):
            less = _BY_CHANCE if turn else 0
            for at, match in enumerate(windows.find(way), start):
                agreed.note(int(which[at]), match, int(part[at]), less=less)
        if number % _REPORT == 0:
            on_progress("looking closely", number, len(bounds) - 1)
    return agreed


def _among_nearest(numbers: NDArray[np.int32], cosines: NDArray[np.float32]) -> NDArray[np.intp]:
    """The pairs in which one is among the nearest few of the other."""
    both = np.concatenate([numbers, numbers[:, ::-1]])
    which = np.tile(np.arange(len(numbers)), 2)
    order = np.lexsort((both[:, 1], -np.tile(cosines, 2), both[:, 0]))
    firsts = np.flatnonzero(np.diff(both[order, 0], prepend=-1))
    ranks = np.arange(len(order)) - np.repeat(firsts, np.diff(firsts, append=len(order)))
    return np.unique(which[order][ranks < _PARTS])
