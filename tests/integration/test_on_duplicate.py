"""What an ingest does about photographs that are the same as others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.ingest.committer import Committer
from simdist.ingest.duplicates import OnDuplicate
from simdist.ingest.progress import Count, Summary
from simdist.ingest.sieve import DUPLICATE_OF, Sieve
from simdist.sources import ImageRef
from simdist.store import connect
from tests.copies import COPIED, SAME, embedded, make_copies
from tests.servers import empty

pytestmark = pytest.mark.slow

STEMS = [name.partition("/")[2] for name in COPIED]

Images = tuple[NDArray[np.float32], list[ImageRef]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Images:
    paths = make_copies(tmp_path_factory.mktemp("copies"))
    # The copies come after their originals, of which the names are the shortest.
    return embedded(embedder, sorted(paths, key=lambda path: (len(path.stem), path.stem)))


@pytest.fixture
def collection(valkey_url: str, embedder: Embedder) -> Iterator[Collection]:
    store = connect(valkey_url)
    empty(store)
    yield Collection.ensure(store, "copies", model=embedder.model)
    store.close()


def stem(uri: str) -> str:
    return Path(uri).stem


def ingest(
    collection: Collection,
    images: Images,
    action: OnDuplicate,
    *,
    each: int = 100,
    force: bool = False,
) -> Summary:
    """Add images, so many at once."""
    sieve = Sieve(collection, action)
    committer = Committer(collection, source="copies", force=force, sieve=sieve)
    vectors, refs = images
    for start in range(0, len(refs), each):
        committer.hold(vectors[start : start + each], refs[start : start + each])
        committer.flush()
    return committer.summary(committer.progress(Count()))


@pytest.mark.parametrize("each", [100, 4])
def test_what_is_the_same_is_left_out(collection: Collection, images: Images, each: int) -> None:
    summary = ingest(collection, images, OnDuplicate.skip, each=each)
    left = {stem(image.uri) for image in collection.images()}
    assert set(STEMS) < left
    assert not {f"{one}-{way}" for one in STEMS for way in SAME} & left
    # A part of a picture is another picture, and what is blank is nobody's copy.
    assert {f"{one}-part" for one in STEMS} | {"blank-0", "blank-1", "tiny-0", "tiny-1"} < left
    assert summary.duplicates == summary.left_out == len(STEMS) * len(SAME)
    assert summary.added == len(images[1]) - summary.left_out
    assert summary.indexed == len(images[1])
    assert {(stem(one.uri), stem(one.duplicate_of)) for one in summary.copies} == {
        (f"{one}-{way}", one) for one in STEMS for way in SAME
    }
    assert all(0.97 < one.score <= 1 for one in summary.copies)


def test_again_it_is_left_out_again(collection: Collection, images: Images) -> None:
    first = ingest(collection, images, OnDuplicate.skip)
    again = ingest(collection, images, OnDuplicate.skip)
    assert (again.left_out, again.added) == (first.left_out, 0)
    assert again.unchanged == first.added


@pytest.mark.parametrize("each", [100, 4])
def test_links_lead_to_the_originals(collection: Collection, images: Images, each: int) -> None:
    named = [replace(ref, metadata={"n": 1}) for ref in images[1]]
    for force in (False, True):
        summary = ingest(collection, (images[0], named), OnDuplicate.link, each=each, force=force)
        assert summary.indexed == len(collection) == len(named)
        links = {
            stem(image.uri): stem(str(image.metadata[DUPLICATE_OF]))
            for image in collection.images()
            if DUPLICATE_OF in image.metadata
        }
        # Also when all are replaced, an original is not linked to its copy.
        assert links == {f"{one}-{way}": one for one in STEMS for way in SAME}
        assert all(image.metadata["n"] == 1 for image in collection.images())


def test_reported_they_are_indexed_like_others(collection: Collection, images: Images) -> None:
    summary = ingest(collection, images, OnDuplicate.report)
    assert (summary.duplicates, summary.left_out) == (len(STEMS) * len(SAME), 0)
    assert len(collection) == len(images[1])
    assert not [image for image in collection.images() if image.metadata]


def test_what_is_there_is_replaced_not_left_out(collection: Collection, images: Images) -> None:
    ingest(collection, images, OnDuplicate.report)
    changed = [replace(ref, fingerprint="another") for ref in images[1]]
    summary = ingest(collection, (images[0], changed), OnDuplicate.skip)
    assert (summary.replaced, summary.left_out) == (len(changed), 0)


def test_no_room_for_a_link(collection: Collection, images: Images) -> None:
    full = [replace(ref, metadata={"n": "x" * (64 * 1024 - 10)}) for ref in images[1]]
    summary = ingest(collection, (images[0], full), OnDuplicate.link)
    assert summary.added == len(full)
    assert not [image for image in collection.images() if DUPLICATE_OF in image.metadata]
