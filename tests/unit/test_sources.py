from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simdist.errors import ImageError, SourceError, UsageError
from simdist.images import limits
from simdist.images.decoding import decode
from simdist.sources import (
    ImageRef,
    ListingFailure,
    file_uri,
    list_folder,
    read_bytes,
    uri_path,
)
from tests.bad_inputs import odd_names, write_bad_inputs

NOBODY = 65_534


def listed(root: Path) -> list[str]:
    """The images found, as paths below `root`."""
    refs = [entry for entry in list_folder(root) if isinstance(entry, ImageRef)]
    return [str(uri_path(ref.uri).relative_to(root)) for ref in refs]


def failures(root: Path) -> dict[str, str]:
    found = [entry for entry in list_folder(root) if isinstance(entry, ListingFailure)]
    return {str(uri_path(entry.uri).relative_to(root)): entry.reason for entry in found}


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


# Listing.


def test_a_ref_says_what_the_listing_knows(tmp_path: Path) -> None:
    path = tmp_path / "cats" / "tom.jpg"
    touch(path)
    os.utime(path, ns=(5, 7_000_000_001))
    (ref,) = list_folder(tmp_path)
    assert ref == ImageRef(path.as_uri(), "1-7000000001", 1, "cats", depth=2)


@pytest.mark.parametrize("change", ["size", "time"])
def test_the_fingerprint_changes_with_the_file(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.jpg"
    touch(path)
    (before,) = list_folder(tmp_path)
    details = path.stat()
    if change == "size":
        path.write_bytes(b"xx")
        os.utime(path, ns=(details.st_atime_ns, details.st_mtime_ns))
    else:
        os.utime(path, ns=(details.st_atime_ns, details.st_mtime_ns + 1))
    (after,) = list_folder(tmp_path)
    assert isinstance(before, ImageRef)
    assert isinstance(after, ImageRef)
    assert before.fingerprint != after.fingerprint
    assert before.uri == after.uri


def test_only_names_of_images_are_listed(tmp_path: Path) -> None:
    suffixes = ["jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "bmp", "JPG", "PnG"]
    touch(*(tmp_path / f"a.{suffix}" for suffix in suffixes))
    touch(tmp_path / "notes.txt", tmp_path / "jpg", tmp_path / ".jpg", tmp_path / "a.jpg.part")
    assert sorted(listed(tmp_path)) == sorted(f"a.{suffix}" for suffix in suffixes)


def test_the_order_is_that_of_the_names(tmp_path: Path) -> None:
    names = ["b.jpg", "z.jpg", "a/2.jpg", "a/10.jpg", "a/c/1.jpg", "b/1.jpg"]
    touch(*(tmp_path / name for name in reversed(names)))
    order = ["b.jpg", "z.jpg", "a/10.jpg", "a/2.jpg", "a/c/1.jpg", "b/1.jpg"]
    assert listed(tmp_path) == order


@pytest.mark.parametrize(
    ("folder", "label"),
    [("cats", "cats"), ("a/b/Ähren", "Ähren"), ("b\udce9ta", "b\ufffdta")],
)
def test_the_label_is_the_folders_name(tmp_path: Path, folder: str, label: str) -> None:
    touch(tmp_path / folder / "a.jpg")
    (ref,) = list_folder(tmp_path)
    assert isinstance(ref, ImageRef)
    assert ref.label == label
    assert ref.label.encode()  # can be stored


def test_a_single_file_lists_itself(tmp_path: Path) -> None:
    path = tmp_path / "cats" / "tom.jpg"
    touch(path, path.with_name("other.jpg"))
    (ref,) = list_folder(path)
    assert isinstance(ref, ImageRef)
    assert (ref.uri, ref.label) == (path.as_uri(), "cats")


def test_a_relative_root_gives_absolute_uris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "here" / "a.jpg", tmp_path / "there" / "b.jpg")
    monkeypatch.chdir(tmp_path / "here")
    uris = [entry.uri for root in (".", "../there") for entry in list_folder(Path(root))]
    assert uris == [(tmp_path / "here/a.jpg").as_uri(), (tmp_path / "there/b.jpg").as_uri()]


def test_an_empty_folder_lists_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert list(list_folder(tmp_path)) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file or directory; check the path"),
        ("dangling", "No such file or directory; check the path"),
        ("circle", "Too many levels of symbolic links; check the path"),
        ("notes.txt", "neither a folder nor an image"),
    ],
)
def test_a_root_that_cannot_be_listed_is_an_error(tmp_path: Path, name: str, reason: str) -> None:
    touch(tmp_path / "notes.txt")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(SourceError, match=reason):
        list_folder(tmp_path / name)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg", tmp_path / "b" / "2.jpg")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "across").symlink_to("../b")
    (tmp_path / "b" / "across").symlink_to("../a")
    (tmp_path / "self").symlink_to("self")
    assert sorted(path.rsplit("/")[-1] for path in listed(tmp_path)) == ["1.jpg", "2.jpg"]
    assert failures(tmp_path) == {}


def test_a_folder_that_is_linked_is_listed_once(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    touch(outside / "1.jpg")
    root = tmp_path / "root"
    root.mkdir()
    (root / "one").symlink_to(outside)
    (root / "two").symlink_to(outside)
    assert listed(root) == ["one/1.jpg"]


def test_entries_that_cannot_be_read_are_failures_and_the_listing_goes_on(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "z" / "z.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert listed(tmp_path) == ["a.jpg", "z/z.jpg"]
    assert failures(tmp_path) == {
        "circle.jpg": "Too many levels of symbolic links",
        "dangling.jpg": "No such file or directory",
        "pipe.jpg": "not a regular file",
    }


def test_a_folder_that_vanishes_does_not_stop_the_listing(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "1.jpg", tmp_path / "b" / "2.jpg", tmp_path / "c" / "3.jpg")
    entries = list_folder(tmp_path)
    first = next(entries)
    (tmp_path / "b" / "2.jpg").unlink()
    (tmp_path / "b").rmdir()
    vanished, last = entries
    assert [first.uri, last.uri] == [
        (tmp_path / "a/1.jpg").as_uri(),
        (tmp_path / "c/3.jpg").as_uri(),
    ]
    assert vanished == ListingFailure((tmp_path / "b").as_uri(), "No such file or directory")


# What nobody may read. Modes do not bind root, so a process that is not root looks.

_LOOK = """
import json, os, pathlib, sys
from simdist.errors import SourceError
from simdist.sources import ImageRef, list_folder, read_bytes
import simdist.sources.web
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
found = {}
def look(root):
    try:
        for entry in list_folder(pathlib.Path(root)):
            if isinstance(entry, ImageRef):
                try: found[entry.uri] = len(read_bytes(entry.uri))
                except SourceError as error: found[entry.uri] = str(error)
            else:
                found[entry.uri] = entry.reason
    except SourceError as error:
        found[root] = str(error)
look(sys.argv[1])
look(sys.argv[1] + "/locked")
print(json.dumps(found))
"""


def test_unreadable_files_are_failures_with_their_reasons(open_folder: Path) -> None:
    allowed, forbidden = open_folder / "allowed.jpg", open_folder / "forbidden.jpg"
    locked, unsearchable = open_folder / "locked", open_folder / "unsearchable"
    touch(allowed, forbidden, locked / "a.jpg", unsearchable / "b.jpg")
    forbidden.chmod(0)
    locked.chmod(0)
    unsearchable.chmod(0o444)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LOOK, str(open_folder), str(NOBODY)],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        locked.chmod(0o755)
        unsearchable.chmod(0o755)
    assert json.loads(done.stdout) == {
        allowed.as_uri(): 1,
        forbidden.as_uri(): f"cannot read {forbidden}: Permission denied",
        locked.as_uri(): "Permission denied",
        (unsearchable / "b.jpg").as_uri(): "Permission denied",
        str(locked): f"cannot list {locked}: Permission denied; check its permissions",
    }


# URIs and reading.


@pytest.mark.parametrize("name", odd_names())
def test_odd_names_survive_from_the_listing_to_the_bytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(os.fsencode(name))
    (ref,) = list_folder(tmp_path)
    assert ref.uri.isascii()
    assert ref.uri.isprintable()
    assert " " not in ref.uri
    assert uri_path(ref.uri) == path
    assert read_bytes(ref.uri) == os.fsencode(name)


def test_file_uri_makes_a_path_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert file_uri(Path("a b/../c.jpg")) == f"{tmp_path.as_uri()}/c.jpg"


def test_uri_path_takes_this_machines_name_for_itself() -> None:
    assert uri_path("file://localhost/a%20b.jpg") == Path("/a b.jpg")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "photo.jpg",
        "/photo.jpg",
        "file:photo.jpg",
        "file://",
        "file://elsewhere/photo.jpg",
        "file://[::1/photo.jpg",
        "file:///photo%00.jpg",
        "ftp://localhost/photo.jpg",
        "data:image/png;base64,AAAA",
    ],
)
def test_a_uri_of_another_machine_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="does not name a file of this machine"):
        uri_path(uri)
    with pytest.raises(UsageError, match="does not name a file of this machine"):
        read_bytes(uri)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "No such file or directory"),
        ("folder", "Is a directory"),
        ("pipe", "not a regular file"),
        ("link to a device", "not a regular file"),
        ("link to what fails", "Input/output error"),
    ],
)
def test_an_unreadable_image_is_a_source_error(tmp_path: Path, kind: str, reason: str) -> None:
    path = tmp_path / "photo.jpg"
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "link to what fails":
            path.symlink_to("/proc/self/mem")
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(SourceError, match=reason):
        read_bytes(file_uri(path))
    assert os.listdir("/proc/self/fd") == descriptors


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"12345")
    monkeypatch.setattr(limits, "MAX_BYTES", 5)
    assert read_bytes(file_uri(path)) == b"12345"
    monkeypatch.setattr(limits, "MAX_BYTES", 4)
    with pytest.raises(ImageError, match="at most 4 are read"):
        read_bytes(file_uri(path))


@pytest.mark.filterwarnings(r"ignore:::PIL\.")
def test_every_bad_input_becomes_what_is_expected_of_it(tmp_path: Path, photo: Path) -> None:
    def outcome(entry: ImageRef | ListingFailure) -> str | None:
        if isinstance(entry, ListingFailure):
            return entry.reason
        try:
            decode(read_bytes(entry.uri), size=224)
        except (ImageError, SourceError) as error:
            return str(error)
        return None

    cases = write_bad_inputs(tmp_path / "bad", photo)
    outcomes = {uri_path(entry.uri): outcome(entry) for entry in list_folder(tmp_path / "bad")}
    assert outcomes.keys() == {case.path for case in cases}
    for case in cases:
        reason = outcomes[case.path]
        if case.reason is None:
            assert reason is None, case
        else:
            assert case.reason in (reason or ""), case
