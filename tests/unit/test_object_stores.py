"""Object stores: listing, reading and what goes wrong, against S3 over HTTP."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import psutil
import pytest
import requests

from simdist.errors import ImageError, SourceError, UsageError
from simdist.images import limits
from simdist.sources import (
    Access,
    ImageRef,
    ListingFailure,
    objects,
    open_source,
    read_bytes,
    read_many,
    reading,
)
from simdist.sources.objects import Address
from tests.conftest import LONG, PHOTOS
from tests.object_store import ROOT, FlakyProxy, ObjectStore, running_many_keys

FISH = PHOTOS / "fish"


def refs(place: str, access: Access | None = None) -> list[ImageRef]:
    entries = list(open_source(place, access=access).entries)
    assert not [entry for entry in entries if isinstance(entry, ListingFailure)]
    return [entry for entry in entries if isinstance(entry, ImageRef)]


@pytest.fixture
def proxy(s3: ObjectStore) -> Iterator[FlakyProxy]:
    """A store before `s3` that can be told to fail."""
    proxy = FlakyProxy(s3.url)
    yield proxy
    proxy.close()


# Listing.


def test_a_prefix_lists_its_images(s3: ObjectStore) -> None:
    for key in ("a/cats/1.jpg", "a/cats/2.JPG", "a/notes.txt", "ab/3.jpg", "top.png"):
        s3.put(key, b"12345")
    s3.put("a/", b"")
    listed = refs(f"{s3.uri}/a")
    assert [ref.uri for ref in listed] == [f"{s3.uri}/a/cats/1.jpg", f"{s3.uri}/a/cats/2.JPG"]
    assert {(ref.size, ref.label) for ref in listed} == {(5, "cats")}
    assert refs(f"{s3.uri}/a/") == listed
    by_uri = {ref.uri.rpartition("/")[2]: ref for ref in refs(s3.uri)}
    assert sorted(by_uri) == ["1.jpg", "2.JPG", "3.jpg", "top.png"]
    assert by_uri["top.png"].label is None


def test_the_fingerprint_changes_with_the_content(s3: ObjectStore) -> None:
    s3.put("a.jpg", b"one")
    [before] = refs(s3.uri)
    s3.put("a.jpg", b"two")
    [after] = refs(s3.uri)
    assert before.uri == after.uri
    assert before.fingerprint != after.fingerprint
    assert after.fingerprint.endswith("-3")


@pytest.mark.parametrize("name", ["a b.jpg", "ä.jpg", "100%.jpg", "a%20b.jpg", "a#b?.jpg", "*.jpg"])
def test_odd_keys_survive_from_the_listing_to_the_bytes(s3: ObjectStore, name: str) -> None:
    uri = Address("s3", s3.bucket, f"odd/{name}").uri
    s3.put(f"odd/{name}", name.encode())
    [ref] = refs(f"{s3.uri}/odd")
    assert ref.uri == uri
    assert ref.uri.isascii()
    assert read_bytes(ref.uri) == name.encode()


@pytest.mark.parametrize("listers", [1, 2, 16])
def test_folders_side_by_side_list_every_key_once_and_in_the_same_order(
    listers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders of many pages, of one, of less, keys before and behind them, and one in another."""
    monkeypatch.setattr(objects_listing(), "SIDE_BY_SIDE", listers)
    with running_many_keys(21_000, 6) as url:
        access = Access.resolve(endpoint_url=url, anonymous=True)
        first = [ref.uri for ref in refs("s3://many", access)]
        assert len(first) == len(set(first)) == 21_000
        assert [ref.uri for ref in refs("s3://many", access)] == first


def objects_listing() -> object:
    from simdist.sources import object_listing

    return object_listing


def resident() -> int:
    """Bytes of memory that this process has now."""
    return psutil.Process().memory_info().rss


@pytest.mark.slow
def test_many_keys_are_streamed_in_little_memory() -> None:
    keys = 1_000_000 if LONG else 250_000
    with running_many_keys(keys, 50) as url:
        access = Access.resolve(endpoint_url=url, anonymous=True)
        entries = open_source("s3://many", access=access).entries
        assert len(list(islice(entries, 1000))) == 1000
        # Work can start: not more is under way than a page of each of a few folders.
        assert int(requests.get(f"{url}/count", timeout=30).text) <= 40_000
        assert sum(1 for _ in islice(entries, 99_000)) == 99_000
        after_some = resident()
        assert sum(1 for _ in entries) == keys - 100_000
        # A million would be 400 MB.
        assert resident() - after_some < 40_000_000
        # Side by side costs a page a folder at the most.
        assert int(requests.get(f"{url}/count", timeout=30).text) <= keys + 60_000


def test_a_listing_that_is_left_early_ends(s3: ObjectStore) -> None:
    with running_many_keys(100_000, 10) as url:
        access = Access.resolve(endpoint_url=url, anonymous=True)
        entries = open_source("s3://many", access=access).entries
        next(entries)
        del entries
        sent = int(requests.get(f"{url}/count", timeout=30).text)
        assert sent < 100_000


# Reading.


def test_images_come_back_in_their_order(s3: ObjectStore) -> None:
    s3.put_folder(FISH, "fish")
    source = open_source(f"{s3.uri}/fish")
    listed = [entry for entry in source.entries if isinstance(entry, ImageRef)]
    gone = replace(listed[3], uri=f"{s3.uri}/fish/gone.jpg")
    fetched = list(read_many([*listed[:3], gone, *listed[3:]], source.access))
    error = fetched.pop(3)
    assert isinstance(error, SourceError)
    assert "there is no s3://" in str(error)
    assert fetched == [path.read_bytes() for path in sorted(FISH.iterdir())]


def test_an_object_that_is_too_large_is_not_read(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("a.jpg", b"12345")
    monkeypatch.setattr(limits, "MAX_BYTES", 5)
    assert read_bytes(f"{s3.uri}/a.jpg") == b"12345"
    monkeypatch.setattr(limits, "MAX_BYTES", 4)
    with pytest.raises(ImageError, match="at most 4 are read"):
        read_bytes(f"{s3.uri}/a.jpg")


@pytest.mark.parametrize(
    "trouble", [["503"] * 4, ["429"] * 2, ["500", "503"], ["cut"], ["cut"] * 2]
)
def test_passing_errors_are_retried(s3: ObjectStore, proxy: FlakyProxy, trouble: list[str]) -> None:
    s3.put_folder(FISH, "fish")
    access = Access.resolve(endpoint_url=proxy.url)
    listed = refs(f"{s3.uri}/fish", access)
    proxy.trouble["red-mullet.jpg"] = list(trouble)
    proxy.requests.clear()
    fetched = list(read_many(listed, access))
    assert fetched == [path.read_bytes() for path in sorted(FISH.iterdir())]
    tries = [path for path in proxy.requests if "red-mullet.jpg" in path]
    assert len(tries) == len(trouble) + 1


def test_a_permanent_error_is_one_failure(
    s3: ObjectStore, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_folder(FISH, "fish")
    access = Access.resolve(endpoint_url=proxy.url)
    monkeypatch.setattr(objects, "RETRIES", 1)
    listed = refs(f"{s3.uri}/fish", access)
    proxy.trouble["red-mullet.jpg"] = ["503"] * 1000
    fetched = list(read_many(listed, access))
    errors = [error for error in fetched if isinstance(error, Exception)]
    assert len(fetched) == len(listed)
    assert [type(error) for error in errors] == [SourceError]
    assert "answered 503 SlowDown; try again later" in str(errors[0])


def test_a_listing_that_is_interrupted_goes_on(s3: ObjectStore, proxy: FlakyProxy) -> None:
    s3.put("a.jpg", b"1")
    proxy.trouble["list-type=2"] = ["503", "429"]
    assert len(refs(s3.uri, Access.resolve(endpoint_url=proxy.url))) == 1


def test_requests_are_in_flight_together(s3: ObjectStore) -> None:
    """Thirty objects, each of which takes a while: far less than one after the other."""
    slow = SlowStore(seconds=0.4)
    try:
        access = Access.resolve(endpoint_url=slow.url, anonymous=True)
        listed = [ImageRef(f"s3://slow/{i}.jpg", "", 1, None) for i in range(30)]
        fetched = list(read_many(listed, access))
    finally:
        slow.close()
    assert fetched == [b"x"] * 30
    assert 8 <= slow.most_at_once <= reading.IN_FLIGHT


class SlowStore(FlakyProxy):
    """Answers every request with one byte, after a while, and counts those that wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__("")
        import threading

        lock, self.most_at_once, self._now = threading.Lock(), 0, 0
        store = self
        handler = self._server.RequestHandlerClass

        def slow(self: object) -> None:
            with lock:
                store._now += 1
                store.most_at_once = max(store.most_at_once, store._now)
            time.sleep(seconds)
            with lock:
                store._now -= 1
            headers = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "ETag": '"1"'}
            self._answer(200, headers, b"x")  # type: ignore[attr-defined]

        handler.do_GET = slow  # type: ignore[attr-defined]


# What goes wrong.


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("s3://no-such-bucket/photos", "there is no bucket s3://no-such-bucket at http"),
        ("s3://no-such-bucket/{0..3}.tar", "there is no bucket s3://no-such-bucket at http"),
        ("{uri}/nothing", "there is nothing under {uri}/nothing: check the prefix"),
        ("{uri}/nothing/*.tar", "there is nothing under {uri}/nothing"),
        ("{uri}/gone.jpg", "there is no {uri}/gone.jpg: check the bucket and the key"),
        ("{uri}/gone.tar", "there is no {uri}/gone.tar: check the bucket and the key"),
    ],
)
def test_a_wrong_source_says_what_to_do(s3: ObjectStore, place: str, reason: str) -> None:
    s3.put("photos/a.jpg", b"1")
    with pytest.raises(SourceError) as caught:
        open_source(place.replace("{uri}", s3.uri))
    assert reason.replace("{uri}", s3.uri) in str(caught.value)
    assert "a-secret-to-keep" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("s3://", "names no bucket: write s3://BUCKET/PREFIX"),
        ("gs:///photos", "names no bucket: write gs://BUCKET/PREFIX"),
        ("https://example.org/a.jpg", "write such addresses into a text file"),
        ("ftp://example.org/", "does not name a file of this machine"),
        ("s3://bucket/{}.tar", "between braces"),
        ("s3://bucket/{9..1}.tar", "write the lower number first"),
        ("s3://bucket/{0..999999999}.tar", "more than 100,000 names"),
        ("s3://bucket/{1..999}{1..999}.tar", "more than 100,000 names"),
    ],
)
def test_a_source_that_can_never_work(s3: ObjectStore, place: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        open_source(place.replace("bucket", s3.bucket))


def test_a_wrong_endpoint(s3: ObjectStore) -> None:
    access = Access.resolve(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(SourceError, match=r"cannot reach the store .* check its address"):
        open_source(s3.uri, access=access)


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:9000", "ftp://a", "http://", "http://a:99999x", "http://[::1"]
)
def test_an_invalid_endpoint(endpoint: str) -> None:
    with pytest.raises(UsageError, match="is not an endpoint"):
        Access.resolve(endpoint_url=endpoint)


def test_an_endpoint_with_a_password_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        Access.resolve(endpoint_url="http://user:hidden@host:9000")
    assert "hidden" not in str(caught.value)


def test_no_credentials(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("a.jpg", b"1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # Where there is no cloud around, its credentials' server does not answer.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(objects, "_METADATA_SERVERS", ("127.0.0.1:1/",))
    with pytest.raises(SourceError, match=r"no credentials for .*AWS_ACCESS_KEY_ID.*anonymously"):
        open_source(s3.uri)
    access = Access.resolve(endpoint_url=s3.url, anonymous=True)
    assert len(list(open_source(s3.uri, access=access).entries)) == 1


def test_files_that_may_not_be_read(s3: ObjectStore, proxy: FlakyProxy) -> None:
    proxy.trouble["/"] = ["403"] * 10
    with pytest.raises(SourceError, match=r"may not be used .*check AWS_ACCESS_KEY_ID"):
        open_source(s3.uri, access=Access.resolve(endpoint_url=proxy.url))


def test_what_the_client_says_of_an_answer_is_told_without_addresses(
    s3: ObjectStore, proxy: FlakyProxy
) -> None:
    s3.put("a.jpg", b"1")
    proxy.trouble["a.jpg"] = ["garbage"]
    with pytest.raises(SourceError, match=r"cannot be used at .*last modified.*garbage") as caught:
        objects.read_object(f"{s3.uri}/a.jpg", s3.at(proxy.url).access, limit=10)
    assert "secret" not in str(caught.value)
    assert "Debug" not in str(caught.value)


def test_plain_http_is_only_for_an_endpoint_that_says_so() -> None:
    def plain(access: Access) -> bool:
        store = objects.bucket_store("s3", "bucket", access)
        assert store.client_options is not None
        return bool(store.client_options.get("allow_http") in (True, "true"))

    assert plain(Access.resolve(endpoint_url="http://127.0.0.1:9000"))
    assert not plain(Access.resolve(endpoint_url="https://example.org"))
    assert not plain(Access())


def test_flags_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://general.example")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert Access.resolve().endpoint("s3") == "https://general.example"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example")
    access = Access.resolve()
    assert access.endpoint("s3") == "https://s3.example"
    assert access.config("s3")["region"] == "eu-west-1"
    access = Access.resolve(endpoint_url="https://flag.example", region="us-west-2", anonymous=True)
    assert access.config("s3") == {
        "aws_endpoint_url_s3": "https://flag.example",
        "region": "us-west-2",
        "skip_signature": "true",
    }


def test_work_sent_to_actors_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.setenv(name, "a-secret-to-keep")
    assert "a-secret-to-keep" not in repr(Access.resolve())


# In a process that imports the client for the first of many readers, and takes its time for it.
MANY_AT_ONCE = """
import builtins
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from simdist.sources import Access, objects

access, uri = Access.resolve(endpoint_url=sys.argv[1]), sys.argv[2]
import_ = builtins.__import__


def slowly(name, globals=None, locals=None, fromlist=(), level=0):
    if globals and globals.get("__name__") == "obstore" and "*" in (fromlist or ()):
        time.sleep(0.5)
    return import_(name, globals, locals, fromlist, level)


def read(number: int) -> bytes:
    time.sleep(number / 100)
    return objects.read_object(uri, access, limit=10)


builtins.__import__ = slowly
with ThreadPoolExecutor(16) as threads:
    assert list(threads.map(read, range(16))) == [b"1"] * 16
"""


def test_readers_that_begin_at_once_all_find_a_client(s3: ObjectStore) -> None:
    s3.put("a.jpg", b"1")
    code = [sys.executable, "-c", MANY_AT_ONCE, s3.url, f"{s3.uri}/a.jpg"]
    subprocess.run(code, cwd=ROOT, check=True, timeout=120)
