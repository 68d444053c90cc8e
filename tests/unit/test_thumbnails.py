"""Small pictures, and where they are kept."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from PIL import Image

from cluster.service import pictures
from cluster.service.pictures import PictureCache
from simdist.errors import ImageError
from simdist.images.thumbnails import PREVIEW_SIDE, SIDE, Shelf, content_key, preview, thumbnail
from tests.bad_inputs import bomb, encode


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "WEBP"
    return picture


def test_a_photograph_becomes_small(photo: Path) -> None:
    data = photo.read_bytes()
    small = opened(thumbnail(data))
    assert max(small.size) == SIDE
    with Image.open(photo) as large:
        ratio = large.width / large.height
    assert small.width / small.height == pytest.approx(ratio, rel=0.02)


def test_a_preview_is_larger(photo: Path) -> None:
    with Image.open(photo) as picture:
        large, size = encode(picture.resize((4000, 3000)), "JPEG"), picture.size
    assert opened(preview(large)).size == (PREVIEW_SIDE, PREVIEW_SIDE * 3 // 4)
    assert opened(preview(photo.read_bytes())).size == size


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
    monkeypatch.setattr(pictures, "MEMORY", 30)
    cache = PictureCache()
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


def keys(count: int) -> list[str]:
    return [content_key(f"urn:{i}", b"vector") for i in range(count)]


def test_what_is_kept_is_there_for_others(tmp_path: Path) -> None:
    first, second, *_ = keys(3)
    folder = tmp_path / "data" / "thumbnails"
    shelf = Shelf(folder, room=1000)
    shelf.keep(first, SIDE, b"small")
    shelf.keep(first, PREVIEW_SIDE, b"large")
    other = Shelf(folder, room=1000)
    assert [other.get(first, size) for size in (SIDE, PREVIEW_SIDE)] == [b"small", b"large"]
    assert other.get(second, SIDE) is None
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(files) == 2
    assert content_key("urn:0", b"other") != first


def test_what_was_used_longest_ago_gives_way(tmp_path: Path) -> None:
    shelf, names = Shelf(tmp_path, room=3200), keys(40)
    for age, name in enumerate(names):
        shelf.keep(name, SIDE, bytes(100))
        for path in tmp_path.rglob(f"{name}-*"):
            os.utime(path, (0, 1000 + age))
    # It is looked at, and so used by now.
    assert shelf.get(names[12], SIDE) is not None
    for name in keys(60)[40:]:
        shelf.keep(name, SIDE, bytes(100))
    there = [name for name in names if shelf.get(name, SIDE) is not None]
    assert names[12] in there
    assert names[0] not in there
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size <= 3200 + 3200 // 16 + 100


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    [key] = keys(1)
    shelf = Shelf(tmp_path / "file", room=1000)
    shelf.keep(key, SIDE, b"small")
    assert shelf.get(key, SIDE) is None
