"""What each threshold would find, for somebody who has to choose one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simdist.joining.duplicates import Duplicate, Duplicates

# Below the least, photographs of the same kind are together.
_LEAST = 0.7
THRESHOLDS = (0.99, 0.98, 0.97, 0.96, 0.95, 0.9, 0.85, 0.8, 0.75, _LEAST)
# Pairs that are shown between two thresholds.
_PAIRS = 5


@dataclass(frozen=True)
class Step:
    """What a threshold finds: groups, the images in them, and how many the largest has."""

    threshold: float
    groups: int
    images: int
    largest: int


def steps(found: Duplicates) -> list[Step]:
    """What each threshold finds, the highest first."""
    made = []
    for least in THRESHOLDS:
        sizes = [len(group) for group in found.groups(threshold=least)]
        made.append(Step(least, len(sizes), sum(sizes), max(sizes, default=0)))
    return made


def sample_pairs(found: Duplicates) -> list[list[Duplicate]]:
    """Pairs of all scores, the highest first, as groups of two: to look where they become wrong."""
    scores = found.pairs.scores
    pairs: list[list[Duplicate]] = []
    tops = (np.inf, *THRESHOLDS)
    for least, top in zip(THRESHOLDS, tops, strict=False):
        between = np.flatnonzero((scores >= least) & (scores < top))
        order = np.lexsort((*found.pairs.numbers[between].T[::-1], -scores[between]))
        between = between[order]
        # Evenly: the first, the last, and some on the way.
        shown = np.unique(np.linspace(0, len(between) - 1, min(_PAIRS, len(between))).astype(int))
        for pair in between[shown].tolist():
            one, other = (found.whole.uri(number) for number in found.pairs.numbers[pair].tolist())
            kind = "same" if found.pairs.same[pair] else "similar"
            score, number = round(float(scores[pair]), 4), len(pairs) + 1
            first = Duplicate(number, one, 1.0, True, "same", False)
            pairs.append([first, Duplicate(number, other, score, False, kind, False)])
    return pairs
