"""Small pictures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from cluster.service.http import thumbnails
from cluster.service.http.thumbnails import SIDE, ThumbnailCache, thumbnail
from simdist.errors import ImageError
from tests.bad_inputs import bomb, encode


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "JPEG"
    return picture


def test_a_photograph_becomes_small(photo: Path) -> None:
    data = photo.read_bytes()
    small = opened(thumbnail(data))
    assert max(small.size) == SIDE
    with Image.open(photo) as large:
        ratio = large.width / large.height
    assert small.width / small.height == pytest.approx(ratio, rel=0.02)


def test_a_small_picture_is_not_made_larger() -> None:
    data = encode(Image.new("RGBA", (40, 20), (255, 0, 0, 128)), "PNG")
    small = opened(thumbnail(data))
    assert small.size == (40, 20)
    assert small.mode == "RGB"


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1)])
def test_a_line_is_a_picture_too(size: tuple[int, int]) -> None:
    small = opened(thumbnail(encode(Image.new("L", size), "PNG")))
    assert 1 <= min(small.size) <= max(small.size) <= SIDE


def test_a_thumbnail_is_upright_and_carries_no_metadata(photo: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned
    exif[0x010F] = "the maker of the camera"
    with Image.open(photo) as picture:
        data = encode(picture, "JPEG", exif=exif, comment=b"taken at home")
        width, height = picture.size
    made = thumbnail(data)
    small = opened(made)
    assert small.width / small.height == pytest.approx(height / width, rel=0.02)
    assert not small.getexif()
    assert b"taken at home" not in made
    assert b"maker" not in made


@pytest.mark.parametrize(
    "data", [b"", b"no picture", bomb(20_000, 20_000), bomb(9_500, 10_000), bomb(10, 10)[:30]]
)
def test_unacceptable_pictures_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        thumbnail(data)


def test_the_cache_keeps_what_was_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MEMORY", 30)
    cache = ThumbnailCache()
    for key in "abc":
        cache.keep(key, key.encode() * 10)
    assert cache.get("a") == b"a" * 10  # used: b is the oldest now
    cache.keep("d", b"d" * 10)
    assert cache.get("b") is None
    assert [cache.get(key) for key in "acd"] == [b"a" * 10, b"c" * 10, b"d" * 10]
    cache.keep("a", b"A" * 5)  # in place of the other
    cache.keep("e", b"e" * 5)
    assert cache.get("c") == b"c" * 10
    cache.keep("f", b"f" * 31)  # too large for all of it
    assert [cache.get(key) for key in "abcdef"] == [None] * 6
