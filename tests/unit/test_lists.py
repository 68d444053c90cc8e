"""Lists of images, and which images of a source are taken."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from simdist.errors import FetchError, SourceError, UsageError
from simdist.sources import (
    Columns,
    ImageRef,
    LabelFrom,
    ListingFailure,
    Selection,
    file_uri,
    open_source,
    read_many,
    reading,
    web,
)
from tests.archives import tar_of
from tests.object_store import ObjectStore
from tests.web_site import PHOTO, serve


def look(
    place: str | Path, columns: Columns | None = None, **selection: Any
) -> tuple[list[ImageRef], list[str]]:
    """The images of a source, and the reasons of its failures."""
    taken = Selection(columns=columns or Columns(), **selection)
    refs: list[ImageRef] = []
    reasons = []
    for entry in open_source(str(place), selection=taken).entries:
        if isinstance(entry, ListingFailure):
            reasons.append(entry.reason)
        else:
            refs.append(entry)
    return refs, reasons


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cats/tom.jpg", "cats/tom.gif", "dogs/rex.jpg", "thumbs/cats/tom.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def written(path: Path, *lines: str | bytes, end: bytes = b"\n") -> Path:
    path.write_bytes(end.join(os.fsencode(line) for line in lines) + end)
    return path


# Text and CSV.


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_text_list_names_an_image_a_line(photos: Path, end: bytes) -> None:
    source = written(
        photos / "list.txt",
        "cats/tom.jpg",
        "",
        f"  {photos}/dogs/rex.jpg ",
        (photos / "cats/tom.gif").as_uri(),
        "https://example.org/ä b.jpg?x=1&y=%20#z",
        "s3://bucket/a b.jpg",
        "s3://bucket/a.tar#1.jpg",
        end=end,
    )
    refs, reasons = look(source)
    assert reasons == []
    assert [ref.uri for ref in refs] == [
        (photos / "cats/tom.jpg").as_uri(),
        (photos / "dogs/rex.jpg").as_uri(),
        (photos / "cats/tom.gif").as_uri(),
        "https://example.org/%C3%A4%20b.jpg?x=1&y=%20#z",
        "s3://bucket/a%20b.jpg",
        "s3://bucket/a.tar#1.jpg",
    ]
    assert {ref.label for ref in refs} == {None}


def test_bad_lines_are_failures_with_their_numbers(photos: Path) -> None:
    source = written(
        photos / "list.txt",
        "cats/gone.jpg",
        "ftp://example.org/a.jpg",
        "http://",
        "http://[::1/a.jpg",
        "s3://",
        "https://example.org/" + "a" * 9000,
        b"\xff.jpg",
        "cats/\0.jpg",
        "file://elsewhere/a.jpg",
        "cats",
        "cats/tom.jpg",
    )
    refs, reasons = look(source)
    assert [ref.uri for ref in refs] == [(photos / "cats/tom.jpg").as_uri()]
    expected = [
        f"line 1: cannot read {photos}/cats/gone.jpg: No such file or directory",
        "line 2: simdist does not read ftp:// addresses",
        "line 3: its address names no host",
        "line 4: its address is malformed",
        "line 5: s3:// names no bucket",
        "line 6: its address is longer than 8,192 characters",
        "line 7: its address holds bytes that cannot be printed, or is not UTF-8",
        "line 8: its address holds bytes that cannot be printed, or is not UTF-8",
        "line 9: file://elsewhere/a.jpg does not name a file of this machine",
        f"line 10: cannot read {photos}/cats: not a regular file",
    ]
    assert len(reasons) == len(expected)
    assert [r for r, e in zip(reasons, expected, strict=True) if not r.startswith(e)] == []


def test_a_name_may_begin_with_a_tilde(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of that name there need not be; and where there is a home, it is somebody's."""
    monkeypatch.setenv("HOME", str(photos / "cats"))
    monkeypatch.chdir(photos)
    written(photos / "~tom.jpg", "")
    refs, reasons = look(written(photos / "~list.txt", "~tom.jpg", "~/tom.jpg", "~no-such/a.jpg"))
    assert [ref.uri for ref in refs] == [
        file_uri(photos / "~tom.jpg"),
        file_uri(photos / "cats/tom.jpg"),
    ]
    assert reasons == [
        f"line 3: cannot read {photos}/~no-such/a.jpg: No such file or directory",
    ]
    assert look("~list.txt") == (refs, reasons)
    with pytest.raises(SourceError, match="cannot read"):
        look("~no-such/list.txt")


def test_a_csv_list_has_columns(photos: Path) -> None:
    source = written(
        photos / "list.csv",
        b"\xef\xbb\xbfurl, label ,colour,empty",
        "cats/tom.jpg,Katze,grey,",
        '"dogs/rex.jpg",,"brown, ""dark""",x',
        "too,few",
        "",
        "cats/gone.jpg,a,b,c",
    )
    refs, reasons = look(source)
    assert [(ref.uri, ref.label, ref.metadata) for ref in refs] == [
        ((photos / "cats/tom.jpg").as_uri(), "Katze", {"colour": "grey"}),
        ((photos / "dogs/rex.jpg").as_uri(), None, {"colour": 'brown, "dark"', "empty": "x"}),
    ]
    assert [reason.partition(":")[0] for reason in reasons] == ["line 4", "line 6"]
    refs, _ = look(source, Columns(label="colour"))
    assert [ref.label for ref in refs] == ["grey", 'brown, "dark"']
    assert refs[0].metadata == {"label": "Katze"}


@pytest.mark.parametrize(
    ("header", "columns", "reason"),
    [
        ("a,b", Columns(), r"no column uri or url .*: name the one to use; it has 'a', 'b'"),
        ("url", Columns(uri="b"), "no column 'b'; it has 'url'"),
        ("url", Columns(label="b"), "no column 'b'; it has 'url'"),
        ("", Columns(), "it has no columns"),
        ("x" * 200_000, Columns(), "is not CSV"),
    ],
)
def test_a_missing_column_is_an_error(
    tmp_path: Path, header: str, columns: Columns, reason: str
) -> None:
    with pytest.raises(SourceError, match=reason):
        look(written(tmp_path / "list.csv", header, "x,y"), columns)


def test_a_field_without_end_is_one_failure(photos: Path) -> None:
    source = written(photos / "list.csv", "url", "x" * 200_000, "cats/tom.jpg")
    refs, reasons = look(source)
    assert len(refs) == 1
    assert reasons == ["line 2: field larger than field limit (131072)"]


def test_the_fingerprint_changes_with_what_the_list_says_and_with_a_local_file(
    photos: Path,
) -> None:
    def fingerprint(*lines: str) -> str:
        [ref], _ = look(written(photos / "list.csv", *lines))
        return ref.fingerprint

    lines = ("url,label", "https://example.org/a.jpg,one"), ("url,label", "cats/tom.jpg,one")
    for header, line in lines:
        before = fingerprint(header, line)
        assert fingerprint(header, line) == before
        assert fingerprint(header, line.replace("one", "two")) != before
    (photos / "cats/tom.jpg").write_bytes(b"other")
    assert fingerprint(*lines[1]) != before


def test_a_list_in_a_bucket_names_what_lies_beside_it(s3: ObjectStore) -> None:
    s3.put("lists/all.txt", b"a.jpg\n../top.jpg\n/etc/passwd\nfile:///etc/passwd\n../../x.jpg\n")
    refs, reasons = look(f"{s3.uri}/lists/all.txt")
    assert [ref.uri for ref in refs] == [f"{s3.uri}/lists/a.jpg", f"{s3.uri}/top.jpg"]
    assert reasons == [
        "line 3: a list in an object store cannot name files of this machine",
        "line 4: a list in an object store cannot name files of this machine",
        "line 5: it lies outside the bucket",
    ]


# Web addresses.


def test_web_addresses_are_fetched_safely(tmp_path: Path) -> None:
    refs, _ = look(written(tmp_path / "list.txt", "http://127.0.0.1:1/a.jpg"))
    [error] = read_many(refs, open_source(str(tmp_path)).access)
    assert isinstance(error, FetchError)
    assert "does not lead to a public address" in str(error)


def test_a_busy_web_server_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "fetch", partial(web.fetch, allow_loopback=True))
    monkeypatch.setattr(reading, "BACKOFF", 0.01)
    with serve() as site:
        pages = ["photo", "busy/2", "busy/3", "missing", "cut", "photo"]
        source = written(tmp_path / "list.txt", *(f"{site.url}/{page}" for page in pages))
        refs, _ = look(source)
        outcomes = list(read_many(refs, open_source(str(tmp_path)).access))
        asked = {page: site.requests.count(f"/{page}") for page in pages}
    assert [isinstance(outcome, bytes) for outcome in outcomes] == [
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    assert outcomes[1] == PHOTO
    assert asked == {"photo": 2, "busy/2": 3, "busy/3": 3, "missing": 1, "cut": 3}


# Patterns of files on this machine.


def test_a_pattern_names_files_of_any_kind(photos: Path) -> None:
    (photos / "a.tar").write_bytes(tar_of({"x/1.jpg": b"1"}))
    written(photos / "b.txt", "cats/tom.jpg")
    assert [ref.uri.rpartition("/")[2] for ref in look(f"{photos}/*")[0]] == ["1.jpg", "tom.jpg"]
    assert len(look(f"{photos}/*/*.jpg")[0]) == 2
    assert len(look(f"{photos}/**/*.jpg")[0]) == 3
    assert len(look(f"{photos.as_uri()}/**/*.jpg")[0]) == 3
    refs, reasons = look(f"{photos}/{{cats/tom,dogs/gone}}.jpg")
    assert [ref.uri for ref in refs] == [file_uri(photos / "cats/tom.jpg")]
    assert reasons == ["No such file or directory"]


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "photos [2020]"
    folder.mkdir()
    (folder / "a.jpg").touch()
    assert len(look(folder)[0]) == 1


def test_a_pattern_does_not_go_deeper_than_it_can_match(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met = []
    stat = os.stat

    def noted(path: str, **more: bool) -> os.stat_result:
        met.append(str(path))
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", noted)
    look(f"{photos}/*/tom.jpg")
    assert not any("thumbs/cats" in path for path in met)


# What is taken.


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        ({}, {"cats/tom.gif", "cats/tom.jpg", "dogs/rex.jpg", "thumbs/cats/tom.jpg"}),
        ({"include": ("*.jpg",)}, {"cats/tom.jpg", "dogs/rex.jpg", "thumbs/cats/tom.jpg"}),
        ({"include": ("cats/*",)}, {"cats/tom.gif", "cats/tom.jpg"}),
        ({"include": ("cats/*", "dogs/*")}, {"cats/tom.gif", "cats/tom.jpg", "dogs/rex.jpg"}),
        ({"exclude": ("thumbs/**", "*.gif")}, {"cats/tom.jpg", "dogs/rex.jpg"}),
        (
            {"include": ("**/cats/*",), "exclude": ("*.gif",)},
            {"cats/tom.jpg", "thumbs/cats/tom.jpg"},
        ),
        ({"limit": 2}, {"cats/tom.gif", "cats/tom.jpg"}),
        ({"limit": 1, "exclude": ("*.gif",)}, {"cats/tom.jpg"}),
    ],
)
@pytest.mark.parametrize("where", ["folder", "s3", "tar"])
def test_include_exclude_and_limit(
    photos: Path,
    s3: ObjectStore,
    where: str,
    selection: dict[str, Any],
    taken: set[str],
) -> None:
    place, root = str(photos), file_uri(photos) + "/"
    if where == "s3":
        s3.put_folder(photos, "photos")
        place, root = f"{s3.uri}/photos", f"{s3.uri}/photos/"
    elif where == "tar":
        names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.*"))
        (photos / "a.tar").write_bytes(tar_of(dict.fromkeys(names, b"1")))
        place, root = f"{photos}/a.tar", f"{file_uri(photos)}/a.tar#"
    refs, _ = look(place, **selection)
    assert {ref.uri.removeprefix(root) for ref in refs} == taken


def test_labels(photos: Path) -> None:
    assert [ref.label for ref in look(photos)[0]] == ["cats", "cats", "dogs", "cats"]
    assert {ref.label for ref in look(photos, label_from=LabelFrom.none)[0]} == {None}
    with pytest.raises(UsageError, match=r"has no columns .* take them from the folders"):
        look(photos, label_from=LabelFrom.column)
    listed = written(photos / "list.csv", "url,label", "cats/tom.jpg,a")
    assert [ref.label for ref in look(listed)[0]] == ["a"]
    assert [ref.label for ref in look(listed, label_from=LabelFrom.column)[0]] == ["a"]
    assert [ref.label for ref in look(listed, label_from=LabelFrom.folder)[0]] == ["cats"]
    (photos / "a.tar").write_bytes(tar_of({"x/1.jpg": b"1", "x/1.cls": b"y"}))
    assert [ref.label for ref in look(photos / "a.tar")[0]] == ["y"]
    assert [ref.label for ref in look(photos / "a.tar", label_from=LabelFrom.folder)[0]] == ["x"]


def test_labels_have_one_normal_form(photos: Path) -> None:
    """macOS takes letters of names apart."""
    listed = written(photos / "list.csv", "url,label", "cats/tom.jpg,Cafe\u0301")
    assert [ref.label for ref in look(listed)[0]] == ["Caf\u00e9"]
    (photos / "u\u0308").mkdir()
    (photos / "u\u0308" / "a.jpg").write_bytes(b"1")
    [label] = [ref.label for ref in look(photos / "u\u0308")[0]]
    assert label == "\u00fc"


def test_a_file_without_images_or_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a folder nor an image"):
        look(written(tmp_path / "a.docx", "x"))
