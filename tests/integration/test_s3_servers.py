"""Servers that speak S3 in ways of their own: SeaweedFS and rclone."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
import requests

from simdist.errors import SourceError
from simdist.sources import Access, ImageRef, open_source, read_bytes, read_many
from simdist.sources.objects import Address
from simdist.sources.plain_s3 import PlainS3
from tests.object_store import CREDENTIALS, FORGOTTEN, running_seaweedfs, serving_folders

pytestmark = pytest.mark.slow

KEYS = [
    *("p/a.jpg", "p/a#b.jpg", "p/a?b.jpg", "p/photo[1].jpg", "p/a%2Fb.jpg", "p/a+b.jpg"),
    *("p/a b.jpg", "p/u\u0308.jpg", "p/\u00fc.jpg", "p/deep/er/z.jpg", "p/~x.jpg", "p/a&b=c.jpg"),
]


@pytest.fixture(scope="module", params=["seaweedfs", "rclone"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("store")
    if request.param == "rclone":
        for key in KEYS:
            path = folder / "bucket" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.encode())
        with serving_folders(folder) as url:
            yield url
        return
    with running_seaweedfs(folder) as url:
        requests.put(f"{url}/bucket", timeout=30).raise_for_status()
        for key in KEYS:
            address = f"{url}/bucket/{quote(key)}"
            requests.put(address, data=key.encode(), timeout=30).raise_for_status()
        yield url


@pytest.fixture(autouse=True)
def access(monkeypatch: pytest.MonkeyPatch, server: str) -> Access:
    for name in FORGOTTEN:
        monkeypatch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    return Access.resolve()


def test_all_keys_are_listed_and_read(access: Access) -> None:
    expected = {Address("s3", "bucket", key).uri: key.encode() for key in KEYS}
    source = open_source("s3://bucket/p")
    refs = [entry for entry in source.entries if isinstance(entry, ImageRef)]
    found = zip((ref.uri for ref in refs), read_many(refs, source.access), strict=True)
    assert dict(found) == expected
    assert {key: read_bytes(f"s3://bucket/{quote(key)}") for key in KEYS} == {
        key: key.encode() for key in KEYS
    }


def test_requests_that_are_signed_here_are_taken(access: Access) -> None:
    plain = PlainS3("bucket", access)
    listed = [meta for page in plain.list("p/", "") for meta in page]
    assert {meta["path"] for meta in listed if meta["size"]} >= {*KEYS}
    assert {key: plain.get(key, limit=100) for key in KEYS} == {key: key.encode() for key in KEYS}
    assert plain.get(KEYS[1], limit=3, start=2) == KEYS[1].encode()[2:5]
    assert {key: plain.head(key)["size"] for key in KEYS} == {k: len(k.encode()) for k in KEYS}
    with pytest.raises(FileNotFoundError):
        plain.get("p/gone.jpg", limit=1)


@pytest.mark.parametrize("server", ["rclone"], indirect=True)
def test_wrong_credentials_are_refused(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SourceError, match="answered 40"):
        PlainS3("bucket", access).get(KEYS[0], limit=1)
