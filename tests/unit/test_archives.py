"""Tar shards and Parquet files, here and in an object store."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from simdist.errors import ImageError, SourceError, UsageError
from simdist.images import limits
from simdist.sources import (
    Access,
    Columns,
    ImageRef,
    ListingFailure,
    Selection,
    files,
    members,
    open_source,
    parquet,
    read_bytes,
    read_many,
    reading,
    reference,
)
from simdist.sources import place as places
from simdist.sources.originals import Original, read_original
from simdist.sources.parquet import ImageColumn, rows_of
from simdist.sources.reference import Found
from simdist.sources.selection import Entry
from simdist.transfer.embeddings import import_embeddings
from tests.archives import dataset_of, parquet_of, shard_of, tar_of
from tests.conftest import PHOTOS
from tests.object_store import FlakyProxy, ObjectStore

FISH = sorted((PHOTOS / "fish").iterdir())[:10]


class Place:
    """A folder, here or in a bucket, that archives can be put into."""

    def __init__(self, folder: Path, s3: ObjectStore | None) -> None:
        self._folder, self._s3 = folder, s3
        self.uri = f"{s3.uri}/data" if s3 else folder.as_uri()

    def put(self, name: str, data: bytes) -> str:
        if self._s3:
            self._s3.put(f"data/{name}", data)
        else:
            (self._folder / name).write_bytes(data)
        return f"{self.uri}/{name}"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, None if request.param == "folder" else request.getfixturevalue("s3"))


def split(entries: Iterator[Entry]) -> tuple[list[ImageRef], dict[str, str]]:
    """The images, and the failures' reasons by URI."""
    met = list(entries)
    failures = {entry.uri: entry.reason for entry in met if isinstance(entry, ListingFailure)}
    return [entry for entry in met if isinstance(entry, ImageRef)], failures


def everything(source: str, **selection: object) -> tuple[list[ImageRef], list[bytes | Exception]]:
    opened = open_source(source, selection=Selection(**selection))  # type: ignore[arg-type]
    refs, failures = split(opened.entries)
    assert failures == {}
    return refs, list(read_many(refs, opened.access))


# Tar.


def test_a_shard_gives_images_labels_and_metadata(place: Place) -> None:
    uri = place.put("a.tar", shard_of(FISH))
    refs, fetched = everything(uri)
    assert [ref.uri for ref in refs] == [f"{uri}#{i:04}.jpg" for i in range(10)]
    assert [(ref.label, ref.metadata) for ref in refs] == [
        ("fish", {"name": photo.stem}) for photo in FISH
    ]
    assert fetched == [photo.read_bytes() for photo in FISH]
    assert [ref.size for ref in refs] == [len(photo.read_bytes()) for photo in FISH]


def test_each_member_can_be_read_by_its_uri(place: Place) -> None:
    names = ["a/b c.jpg", "a/d#e.jpg", "ä.png", "x" * 150 + ".jpg"]
    uri = place.put("a.tar", tar_of({name: name.encode() for name in names}, tarfile.PAX_FORMAT))
    refs, fetched = everything(uri)
    assert fetched == [name.encode() for name in names]
    assert all(ref.uri.isascii() for ref in refs)
    assert [read_bytes(ref.uri) for ref in refs] == fetched
    assert read_bytes(f"{uri}#a/b c.jpg") == b"a/b c.jpg"
    with pytest.raises(SourceError, match=r"has no member 'gone\.jpg'"):
        read_bytes(f"{uri}#gone.jpg")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_belong_together_by_their_names_before_the_dot(place: Place, form: int) -> None:
    members = {
        "d.v1/a.txt": b"a caption",
        "d.v1/a.left.jpg": b"1",
        "d.v1/a.right.jpg": b"2",
        "d.v1/a.cls": b"cat\n",
        "d.v1/b.jpg": b"3",
        "d.v1/b.npy": b"xyz",
        ".hidden.jpg": b"4",
        "c.json": b'{"none": null, "list": [1], "nan": NaN}',
        "c.webp": b"5",
    }
    refs, fetched = everything(place.put("a.tar", tar_of(members, form)))
    assert fetched == [b"1", b"2", b"3", b"5"]
    assert [(ref.label, ref.metadata) for ref in refs] == [
        ("cat", {"txt": "a caption"}),
        ("cat", {"txt": "a caption"}),
        (None, {}),
        (None, {"list": [1]}),
    ]


def test_notes_that_cannot_be_used_are_failures_and_the_images_stay(place: Place) -> None:
    members = {
        "a.jpg": b"1",
        "a.json": b"[1, 2]",
        "b.json": b"{",
        "b.jpg": b"2",
        "c.cls": b"\xff",
        "c.jpg": b"3",
        "d.txt": b"x" * (reference.MAX_NOTE + 1),
        "d.jpg": b"4",
        "e.json": b"[" * 60_000,
        "e.jpg": b"5",
    }
    uri = place.put("a.tar", tar_of(members))
    refs, failures = split(open_source(uri).entries)
    assert [ref.uri[-5:] for ref in refs] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert failures == {
        f"{uri}#a.json": "not a JSON object",
        f"{uri}#b.json": "not a JSON object",
        f"{uri}#c.cls": "not UTF-8",
        f"{uri}#d.txt": "it has 65,537 bytes; at most 65,536 are kept with an image",
        f"{uri}#e.json": "not a JSON object",
    }


def test_damaged_entries_are_failures_and_the_rest_is_listed(place: Place) -> None:
    data = bytearray(tar_of({f"{i}.jpg": bytes([i]) * 700 for i in range(5)}))
    data[2 * 1536 : 2 * 1536 + 512] = b"\xaa" * 512  # the third header
    uri = place.put("a.tar", bytes(data))
    refs, failures = split(open_source(uri).entries)
    assert [ref.uri[-5:] for ref in refs] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    assert failures == {uri: "damaged at byte 3,072: what lies there cannot be listed"}
    source = open_source(uri)
    assert list(read_many(refs, source.access)) == [bytes([i]) * 700 for i in (0, 1, 3, 4)]


def test_damage_at_the_end_is_a_failure(place: Place) -> None:
    data = tar_of({f"{i}.jpg": bytes([i + 1]) * 700 for i in range(3)})
    broken = data[: 2 * 1536] + b"\xaa" * 512 + data[2 * 1536 + 512 :]
    _, failures = split(open_source(place.put("broken.tar", broken)).entries)
    assert list(failures.values()) == ["damaged at byte 3,072: what lies there cannot be listed"]
    refs, failures = split(open_source(place.put("cut.tar", data[: 2 * 1536 + 600])).entries)
    assert [ref.uri[-5:] for ref in refs] == ["0.jpg", "1.jpg"]
    assert list(failures.values()) == ["the archive ends within it"]


def test_archives_that_were_joined_are_read_to_the_end(place: Place) -> None:
    joined = tar_of({"a.jpg": b"1"}) + tar_of({"b.jpg": b"2"})
    assert everything(place.put("a.tar", joined))[1] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a tar archive"),
        (b"not a tar" * 1000, "not a tar archive"),
        (b"\x1f\x8b" + b"x" * 2000, "damaged: it cannot be unpacked"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 2000, "packed with zstd, which is not read: unpack it"),
    ],
)
def test_a_file_that_is_not_an_archive_is_a_failure(
    place: Place, content: bytes, reason: str
) -> None:
    place.put("a.tar", content)
    good = place.put("b.tar", tar_of({"a.jpg": b"1"}))
    refs, failures = split(open_source(f"{place.uri}/*.tar").entries)
    assert [ref.uri for ref in refs] == [f"{good}#a.jpg"]
    [said] = failures.values()
    assert said.startswith(reason)


def test_a_damaged_image_is_that_images_failure(place: Place) -> None:
    uri = place.put("a.tar", tar_of({"a.jpg": b"1", "big.jpg": b"12345", "c.jpg": b"3"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MAX_BYTES", 4)
        patch.setattr(reading, "RUN_BYTES", 4)
        _, fetched = everything(uri)
        with pytest.raises(ImageError, match="at most 4 are read"):
            read_bytes(f"{uri}#big.jpg")
    assert [type(data) for data in fetched] == [bytes, ImageError, bytes]


def test_the_members_of_a_shard_take_few_requests(s3: ObjectStore) -> None:
    s3.put("a.tar", shard_of(FISH))
    proxy = FlakyProxy(s3.url)
    try:
        source = open_source(f"{s3.uri}/a.tar", access=s3.at(proxy.url).access)
        refs, _ = split(source.entries)
        assert len(refs) == 10
        # Looked up, read through once, and its end once more.
        assert len(proxy.requests) == 3
        proxy.requests.clear()
        assert len(list(read_many(refs, source.access))) == 10
        assert len(proxy.requests) == 1
    finally:
        proxy.close()


def test_a_shard_larger_than_the_read_ahead(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "READ_AHEAD", 10_000)
    monkeypatch.setattr(reading, "RUN_BYTES", 30_000)
    _, fetched = everything(place.put("a.tar", shard_of(FISH)))
    assert fetched == [photo.read_bytes() for photo in FISH]


def test_another_archive_of_the_same_name_is_other_content(place: Place) -> None:
    uri = place.put("a.tar", tar_of({"a.jpg": b"1"}))
    [before], _ = everything(uri)
    assert read_bytes(before.uri) == b"1"
    place.put("a.tar", tar_of({"0.jpg": b"0", "a.jpg": b"23"}))
    [_, after], _ = everything(uri)
    assert after.uri == before.uri
    assert after.fingerprint != before.fingerprint
    assert read_bytes(after.uri) == b"23"


# Parquet.


def test_a_key_has_so_many_images_and_notes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are held in memory until the next key."""
    monkeypatch.setattr(members, "MAX_IMAGES", 2)
    monkeypatch.setattr(members, "MAX_NOTE", 100)
    files = {"k.jpg": b"1", "k.b.jpg": b"2", "k.c.jpg": b"3", "k.txt": b"x" * 60}
    uri = place.put("a.tar", tar_of(files | {"k.json": b" " * 40 + b"{}", "l.jpg": b"4"}))
    refs, failures = split(open_source(uri).entries)
    assert [ref.uri for ref in refs] == [f"{uri}#{name}" for name in ("k.jpg", "k.b.jpg", "l.jpg")]
    assert failures == {
        f"{uri}#k.c.jpg": "its key has more than 2 images",
        f"{uri}#k.json": "it has 42 bytes; at most 100 are kept with an image",
    }


def test_a_dataset_gives_images_labels_and_metadata(place: Place) -> None:
    uri = place.put("a.parquet", dataset_of(FISH))
    refs, fetched = everything(uri)
    assert fetched == [photo.read_bytes() for photo in FISH]
    assert [ref.uri for ref in refs] == [f"{uri}#{i}" for i in range(10)]
    assert [(ref.label, ref.metadata) for ref in refs] == [
        ("fish", {"name": photo.stem}) for photo in FISH
    ]
    assert [read_bytes(ref.uri) for ref in refs] == fetched
    assert list(read_many(refs[::-3], open_source(uri).access)) == fetched[::-3]


def test_bytes_alone_are_images_too(place: Place) -> None:
    uri = place.put("a.parquet", parquet_of({"jpg": [b"1", None, b"3"]}))
    refs, fetched = everything(uri)
    assert [fetched[0], fetched[2]] == [b"1", b"3"]
    assert isinstance(fetched[1], SourceError)
    assert "row 1 of" in str(fetched[1])
    assert [ref.label for ref in refs] == [None] * 3
    with pytest.raises(SourceError, match="fewer rows"):
        read_bytes(f"{uri}#3")


def test_rows_are_read_once_in_about_their_order(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shards at a time, and the second may be the first to be read."""
    uri = place.put("a.parquet", dataset_of(FISH))
    refs, _ = split(open_source(uri).entries)
    opened = []
    begin = ImageColumn.__init__

    def noted(self: ImageColumn, source: Found, group: int, *rest: Any) -> None:
        opened.append(group)
        begin(self, source, group, *rest)

    monkeypatch.setattr(ImageColumn, "__init__", noted)
    access = open_source(uri).access
    for ref in [refs[1], refs[0], *refs[2:]]:
        [data] = read_many([ref], access)
        assert isinstance(data, bytes)
    assert opened == [0, 1, 2]
    # What is no longer held is read again.
    monkeypatch.setattr(parquet, "MAX_KEPT", 1)
    assert list(read_many(refs[::-1], access)) == [photo.read_bytes() for photo in FISH[::-1]]


def test_a_row_group_that_is_too_large_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP", 1000)
    _, fetched = everything(place.put("a.parquet", dataset_of(FISH)))
    assert all("smaller row groups" in str(data) for data in fetched)


@pytest.mark.parametrize(
    ("columns", "selection", "reason"),
    [
        ({"a": [b"1"], "b": [b"2"]}, Columns(), r"several columns of bytes \(a, b\): name the one"),
        ({"a": ["1"]}, Columns(), r"no column uri or url .*: name the one to use; it has 'a'"),
        ({"a": ["1"]}, Columns(uri="b"), "no column 'b'; it has 'a'"),
        ({"jpg": [b"1"]}, Columns(label="b"), "no column 'b'; it has no columns"),
    ],
)
def test_columns_that_are_not_there(
    place: Place, columns: dict[str, list[object]], selection: Columns, reason: str
) -> None:
    uri = place.put("a.parquet", parquet_of(columns))
    with pytest.raises(SourceError, match=reason):
        open_source(uri, selection=Selection(columns=selection))


def test_a_file_that_is_not_parquet(place: Place) -> None:
    damaged = bytearray(dataset_of(FISH[:1]))
    at = len(damaged) - 8 - int.from_bytes(damaged[-8:-4], "little")
    damaged[at : at + 8] = b"\xff" * 8
    misnamed = parquet_of({"url": ["a.jpg"], "label": ["a"]}).replace(b"\x05label", b"\x05\xffabel")
    for content in (b"PAR1 but not really", bytes(damaged), misnamed):
        with pytest.raises(SourceError, match="is not a Parquet file"):
            open_source(place.put("a.parquet", content))


def test_the_name_of_a_column_beside_an_image_may_be_damaged(place: Place) -> None:
    # The schema says it rightly, a row group does not.
    damaged = dataset_of(FISH[:2]).replace(b"\x19\x18\x04name", b"\x19\x18\x04\xe3ame")
    source = open_source(place.put("a.parquet", damaged))
    refs, failures = split(source.entries)
    assert not failures
    assert list(read_many(refs, source.access)) == [photo.read_bytes() for photo in FISH[:2]]


def test_text_beside_an_image_may_be_damaged(place: Place) -> None:
    buffers = pa.array([b"\xff.jpg", b"b.jpg"]).buffers()
    paths = pa.Array.from_buffers(pa.string(), 2, buffers)
    images = pa.StructArray.from_arrays([pa.array([b"1", b"2"]), paths], ["bytes", "path"])
    uri = place.put("a.parquet", parquet_of({"image": images, "name": paths}))
    source = open_source(uri)
    refs, failures = split(source.entries)
    assert failures == {f"{uri}#0": "row 0: it holds a value that cannot be read"}
    assert list(read_many(refs, source.access)) == [b"2"]
    assert read_bytes(f"{uri}#0") == b"1"
    if not place.uri.startswith("s3:"):
        original = Original(f"{uri}#0", places.Place(1), lambda _: True)
        assert read_original(original, roots=[], access=Access()) == b"1"


def test_the_number_of_no_text_costs_no_other_row() -> None:
    """As pyarrow reads a damaged page: it does not look what the numbers are of."""
    numbers = pa.array([0, 1, 5, 0], pa.int32())
    column = pa.DictionaryArray.from_arrays(numbers, pa.array(["a", "b"]), safe=False)
    rows = list(rows_of(pa.record_batch({"label": column})))
    damaged = "it holds a value that cannot be read"
    assert rows == [{"label": "a"}, {"label": "b"}, damaged, {"label": "a"}]


def test_columns_of_any_kind_are_metadata(place: Place) -> None:
    tags = pa.array([[("a", 1), ("b", 2)], None, []], pa.map_(pa.string(), pa.int32()))
    uri = place.put("a.parquet", parquet_of({"jpg": [b"1"] * 3, "tags": tags}))
    refs, _ = everything(uri)
    assert [ref.metadata for ref in refs] == [{"tags": [["a", 1], ["b", 2]]}, {}, {"tags": []}]


def test_a_parquet_list_names_images(place: Place) -> None:
    place.put("a.jpg", b"1")
    place.put("b.jpg", b"2")
    columns: dict[str, list[object]] = {
        "path": ["a.jpg", "b.jpg", None],
        "label": ["x", None, None],
        "n": [1, 2, 3],
    }
    uri = place.put("a.parquet", parquet_of(columns))
    source = open_source(uri)
    refs, failures = split(source.entries)
    assert [(ref.uri, ref.label, ref.metadata) for ref in refs] == [
        (f"{place.uri}/a.jpg", "x", {"n": 1}),
        (f"{place.uri}/b.jpg", None, {"n": 2}),
    ]
    assert failures == {f"{uri}#2": "row 2: it names no image"}
    assert list(read_many(refs, source.access)) == [b"1", b"2"]


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_what_img2dataset_writes(tmp_path: Path, form: str) -> None:
    """Shards beside tables and statistics of their downloads, or tables with the images."""
    photos = sorted((PHOTOS / "fish").iterdir())[:3]
    rows: list[dict[str, Any]] = [
        {
            "url": f"https://example.org/{number}.jpg",
            "caption": f"a fish {number}",
            "key": f"{number:09}",
            "status": "success",
            "error_message": None,
            "width": 256,
            "exif": "{}",
        }
        for number in range(3)
    ]
    members = {}
    for row, photo in zip(rows, photos, strict=True):
        members[f"{row['key']}.jpg"] = photo.read_bytes()
        members[f"{row['key']}.json"] = json.dumps(row).encode()
        members[f"{row['key']}.txt"] = row["caption"].encode()
        if form == "parquet":
            row["jpg"] = photo.read_bytes()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    (tmp_path / "00000.parquet").write_bytes(parquet_of(columns))
    (tmp_path / "00000_stats.json").write_text('{"successes": 3}')
    if form == "webdataset":
        (tmp_path / "00000.tar").write_bytes(tar_of(members))
    pattern = "*.tar" if form == "webdataset" else "*.parquet"
    entries = list(open_source(str(tmp_path / pattern)).entries)
    refs = [entry for entry in entries if isinstance(entry, ImageRef)]
    assert len(refs) == len(entries) == 3
    for number, ref in enumerate(refs):
        assert ref.metadata["caption"] == f"a fish {number}"
        assert ref.metadata["url"] == f"https://example.org/{number}.jpg"
    unused: Any = None
    with pytest.raises(UsageError, match="holds images of img2dataset"):
        import_embeddings(str(tmp_path), store=unused, name="x")
