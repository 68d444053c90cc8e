"""What lies in people's folders and is no image, or not meant: passed over, and told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simdist.sources import ImageRef, Selection, Source, open_source
from tests.conftest import PHOTOS
from tests.object_store import ObjectStore

JPEG = next((PHOTOS / "fish").glob("*.jpg")).read_bytes()
RUBBISH = {
    "._a.jpg": "hidden",
    ".hidden.jpg": "hidden",
    "@eaDir/a.jpg/SYNOFILE_THUMB_M.jpg": "system folders",
    ".Trash-1000/files/old.jpg": "hidden folders",
    "#recycle/old.jpg": "system folders",
    "$RECYCLE.BIN/old.jpg": "system folders",
    "__MACOSX/a.jpg": "system folders",
    "Thumbs.db": "system",
    "muted/.nomedia": "folders with .nomedia",
}
OTHERS = {
    "film.mov": ".mov",
    "live.MOV": ".mov",
    "drawing.svg": ".svg",
    "README": "no suffix",
    "BMW": "no suffix",
    "list.csv": ".csv",
    "odd." + "x" * 200: "other",
}
IMAGES = ["a.jpg", "b.jfif", "c.jpe", "d.insp", "e.HEIC", "f.heif", "g.avif", "h.jxl", "IMG_1"]


def fill(folder: Path) -> None:
    for name in (*IMAGES, *RUBBISH, "muted/b.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    for name in OTHERS:
        (folder / name).write_bytes(b"BM, and other words")
    os.mkfifo(folder / "pipe")


def names(source: Source) -> set[str]:
    refs = [entry for entry in source.entries if isinstance(entry, ImageRef)]
    return {ref.uri.rpartition("/")[2] for ref in refs}


def test_a_folder_gives_its_images_and_counts_all_else(tmp_path: Path) -> None:
    fill(tmp_path)
    source = open_source(str(tmp_path))
    assert names(source) == {*IMAGES}
    # The film of a live photograph beside its still; the pipe has no suffix either.
    expected: dict[str, int] = {}
    for what in (*RUBBISH.values(), *OTHERS.values(), "no suffix"):
        expected[what] = expected.get(what, 0) + 1
    assert dict(source.passed.counts) == expected


def test_hidden_files_can_be_had(tmp_path: Path) -> None:
    fill(tmp_path)
    source = open_source(str(tmp_path), selection=Selection(hidden=True))
    assert {"._a.jpg", "SYNOFILE_THUMB_M.jpg", "old.jpg", "b.jpg"} <= names(source)
    assert not any("hidden" in what or "system" in what for what in source.passed.counts)


def test_what_is_named_is_taken_though_it_is_hidden(tmp_path: Path) -> None:
    hidden = tmp_path / ".cache" / ".thumbs"
    hidden.mkdir(parents=True)
    (hidden / "a.jpg").write_bytes(JPEG)
    (hidden / ".nomedia").touch()
    for place in (hidden, hidden / "a.jpg", f"{tmp_path}/.cache/.thumbs/*.jpg"):
        assert names(open_source(str(place))) == {"a.jpg"}
    assert names(open_source(f"{tmp_path}/.*/.thumbs/*.jpg")) == {"a.jpg"}
    source = open_source(f"{tmp_path}/**/*.jpg")
    assert (names(source), dict(source.passed.counts)) == (set(), {"hidden folders": 1})


def test_a_pattern_counts_what_it_matches_and_cannot_take(tmp_path: Path) -> None:
    fill(tmp_path)
    source = open_source(f"{tmp_path}/[!l]*")
    assert names(source) >= {"a.jpg", "IMG_1"}
    assert source.passed.counts[".mov"] == 1  # live.MOV begins with an l
    assert source.passed.counts["no suffix"] == 2  # as a pipe is a failure


def test_a_bucket_gives_its_images_and_counts_all_else(s3: ObjectStore) -> None:
    keys = ["a.jpg", "b.HEIC", "hash-without-suffix", "_MG_1234.JPG", "2024/c.jpg"]
    for key in keys:
        s3.put(f"p/{key}", JPEG)
    for key in ("_SUCCESS", "2024_$folder$", "empty"):
        s3.put(f"p/{key}", b"")
    for key in (".DS_Store", "@eaDir/a.jpg", "2024/.thumbs/d.jpg", "film.mov"):
        s3.put(f"p/{key}", JPEG)
    source = open_source(f"{s3.uri}/p")
    assert names(source) == {key.rpartition("/")[2] for key in keys}
    assert dict(source.passed.counts) == {"markers": 3, "hidden": 2, "system": 1, ".mov": 1}


@pytest.mark.parametrize("exclude", [(), ("thumbs/**",)])
def test_a_source_is_whole_also_without_what_is_excluded(
    tmp_path: Path, exclude: tuple[str, ...]
) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    assert open_source(str(tmp_path), selection=Selection(exclude=exclude)).whole
    for narrow in (Selection(include=("*.jpg",)), Selection(limit=1)):
        assert not open_source(str(tmp_path), selection=narrow).whole
