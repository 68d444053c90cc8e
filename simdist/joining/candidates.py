"""Pairs of images that may be copies: alike by their embeddings, or by their prints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simdist.joining.buckets import LARGEST, Buckets, Choice, fit_buckets
from simdist.joining.whole import OnProgress
from simdist.prints.prints import SIDE, pictures
from simdist.vectors.codec import Codec

# Of each image so many of the most similar are looked at, if they are at least so similar; and all
# that are very similar, if there are not too many of these: else the bar is raised.
_NEAREST, _LEAST = 24, 0.5
_CLOSE, _RAISE, _MOST_CLOSE = 0.9, 0.02, 32
# The same for prints, by the signs of their frequencies: of 256, a sixth may differ.
_NEAREST_PRINTS, _LEAST_SIGNS = 8, 0.66
_FREQUENCIES = 16
_BATCH = 8192
# Images between two reports of progress, in buckets.
_REPORT = 64
# Those that all are compared with, and how many of the nearest of them count.
_BACKGROUND, _COUNTED = 1024, 10


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, the smaller number first, each once: (m, 2) int32, and their cosines."""

    numbers: NDArray[np.int32]
    cosines: NDArray[np.float32]


def similar_pairs(
    packed: NDArray[np.uint8], slots: NDArray[np.int64], on_progress: OnProgress
) -> Pairs:
    """Pairs of n images that are similar by their embeddings.

    Args:
        packed: stored vectors of int8 values.
        slots: (n,) where each image's vector is.
    """
    if not len(slots):
        return Pairs(np.empty((0, 2), np.int32), np.empty(0, np.float32))
    buckets = fit_buckets(packed, slots)
    close, bar = _close_pairs(buckets, len(slots), on_progress)
    choice = Choice(_NEAREST, least=_LEAST, most=bar)
    near = nearest(buckets, len(slots), choice, on_progress)
    return Pairs(
        np.concatenate([close.numbers, near.numbers]), np.concatenate([close.cosines, near.cosines])
    )


def pairs_by_prints(
    prints: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    on_progress: OnProgress,
    *,
    turned: bool,
) -> NDArray[np.int32]:
    """(m, 2) pairs of images whose prints are similar.

    Args:
        prints: (n, BYTES).
        numbers: (n,) of which images.
        turned: also if they are turned or mirrored.
    """
    if not len(prints):
        return np.empty((0, 2), np.int32)
    codec = Codec.of("int8", _FREQUENCIES**2)
    packed = np.empty((len(prints), codec.width), np.uint8)
    for start in range(0, len(prints), _BATCH):
        part = slice(start, start + _BATCH)
        # Exact: all values are as long.
        packed[part] = codec.pack(_signs(pictures(prints[part]), upright=turned))
    buckets = fit_buckets(packed, np.arange(len(prints)))
    choice = Choice(_NEAREST_PRINTS, least=_LEAST_SIGNS)
    found = nearest(buckets, len(prints), choice, on_progress)
    return numbers[found.numbers].astype(np.int32)


def nearest(buckets: Buckets, count: int, choice: Choice, on_progress: OnProgress) -> Pairs:
    """The pairs of each image with those that it gets by a choice; each pair once."""
    from simdist.joining.join_loops import once

    best = np.full((count, choice.k), -1, np.int32)
    scores = np.full((count, choice.k), -np.inf, np.float32)
    for bucket in range(len(buckets)):
        images = buckets.within(bucket)
        candidates = buckets.around(bucket, once=False)
        best[images], scores[images] = choice.of(buckets, images, candidates)
        if bucket % _REPORT == 0:
            on_progress("comparing", int(buckets.starts[bucket]), count)
    return Pairs(*once(best, scores))


def background(packed: NDArray[np.uint8], slots: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n,) how much more similar than others each image is to those of a sample most like it.

    What is similar to much is easily similar: the score normalisation of E. Pizzi et al., 'A
    self-supervised descriptor for image copy detection', CVPR 2022.
    """
    count = len(slots)
    drawn = np.random.default_rng(0).choice(count, min(count, _BACKGROUND), replace=False)
    sample = np.sort(drawn).astype(np.int32)
    everything = Buckets.one(packed, slots)
    # Without its copies, of which it may have many.
    choice = Choice(_COUNTED, most=_CLOSE)
    _, scores = choice.of(everything, np.arange(count, dtype=np.int32), sample)
    known = np.isfinite(scores)
    sums = np.where(known, scores, 0).sum(axis=1)
    means: NDArray[np.float32] = (sums / np.maximum(known.sum(axis=1), 1)).astype(np.float32)
    usual = means[known.any(axis=1)].mean() if known.any() else 0
    more = np.where(known.any(axis=1), means - usual, 0)
    # Among few images, those most like one may be its copies: they say little of the others.
    return (more * (len(sample) / _BACKGROUND)).astype(np.float32)


def _close_pairs(buckets: Buckets, count: int, on_progress: OnProgress) -> tuple[Pairs, float]:
    """All pairs that are very similar, unless they are too many: then those that are more so.

    Returns:
        They, and from which cosine on.
    """
    from simdist.joining.join_loops import collect

    least, held, most = _CLOSE, 0, _MOST_CLOSE * count
    numbers: list[NDArray[np.int32]] = [np.empty((0, 2), np.int32)]
    scores: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    pairs, cosines = np.empty((LARGEST, 2), np.int32), np.empty(LARGEST, np.float32)
    for bucket in range(len(buckets)):
        images = buckets.within(bucket)
        for others, within in ((images, True), (buckets.around(bucket, once=True), False)):
            for _, block in buckets.blocks(images, others):
                found = collect(block.products, block.sides, (least, within), pairs, cosines)
                if found:
                    numbers.append(pairs[:found].copy())
                    scores.append(cosines[:found].copy())
                    held += found
        while held > most and least < 1:
            least += _RAISE
            all_scores, all_numbers = np.concatenate(scores), np.concatenate(numbers)
            kept = all_scores >= least
            numbers, scores, held = [all_numbers[kept]], [all_scores[kept]], int(kept.sum())
        if bucket % _REPORT == 0:
            on_progress("comparing closely", int(buckets.starts[bucket]), count)
    return Pairs(np.concatenate(numbers), np.concatenate(scores)), least


def _signs(shown: NDArray[np.float32], *, upright: bool) -> NDArray[np.float32]:
    """(n, SIDE, SIDE) -> (n, 256) of 1 and -1: which of the low frequencies are positive.

    As PDQ has them.

    Args:
        upright: of the picture as it is when it is turned and mirrored so that two frequencies are
            positive, and one of them the larger: a turned picture has the same signs.
    """
    at = np.outer(np.arange(1, _FREQUENCIES + 1), 2 * np.arange(SIDE) + 1)
    waves = np.cos(np.pi / (2 * SIDE) * at).astype(np.float32)
    found = waves @ shown @ waves.T
    if upright:
        lying = np.abs(found[:, 0, 1]) < np.abs(found[:, 1, 0])
        found[lying] = found[lying].transpose(0, 2, 1)
        # The first, third, fifth ... frequency changes its sign in a mirror.
        odd = np.arange(_FREQUENCIES) % 2 == 0
        mirrored, flipped = found[:, 1, 0] < 0, found[:, 0, 1] < 0
        found *= np.where(flipped[:, None] & odd, -1, 1)[:, :, None]
        found *= np.where(mirrored[:, None] & odd, -1, 1)[:, None, :]
    flat = np.where(found.reshape(len(found), -1) > 0, 1, -1).astype(np.float32)
    return flat / np.float32(_FREQUENCIES)
