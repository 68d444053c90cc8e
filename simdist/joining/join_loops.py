"""The compiled loops of a join; they import numba: import this module where it is used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled


@compiled()
def collect(
    products: NDArray[np.int32],
    sides: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]],
    least: float,
    pairs: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> int:
    """Collect the pairs of a block that score enough, each once; returns how many.

    Args:
        products: (c, q) of the values of c candidates and q images.
        sides: the candidates' numbers and inverse lengths, then those of the images.
        pairs: (c * q or more, 2) to write the numbers to, the smaller first.
        scores: for their scores.
    """
    candidates, candidate_inverses, images, image_inverses = sides
    count = 0
    for j in range(products.shape[0]):
        for i in range(products.shape[1]):
            score = np.float32(products[j, i]) * (candidate_inverses[j] * image_inverses[i])
            if score >= least and candidates[j] != images[i]:
                pairs[count, 0] = min(candidates[j], images[i])
                pairs[count, 1] = max(candidates[j], images[i])
                scores[count] = score
                count += 1
    return count


@compiled()
def improve(
    products: NDArray[np.int32],
    sides: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]],
    least: float,
    best: NDArray[np.int32],
    scores: NDArray[np.float32],
) -> None:
    """Put what scores better among the best of q images; of equals the smaller number comes first.

    Args:
        products, sides: as for `collect`.
        best: (q, k) numbers, the best first; -1 where there is none yet.
        scores: (q, k), -inf where there is none.
    """
    candidates, candidate_inverses, images, image_inverses = sides
    last = best.shape[1] - 1
    for j in range(products.shape[0]):
        for i in range(products.shape[1]):
            score = np.float32(products[j, i]) * (candidate_inverses[j] * image_inverses[i])
            number = candidates[j]
            if score < least or score < scores[i, last] or number == images[i]:
                continue
            if score == scores[i, last] and number > best[i, last]:
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
