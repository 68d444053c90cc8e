"""Archives as people make them: in any order, packed, appended to, zipped."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from simdist.sources import ImageRef, ListingFailure, open_source, read_bytes, read_many
from simdist.sources import members as grouping
from simdist.sources.passed import PassedOver
from tests.archives import tar_of
from tests.conftest import PHOTOS
from tests.object_store import ObjectStore

FISH = sorted((PHOTOS / "fish").glob("*.jpg"))[:10]


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def listed(uri: str) -> tuple[list[ImageRef], dict[str, str], PassedOver]:
    source = open_source(uri)
    entries = list(source.entries)
    failures = {entry.uri: entry.reason for entry in entries if isinstance(entry, ListingFailure)}
    refs = [entry for entry in entries if isinstance(entry, ImageRef)]
    return refs, failures, source.passed


def shuffled() -> dict[str, bytes]:
    """Photographs, labels and notes, in an order of no sense."""
    members = {}
    for number, photo in enumerate(FISH):
        members[f"d/{number:04}.jpg"] = photo.read_bytes()
        members[f"d/{number:04}.cls"] = str(number).encode()
        members[f"d/{number:04}.json"] = json.dumps({"name": photo.stem}).encode()
        members[f"d/{number:04}.txt"] = b"a fish"
    names = list(members)
    random.Random(3).shuffle(names)
    return {name: members[name] for name in names}


ARCHIVES: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "a.tar": tar_of,
    "a.tar.gz": lambda members: gzip.compress(tar_of(members)),
    "a.tgz": lambda members: (
        gzip.compress(tar_of(members)[:3000]) + gzip.compress(tar_of(members)[3000:])
    ),
    "gzip-named.tar": lambda members: gzip.compress(tar_of(members)),
    "a.tar.bz2": lambda members: bz2.compress(tar_of(members)),
    "a.txz": lambda members: lzma.compress(tar_of(members)),
    "a.zip": zip_of,
    "stored.ZIP": lambda members: zip_of(members, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("where", ["folder", "s3"])
def test_members_in_any_order_keep_their_labels_and_notes(
    tmp_path: Path, s3: ObjectStore, where: str, name: str
) -> None:
    data = ARCHIVES[name](shuffled())
    if where == "folder":
        (tmp_path / name).write_bytes(data)
        uri = (tmp_path / name).as_uri()
    else:
        s3.put(name, data)
        uri = f"{s3.uri}/{name}"
    refs, failures, _ = listed(uri)
    assert failures == {}
    assert sorted((ref.uri, ref.label, ref.metadata) for ref in refs) == [
        (f"{uri}#d/{i:04}.jpg", str(i), {"name": photo.stem, "txt": "a fish"})
        for i, photo in enumerate(FISH)
    ]
    fetched = dict(
        zip((ref.label for ref in refs), read_many(refs, open_source(uri).access), strict=True)
    )
    assert fetched == {str(i): photo.read_bytes() for i, photo in enumerate(FISH)}
    assert read_bytes(f"{uri}#d/0003.jpg") == FISH[3].read_bytes()
    assert [ref.fingerprint for ref in listed(uri)[0]] == [ref.fingerprint for ref in refs]


def test_names_with_dots_have_notes_of_their_own(tmp_path: Path) -> None:
    members = {
        "IMG_2024.05.06.json": b'{"day": 6}',
        "IMG_2024.05.07.jpg": b"7",
        "IMG_2024.05.06.jpg": b"6",
        "IMG_2024.05.07.txt": b"the next day",
        "IMG_2024.cls": b"spring",
        "P1.JPG.json": b'{"title": "one"}',
        "P1.JPG": b"P1",
        "P1.PNG": b"other",
    }
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    refs, failures, _ = listed(str(tmp_path / "a.tar"))
    assert failures == {}
    assert {ref.uri.rpartition("#")[2]: (ref.label, ref.metadata) for ref in refs} == {
        "IMG_2024.05.06.jpg": ("spring", {"day": 6}),
        "IMG_2024.05.07.jpg": ("spring", {"txt": "the next day"}),
        "P1.JPG": (None, {"title": "one"}),
        "P1.PNG": (None, {}),
    }


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_of_one_name_the_last_counts(tmp_path: Path, name: str) -> None:
    data = io.BytesIO()
    versions = [("a.jpg", b"old"), ("b.jpg", b"b"), ("a.jpg", b"new!")]
    if name == "a.zip":
        with zipfile.ZipFile(data, "w") as archive:
            for member, content in versions:
                archive.writestr(member, content)
    else:
        mode = "w:gz" if name == "a.tar.gz" else "w"
        with tarfile.open(fileobj=data, mode=mode) as tar:  # type: ignore[call-overload]
            for member, content in versions:
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    path = tmp_path / name
    path.write_bytes(data.getvalue())
    refs, failures, passed = listed(str(path))
    assert failures == {}
    assert list(read_many(refs, open_source(str(path)).access)) == [b"new!", b"b"]
    assert read_bytes(f"{path.as_uri()}#a.jpg") == b"new!"
    assert passed.counts == {"older versions": 1}


def test_what_is_no_image_is_counted(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        files = {"a.jpg": b"1", "._a.jpg": b"2", "a.npy": b"3", "__MACOSX/a.jpg": b"4"}
        files |= {"IMG_1": FISH[0].read_bytes(), "README": b"words"}
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("again.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
        tar.addfile(link)
    (tmp_path / "a.tar").write_bytes(data.getvalue())
    refs, failures, passed = listed(str(tmp_path / "a.tar"))
    assert failures == {}
    assert [ref.uri.rpartition("#")[2] for ref in refs] == ["a.jpg", "IMG_1"]
    assert passed.counts == {"hidden": 1, ".npy": 1, "system": 1, "no suffix": 1, "links": 1}


def test_notes_wait_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "WINDOW", 2)
    members = {f"{i}.jpg": b"1" for i in range(5)} | {"3.cls": b"near"}
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    refs, _, _ = listed(str(tmp_path / "a.tar"))
    assert [ref.label for ref in refs] == [None, None, None, "near", None]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.bz2", "a.txz", "a.zip"])
def test_what_is_cut_is_a_failure(tmp_path: Path, name: str) -> None:
    data = ARCHIVES[name](shuffled())
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    _, failures, _ = listed(str(tmp_path / name))
    [reason] = failures.values()
    assert "cut" in reason or "damaged" in reason


def test_what_expands_without_end_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simdist.sources import packed

    monkeypatch.setattr(packed, "MIN_LIMIT", 1 << 20)
    zeros = gzip.compress(bytes(200 << 20))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar_of({"a.jpg": b"1"})) + zeros)
    _, failures, _ = listed(str(tmp_path / "a.tar.gz"))
    [reason] = failures.values()
    assert "it expands to more than" in reason


def test_a_zip_with_members_that_cannot_be_read(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.jpg", b"good" * 100)
        archive.writestr("damaged.jpg", FISH[0].read_bytes())
        archive.writestr("other.jpg", b"1", compress_type=zipfile.ZIP_LZMA)
    content = bytearray(data.getvalue())
    at = content.index(b"damaged.jpg") + 300
    content[at : at + 50] = bytes(50)
    (tmp_path / "a.zip").write_bytes(content)
    refs, failures, _ = listed(str(tmp_path / "a.zip"))
    assert list(failures.values()) == ["packed in a way that is not read"]
    good, damaged = read_many(refs, open_source(str(tmp_path / "a.zip")).access)
    assert good == b"good" * 100
    assert isinstance(damaged, Exception)
    assert "is damaged" in str(damaged)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no directory", b"x" * 100_000])
def test_what_is_no_zip_is_one_failure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "b.zip").write_bytes(zip_of({"a.jpg": b"1"}))
    refs, failures, _ = listed(f"{tmp_path}/*.zip")
    assert len(refs) == 1
    [reason] = failures.values()
    assert "is not a zip archive" in reason


def test_a_pattern_matches_packed_archives(tmp_path: Path) -> None:
    packed = ("a.tar.gz", "a.tar.gz")
    for name, kind in (packed, ("b.tgz", "a.tgz"), ("c.zip", "a.zip"), ("d.tar", "a.tar")):
        (tmp_path / name).write_bytes(ARCHIVES[kind](shuffled()))
    assert len(listed(f"{tmp_path}/*.tar.gz")[0]) == 10
    assert len(listed(f"{tmp_path}/*")[0]) == 40
    # In a folder they are told, not opened.
    refs, _, passed = listed(str(tmp_path))
    assert (refs, passed.counts) == ([], {".gz": 1, ".tgz": 1, ".zip": 1, ".tar": 1})
