"""The failures that are kept with a collection."""

from __future__ import annotations

import time

import pytest

from simdist.index.collection import Collection
from simdist.ingest import failures as failures_module
from simdist.ingest.failures import Failure, forget, forget_older, keep, kept
from simdist.sources import Access, ImageRef
from simdist.store import Store


@pytest.fixture
def collection(store: Store) -> Collection:
    return Collection.create(store, "photos", model="m", model_id="m-1", dim=8)


def fetched(source: str, count: int) -> list[Failure]:
    return [Failure.of(f"file:///{source}/{i}.jpg", "fetch", "no") for i in range(count)]


def test_everything_known_about_an_image_is_kept(collection: Collection) -> None:
    ref = ImageRef("s3://bucket/a.jpg", "f1", 10, "cats", {"price": 3})
    access = Access.resolve(endpoint_url="http://localhost:9000", region="eu")
    failures = [Failure.of(ref, "decode", "not\na picture"), Failure.of("b.jpg", "list", "lost")]
    keep(collection, failures, source="s3://bucket", access=access)
    listed, decoded = kept(collection)
    assert listed.failure == Failure("b.jpg", "list", "lost", None)
    assert decoded.failure == Failure(ref.uri, "decode", "not a picture", ref)
    assert (decoded.source, decoded.access) == ("s3://bucket", access.of(ref.uri))
    forget(collection, [ref.uri, "never.jpg"])
    assert kept(collection) == [listed]


def test_a_source_that_is_all_wrong_does_not_fill_the_server(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures_module, "MAX_KEPT", 2500)
    keep(collection, fetched("a", 2000), source="a")
    keep(collection, fetched("b", 2000), source="b")
    assert len(kept(collection)) == 2500
    forget_older(collection, source="a", than=time.time())
    assert {one.source for one in kept(collection)} == {"b"}
