"""An indexed image, read again: only from where an ingest has read it, only if it is the same."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simdist.errors import ImageError, SourceError, UsageError
from simdist.images.limits import MAX_BYTES
from simdist.sources import Access, ImageRef, file_uri, open_source
from simdist.sources.originals import Original, OriginalError, read_original, root_uri
from simdist.sources.place import Place
from tests.archives import parquet_of, tar_of
from tests.object_store import FlakyProxy, ObjectStore


def original(ref: ImageRef) -> Original:
    """As it is found again in a collection that it was added to."""
    return Original(ref.uri, Place.unpack(Place.pack(ref)), lambda name: name == ref.fingerprint)


def read(ref: ImageRef, *roots: Path | str) -> bytes:
    places = [root_uri(str(root)) for root in roots]
    return read_original(original(ref), roots=places, access=Access.resolve())


def listed(location: Path | str) -> list[ImageRef]:
    return [entry for entry in open_source(str(location)).entries if isinstance(entry, ImageRef)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two images, `a.jpg` and `deep/b.jpg`, and beside it `outside/b.jpg`."""
    for name in ("photos/a.jpg", "photos/deep/b.jpg", "outside/b.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name[-10:].encode())
        os.utime(path, ns=(0, 12345))
    return tmp_path / "photos"


def swap(path: Path, target: Path) -> None:
    """Put a link in the place of a file or a folder."""
    path.rename(path.with_name(path.name + ".old"))
    path.symlink_to(target)


# Files.


def test_what_a_folder_holds_can_be_read_again(folder: Path) -> None:
    assert [read(ref) for ref in listed(folder)] == [b"otos/a.jpg", b"deep/b.jpg"]
    assert [read(ref) for ref in listed(folder / "a.jpg")] == [b"otos/a.jpg"]
    assert len([read(ref) for ref in listed(f"{folder}/**/*.jpg")]) == 2


def test_a_folder_may_be_a_link_and_have_links_within(folder: Path) -> None:
    (folder / "c.jpg").symlink_to("deep/b.jpg")
    link = folder.with_name("link")
    link.symlink_to(folder)
    assert len([read(ref) for ref in listed(link)]) == 3


def test_a_link_out_of_the_folder_is_indexed_but_not_shown(folder: Path) -> None:
    outside = folder.with_name("outside")
    (folder / "c.jpg").symlink_to(outside / "b.jpg")
    (folder / "d").symlink_to(outside)
    led_out = [ref for ref in listed(folder) if "c.jpg" in ref.uri or "/d/" in ref.uri]
    assert len(led_out) == 2
    for ref in led_out:
        with pytest.raises(OriginalError, match="no folder or bucket"):
            read(ref)
        assert read(ref, outside) == b"side/b.jpg"


@pytest.mark.parametrize(("name", "target"), [("deep/b.jpg", "outside/b.jpg"), ("deep", "outside")])
def test_a_link_that_was_swapped_in_is_not_followed(folder: Path, name: str, target: str) -> None:
    [_, ref] = listed(folder)
    # What it leads to has the size and the time of the image that was indexed.
    swap(folder / name, folder.parent / target)
    with pytest.raises(OriginalError, match="no folder or bucket"):
        read(ref)


def test_a_link_that_is_swapped_in_meanwhile_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [_, ref] = listed(folder)
    real = os.path.realpath

    def swapped(path: str) -> str:
        found = real(path)
        if (folder / "deep").is_dir() and not (folder / "deep").is_symlink():
            swap(folder / "deep", folder.parent / "outside")
        return found

    monkeypatch.setattr(os.path, "realpath", swapped)
    with pytest.raises(SourceError, match="cannot read"):
        read(ref)


def test_a_changed_file_is_not_shown(folder: Path) -> None:
    [a, b] = listed(folder)
    os.utime(folder / "a.jpg", ns=(0, 12346))
    (folder / "deep" / "b.jpg").write_bytes(b"other")
    os.utime(folder / "deep" / "b.jpg", ns=(0, 12345))
    for ref in (a, b):
        with pytest.raises(OriginalError, match="has changed since it was indexed"):
            read(ref)


def test_a_pipe_a_folder_and_nothing_are_not_read(folder: Path) -> None:
    [ref, _] = listed(folder)
    (folder / "a.jpg").unlink()
    with pytest.raises(SourceError, match="No such file"):
        read(ref)
    os.mkfifo(folder / "a.jpg")
    with pytest.raises(SourceError, match="not a regular file"):
        read(ref)
    (folder / "a.jpg").unlink()
    (folder / "a.jpg").mkdir()
    with pytest.raises(SourceError, match="not a regular file"):
        read(ref)


def test_a_large_file_is_not_read(folder: Path) -> None:
    with (folder / "a.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    [ref, _] = listed(folder)
    with pytest.raises(ImageError, match="at most"):
        read(ref)


# What no ingest has read.


def test_what_saved_embeddings_name_is_read_below_a_root_only(folder: Path) -> None:
    [ref, _] = listed(folder)
    stranger = ImageRef(ref.uri, ref.fingerprint, 0, None)
    for roots in ((), (folder / "deep",), ("s3://bucket",), (f"{folder}/a",)):
        with pytest.raises(OriginalError, match="no folder or bucket"):
            read(stranger, *roots)
    for root in (folder, folder.parent, folder / "a.jpg", file_uri(folder)):
        assert read(stranger, root) == b"otos/a.jpg"
    with pytest.raises(OriginalError, match="no folder or bucket"):
        read(replace(stranger, uri=file_uri(folder) + "/../outside/b.jpg"), folder)
    (folder / "c.jpg").symlink_to(folder.parent / "outside" / "b.jpg")
    with pytest.raises(OriginalError, match="no folder or bucket"):
        read(replace(stranger, uri=file_uri(folder / "c.jpg")), folder)
    for uri in ("urn:shop:1", "file://elsewhere/a.jpg", "a.jpg"):
        with pytest.raises(UsageError, match="does not name a file"):
            read(replace(stranger, uri=uri), folder)


@pytest.mark.parametrize("label", ["", ",fish"])
def test_of_a_list_what_lies_below_its_folder_is_shown(folder: Path, label: str) -> None:
    outside = folder.parent / "outside" / "b.jpg"
    lines = ["path" + (",label" if label else ""), "deep/b.jpg" + label, f"{outside}{label}"]
    (folder / "list.csv").write_text("\n".join(lines))
    inside, other = listed(folder / "list.csv")
    assert read(inside) == b"deep/b.jpg"
    with pytest.raises(OriginalError, match="no folder or bucket"):
        read(other)
    assert read(other, outside.parent) == b"side/b.jpg"
    for path, ref in ((folder / "deep" / "b.jpg", inside), (outside, other)):
        path.write_bytes(b"other")
        with pytest.raises(OriginalError, match="has changed"):
            read(ref, folder.parent)


@pytest.mark.parametrize("place", ["", "http://example.org/photos", "s3://"])
def test_a_root_that_names_no_place_is_refused(place: str) -> None:
    with pytest.raises(UsageError):
        root_uri(place)


# Archives.


def test_a_member_of_many_is_read_with_one_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(tar_of({f"{i}.jpg": b"%d" % i for i in range(3000)}))
    ref = listed(tar)[2000]
    sizes: list[int] = []

    def counting(descriptor: int, mode: str) -> io.BufferedReader:
        class Counting(io.FileIO):
            def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
                sizes.append(count := super().readinto(buffer) or 0)
                return count

        assert mode == "rb"
        return io.BufferedReader(Counting(descriptor))

    monkeypatch.setattr(os, "fdopen", counting)
    assert read(ref) == b"2000"
    assert len(sizes) == 1
    stranger = ImageRef(ref.uri, ref.fingerprint, 0, None)
    with pytest.raises(OriginalError, match="where the image lies in its archive is not known"):
        read(stranger, tmp_path)
    tar.write_bytes(tar.read_bytes() + bytes(512))
    with pytest.raises(OriginalError, match="has changed"):
        read(ref)


def test_rows_of_a_table_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet_of({"jpg": [b"%d" % i for i in range(10)], "n": list(range(10))}))
    refs = listed(path)
    assert [read(ref) for ref in refs] == [b"%d" % i for i in range(10)]
    stranger = ImageRef(refs[3].uri, "", 0, None)
    with pytest.raises(OriginalError, match="no folder or bucket"):
        read(stranger)
    assert read(stranger, tmp_path) == b"3"
    for row in ("10", "9" * 18, "9" * 5000, "-1", "x"):
        with pytest.raises(SourceError):
            read(replace(stranger, uri=f"{file_uri(path)}#{row}"), tmp_path)
    path.write_bytes(parquet_of({"jpg": [b"", None, b"", None]}))
    with pytest.raises(OriginalError, match="has changed"):
        read(refs[3])
    with pytest.raises(SourceError, match="has no image"):
        read(stranger, tmp_path)


@contextmanager
def memory() -> Iterator[pa.MemoryPool]:
    """All that pyarrow takes meanwhile."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pool := pa.proxy_memory_pool(usual))
    try:
        yield pool
    finally:
        pa.set_memory_pool(usual)


def test_a_large_row_group_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [os.urandom(200_000) for _ in range(400)]
    for row_group in (100, 400):  # 20 and 80 MB
        table = pa.table({"image": [{"bytes": row} for row in rows]})
        pq.write_table(table, path, row_group_size=row_group)
        refs = listed(path)
        with memory() as pool:
            if row_group == 100:
                assert read(refs[99]) == rows[99]
                assert read(refs[399]) == rows[399]
            else:
                for ref in (refs[0], refs[399]):
                    with pytest.raises(OriginalError, match="too large a row group"):
                        read(ref)
        assert pool.max_memory() < 50_000_000


def test_a_dictionary_of_one_large_value_is_not_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    numbers, values = pa.array([0] * 200, pa.int32()), pa.array([bytes(4_000_000)])
    table = pa.table({"image": pa.DictionaryArray.from_arrays(numbers, values)})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 20_000
    refs = listed(path)
    with memory() as pool:
        assert len(read(refs[2])) == 4_000_000
        with pytest.raises(OriginalError, match="too large a row group"):
            read(refs[199])
    assert pool.max_memory() < 160_000_000


# Object stores.


def test_an_object_is_read_again_as_long_as_it_is_the_same(s3: ObjectStore) -> None:
    s3.put("photos/a.jpg", b"12345")
    s3.put("photos/b.tar", tar_of({"1.jpg": b"one", "2.jpg": b"two"}))
    s3.put("photos/c.parquet", parquet_of({"jpg": [b"three", b"four"]}))
    refs = [*listed(f"{s3.uri}/photos"), *listed(f"{s3.uri}/photos/[bc].*")]
    assert [read(ref) for ref in refs] == [b"12345", b"one", b"two", b"three", b"four"]
    s3.put("photos/a.jpg", b"54321")
    s3.put("photos/b.tar", tar_of({"1.jpg": b"six", "2.jpg": b"two"}))
    s3.put("photos/c.parquet", parquet_of({"jpg": [b"seven", b"four"]}))
    for ref in refs:
        with pytest.raises(OriginalError, match="has changed since it was indexed"):
            read(ref)


def test_of_an_archive_in_a_bucket_only_the_member_is_asked_for(s3: ObjectStore) -> None:
    s3.put("a.tar", tar_of({f"{i}.jpg": b"%d" % i for i in range(500)}))
    proxy = FlakyProxy(s3.url)
    try:
        access = Access.resolve(endpoint_url=proxy.url)
        ref = listed(f"{s3.uri}/a.tar")[400]
        assert read_original(original(ref), roots=[], access=access) == b"400"
        assert len(proxy.requests) == 1
    finally:
        proxy.close()


def test_of_a_bucket_what_no_ingest_has_read_is_read_below_a_root_only(
    s3: ObjectStore, tmp_path: Path
) -> None:
    s3.put("photos/a.jpg", b"12345")
    s3.put("photos2/a.jpg", b"secret")
    (tmp_path / "list.txt").write_text(f"{s3.uri}/photos/a.jpg\n{s3.uri}/photos2/a.jpg\n")
    in_list = listed(tmp_path / "list.txt")
    saved = [ImageRef(ref.uri, "", 0, None) for ref in in_list]
    for a, other in (in_list, saved):
        for root in (s3.uri, f"{s3.uri}/", f"{s3.uri}/photos", f"{s3.uri}/photos/a.jpg"):
            assert read(a, root) == b"12345"
        for roots in ((), (f"{s3.uri}/photos",), (f"{s3.uri}x",), (tmp_path, "/")):
            with pytest.raises(OriginalError, match="no folder or bucket"):
                read(other, *roots)
    for key in ("photos/../photos2/a.jpg", "photos/%2e%2e/photos2/a.jpg", "photos//a.jpg"):
        with pytest.raises(OriginalError, match="no folder or bucket"):
            read(replace(saved[0], uri=f"{s3.uri}/{key}"), f"{s3.uri}/photos")
