"""Prints: what pictures become that can be compared, and what cannot be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from simdist.images.decoding import decode
from simdist.prints.prints import (
    BYTES,
    FLAT,
    SIDE,
    is_tiny,
    packed_prints,
    pictures,
    prints_of,
)
from tests.conftest import PHOTOS

SIZE = 224
PATHS = sorted(PHOTOS.rglob("*.jpg"))[:8]


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, form)
    return out.getvalue()


def test_a_print_is_the_picture_made_small() -> None:
    pixels = np.stack([decode(path.read_bytes(), size=SIZE) for path in PATHS])
    shown = pictures(packed_prints(prints_of(pixels)))
    for one, picture in zip(pixels, shown, strict=True):
        small = Image.fromarray(one).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        assert np.corrcoef(np.asarray(small).ravel(), picture.ravel())[0, 1] > 0.98


def test_a_print_changes_little_when_a_picture_is_resized_or_compressed() -> None:
    for path in PATHS[:3]:
        picture = Image.open(path).convert("RGB")
        small = picture.resize((picture.width // 3, picture.height // 3))
        both = [encoded(picture), encoded(small, "JPEG")]
        pixels = np.stack([decode(data, size=SIZE) for data in both])
        one, other = pictures(packed_prints(prints_of(pixels)))
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98


def test_of_no_image_there_is_no_print() -> None:
    assert prints_of(np.empty((0, SIZE, SIZE, 3), np.uint8)) == []


@pytest.mark.parametrize("shape", ["blank", "falling", "round"])
def test_what_is_blank_or_shades_off_is_flat(shape: str) -> None:
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    grey = {"blank": 0 * x + 90, "falling": 255 * (x + y) / 2, "round": 255 * np.hypot(x - 1, y)}
    pixels = np.repeat(grey[shape].clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    assert prints_of(pixels[None]) == [FLAT]


def test_photographs_are_not_flat() -> None:
    pixels = np.stack([decode(path.read_bytes(), size=SIZE) for path in PATHS])
    assert {len(look) for look in prints_of(pixels)} == {BYTES}


@pytest.mark.parametrize(("side", "tiny"), [(31, True), (32, False)])
def test_tiny_pictures_are_told_by_their_shorter_side(side: int, tiny: bool) -> None:
    assert is_tiny(encoded(Image.new("RGB", (side, 200)))) is tiny
    assert not is_tiny(PATHS[0].read_bytes())
