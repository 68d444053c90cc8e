"""Keys that stores allow: listed, named alone and in lists, and read, each as a URI of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from simdist.sources import ImageRef, ListingFailure, open_source, read_bytes, read_many
from simdist.sources.objects import Address
from tests.object_store import ObjectStore

KEYS = [
    "p/a.jpg",
    "p/b//c.jpg",
    "p//d.jpg",
    "p/./e.jpg",
    "p/../f.jpg",
    "p/a#b.jpg",
    "p/a?b.jpg",
    "p/photo[1].jpg",
    "p/{a,b}.jpg",
    "p/*.jpg",
    "p/a%2Fb.jpg",
    "p/a%23b.jpg",
    "p/a+b.jpg",
    "p/a b.jpg",
    "p/a&b=c.jpg",
    "p/a\\b.jpg",
    "p/u\u0308.jpg",
    "p/\u00fc.jpg",
    "p/\U0001f41f.jpg",
    "p/~x.jpg",
    "p/a;b,c'd\"e.jpg",
    "p/z.jpg",
]


def put(s3: ObjectStore, key: str) -> bytes:
    """Put an object by a request that no client has a say in."""
    from urllib.parse import quote

    path = "/".join(
        part.replace(".", "%2E") if part in (".", "..") else part
        for part in quote(key, safe="/~").split("/")
    )
    data = f"the picture of {key}".encode()
    requests.put(f"{s3.url}/{s3.bucket}/{path}", data=data, timeout=30).raise_for_status()
    return data


def look(source: str) -> tuple[dict[str, bytes | Exception], list[ListingFailure]]:
    opened = open_source(source)
    entries = list(opened.entries)
    refs = [entry for entry in entries if isinstance(entry, ImageRef)]
    assert len({ref.uri for ref in refs}) == len(refs)
    found = zip((ref.uri for ref in refs), read_many(refs, opened.access), strict=True)
    return dict(found), [entry for entry in entries if isinstance(entry, ListingFailure)]


def test_all_of_them_are_listed_and_read(s3: ObjectStore) -> None:
    expected = {Address("s3", s3.bucket, key).uri: put(s3, key) for key in KEYS}
    found, failures = look(f"{s3.uri}/p")
    assert failures == []
    assert found == expected
    assert {uri: read_bytes(uri) for uri in expected} == expected


@pytest.mark.parametrize("key", [*KEYS, "/lead.jpg", "lead.jpg"])
def test_each_can_be_named(s3: ObjectStore, tmp_path: Path, key: str) -> None:
    data = {other: put(s3, other) for other in (*KEYS, "/lead.jpg", "lead.jpg")}[key]
    uri = Address("s3", s3.bucket, key).uri
    for name in (uri, uri.replace("s3://", "S3://")):
        assert look(name) == ({uri: data}, [])
    if "%" not in key:  # as it is written by hand, and not as a URI
        assert look(f"{s3.uri}/{key}") == ({uri: data}, [])
        assert read_bytes(f"{s3.uri}/{key}") == data
    (tmp_path / "list.txt").write_text(f"{uri}\n")
    assert look(str(tmp_path / "list.txt")) == ({uri: data}, [])


def test_two_keys_never_become_one(s3: ObjectStore) -> None:
    keys = ["/lead.jpg", "lead.jpg", "a/b.jpg", "a//b.jpg", "/a/b.jpg", "folder.jpg/", "folder.jpg"]
    expected = {Address("s3", s3.bucket, key).uri: put(s3, key) for key in keys}
    marker = Address("s3", s3.bucket, "folder.jpg/").uri
    found, failures = look(s3.uri)
    assert failures == []
    assert found == {uri: data for uri, data in expected.items() if uri != marker}


def test_a_pattern_is_one_where_no_key_is_written_so(s3: ObjectStore) -> None:
    for key in ("p/photo1.jpg", "p/photo2.jpg"):
        put(s3, key)
    assert len(look(f"{s3.uri}/p/photo[1].jpg")[0]) == 1
    put(s3, "p/photo[1].jpg")
    assert [*look(f"{s3.uri}/p/photo[1].jpg")[0]] == [f"{s3.uri}/p/photo%5B1%5D.jpg"]


def test_many_pages_with_odd_keys_are_listed_to_the_end(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simdist.sources import plain_s3

    monkeypatch.setattr(plain_s3, "PAGE", 3)
    for number in range(10):
        put(s3, f"n/{number}//a.jpg")
    assert len(look(f"{s3.uri}/n")[0]) == 10


def test_a_proxy_is_never_asked_for_this_machine(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    expected = {Address("s3", s3.bucket, key).uri: put_unproxied(s3, key) for key in KEYS[:3]}
    assert look(f"{s3.uri}/p")[0] == expected


def put_unproxied(s3: ObjectStore, key: str) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "*")
        return put(s3, key)
