"""The compiled loops of a join; they import numba: import this module where it is used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled


@compiled()
def collect(
    products: NDArray[np.int32],
    sides: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]],
    counted: tuple[float, bool],
    pairs: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    """Collect the pairs of a block that score enough, each once; returns how many.

    Args:
        products: (c, q) of the values of c candidates and q images.
        sides: the candidates' numbers and inverse lengths, then those of the images.
        counted: the least score that counts; and whether the candidates are these images, so that
            each pair is met twice.
        pairs: (c * q or more, 2) to write the numbers to, the smaller first.
        scores: for their scores.
    """
    candidates, candidate_inverses, images, image_inverses = sides
    least, within = counted
    count = 0
    for j in range(products.shape[0]):
        for i in range(products.shape[1]):
            score = np.float32(products[j, i]) * (candidate_inverses[j] * image_inverses[i])
            if score >= least and not (within and candidates[j] <= images[i]):
                pairs[count, 0] = min(candidates[j], images[i])
                pairs[count, 1] = max(candidates[j], images[i])
                scores[count] = score
                count += 1
    return count


@compiled()
def improve(
    products: NDArray[np.int32],
    sides: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]],
    bounds: tuple[float, float],
    sorts: tuple[NDArray[np.int32], NDArray[np.int32]],
    found: tuple[NDArray[np.int32], NDArray[np.float32]],
) -> None:
    """Put what scores better among the best of q images; of equals the smaller number comes first.

    Args:
        products, sides: as for `collect`.
        bounds: the least score that counts, and one that is too much.
        sorts: labels of all images by their numbers: only those with equal ones count; and groups:
            only those with other ones count; each empty for any.
        found: (q, k) numbers, the best first, -1 where there is none yet; and (q, k) scores, -inf
            where there is none.
    """
    candidates, candidate_inverses, images, image_inverses = sides
    best, scores = found
    least, most = bounds
    last = best.shape[1] - 1
    labels, groups = sorts
    by_label, by_group = labels.shape[0] > 0, groups.shape[0] > 0
    for j in range(products.shape[0]):
        number = candidates[j]
        for i in range(products.shape[1]):
            score = np.float32(products[j, i]) * (candidate_inverses[j] * image_inverses[i])
            if score < scores[i, last] or score < least or score >= most or number == images[i]:
                continue
            if score == scores[i, last] and number > best[i, last]:
                continue
            if by_label and labels[number] != labels[images[i]]:
                continue
            if by_group and groups[number] == groups[images[i]]:
                continue
            at = last
            while at > 0 and (
                scores[i, at - 1] < score
                or (scores[i, at - 1] == score and best[i, at - 1] > number)
            ):
                scores[i, at] = scores[i, at - 1]
                best[i, at] = best[i, at - 1]
                at -= 1
            scores[i, at] = score
            best[i, at] = number


@compiled()
def once(
    best: NDArray[np.int32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Pairs of images with their best, each pair once, the smaller number first.

    Args:
        best: (n, k) numbers, -1 for none.
        scores: (n, k).

    Returns:
        (m, 2) pairs and (m,) their scores.
    """
    # Counted first: a list of them would take several times the memory.
    count = 0
    for image in range(best.shape[0]):
        for place in range(best.shape[1]):
            count += _is_first(best, image, place)
    pairs = np.empty((count, 2), np.int32)
    cosines = np.empty(count, np.float32)
    count = 0
    for image in range(best.shape[0]):
        for place in range(best.shape[1]):
            if _is_first(best, image, place):
                other = best[image, place]
                pairs[count, 0], pairs[count, 1] = min(image, other), max(image, other)
                cosines[count] = scores[image, place]
                count += 1
    return pairs, cosines


@compiled()
def _is_first(best: NDArray[np.int32], image: int, place: int) -> bool:
    """Whether there is one, and the pair has not been met from its other side."""
    other = best[image, place]
    if other < 0:
        return False
    if other < image:
        for back in best[other]:
            if back == image:
                return False
    return True
