"""Comparing all with all: parts of pictures, stars, and the nearest of many vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from simdist.joining.buckets import Buckets, Choice, fit_buckets
from simdist.joining.stars import stars
from simdist.prints.prints import packed_prints, pictures, prints_of
from simdist.prints.windows import Windows, turned, whole_agreements
from simdist.vectors.checks import normalised
from simdist.vectors.codec import Codec
from tests.conftest import PHOTOS

PATHS = sorted(PHOTOS.rglob("*.jpg"))[:12]
SIDE = 224


def shown(pictures_: list[Image.Image]) -> NDArray[np.float32]:
    """Prints of pictures, as they are compared."""
    pixels = [np.asarray(one.convert("RGB").resize((SIDE, SIDE))) for one in pictures_]
    return pictures(packed_prints(prints_of(np.stack(pixels))))


def cut(picture: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = picture.size
    box = (left * width, top * height, right * width, bottom * height)
    return picture.crop(box)


@pytest.mark.parametrize("path", PATHS[:6], ids=lambda path: path.stem)
def test_a_part_is_found_in_its_picture_and_in_no_other(path: Path) -> None:
    whole = Image.open(path)
    part = cut(whole, 0.2, 0.1, 0.9, 0.7)
    others = [Image.open(other) for other in PATHS if other != path]
    first, *rest = shown([whole, part, *others])
    right, *wrong = Windows(first).find(np.stack(rest))
    assert right.agreement > 0.96
    assert right.area == pytest.approx(0.42, abs=0.08)
    assert max(match.agreement for match in wrong) < 0.96


def test_turned_pictures_agree_with_one_of_eight() -> None:
    picture = Image.open(PATHS[0])
    ways = [
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        picture.transpose(Image.Transpose.ROTATE_90),
        picture.transpose(Image.Transpose.TRANSVERSE),
    ]
    for other in shown(ways):
        found = [whole_agreements(way, other[None])[0] for way in turned(shown([picture]))]
        assert max(found) > 0.98 > sorted(found)[-2]


PAIRS = st.sets(st.tuples(st.integers(0, 19), st.integers(0, 19)).filter(lambda p: p[0] < p[1]))


@given(pairs=PAIRS, seed=st.integers(0, 1000))
def test_members_are_neighbours_of_their_centre_and_no_order_matters(
    pairs: set[tuple[int, int]], seed: int
) -> None:
    numbers = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    found = stars(numbers, 20)
    order = np.random.default_rng(seed).permutation(len(numbers))
    again = stars(numbers[order], 20)
    assert [(s.centre, s.members) for s in found] == [(s.centre, s.members) for s in again]
    seen = [n for star in found for n in (star.centre, *star.members)]
    assert len(seen) == len(set(seen))
    for star in found:
        for member, pair in zip(star.members, star.pairs, strict=True):
            assert sorted(numbers[pair].tolist()) == sorted((star.centre, member))
    # Whoever is alone has no neighbour that is alone.
    assert all({one, other} & set(seen) for one, other in pairs)


def test_a_chain_is_not_one_group() -> None:
    chain = np.array([(i, i + 1) for i in range(9)], np.int32)
    assert max(len(star.members) for star in stars(chain, 10)) == 2


def test_what_is_apart_is_never_in_one_star() -> None:
    numbers = np.array([(0, 1), (0, 2)], np.int32)
    assert stars(numbers, 3)[0].members == (1, 2)
    assert stars(numbers, 3, apart={(1, 2)})[0].members == (1,)


def test_the_whole_and_the_larger_are_centres() -> None:
    numbers = np.array([(0, 1)], np.int32)
    assert stars(numbers, 2)[0].centre == 0
    assert stars(numbers, 2, parts=np.array([0], np.int32))[0].centre == 1
    assert stars(numbers, 2, sizes=np.array([1, 2]))[0].centre == 1


def spread(count: int, dim: int = 64) -> NDArray[np.uint8]:
    """Stored vectors in some hundred clusters."""
    generator = np.random.default_rng(3)
    centres = generator.standard_normal((200, dim))
    values = (
        centres[generator.integers(0, 200, count)] + generator.standard_normal((count, dim)) / 2
    )
    codec = Codec.of("int8", dim)
    return codec.pack(codec.turned(normalised(values.astype(np.float32))))


def test_the_nearest_within_buckets_are_nearly_all_of_the_nearest() -> None:
    packed = spread(6000)
    slots = np.arange(6000)
    exact, _ = Choice(10).of(
        Buckets.one(packed, slots), np.arange(6000, dtype=np.int32), np.arange(6000, dtype=np.int32)
    )
    values = packed[:, 4:].view(np.int8).astype(np.float64)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    scores = values @ values.T
    np.fill_diagonal(scores, -2)
    assert (np.sort(exact) == np.sort(np.argsort(-scores, axis=1)[:, :10])).mean() > 0.999
    buckets = fit_buckets(packed, slots, near=8)
    met = []
    for bucket in range(len(buckets)):
        images = buckets.within(bucket)
        best, _ = Choice(10).of(buckets, images, buckets.around(bucket, once=False))
        met += [
            np.isin(exact[image], some).mean() for image, some in zip(images, best, strict=True)
        ]
    assert len(met) == 6000
    assert np.mean(met) > 0.9


def test_which_vectors_are_compared_does_not_depend_on_where_they_lie() -> None:
    packed = spread(2000)
    order = np.random.default_rng(1).permutation(2000)
    back = np.argsort(order)
    one, other = fit_buckets(packed, np.arange(2000)), fit_buckets(packed[order], back)
    assert (one.members == other.members).all()
    assert (one.near == other.near).all()
