"""The listing, ahead of the pipeline in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from simdist.errors import SourceError, StoreError
from simdist.index.collection import Collection
from simdist.ingest import listing as listing_module
from simdist.ingest.listing import Listing
from simdist.ingest.progress import Count
from simdist.sources import (
    Access,
    ImageRef,
    ListingFailure,
    Source,
    open_source,
)
from simdist.store import Store
from tests.conftest import PHOTOS

SECONDS = 30.0


@pytest.fixture
def collection(store: Store) -> Collection:
    return Collection.create(store, "photos", model="m", model_id="m-1", dim=8)


def refs() -> list[ImageRef]:
    """The images of the example photographs."""
    return [entry for entry in open_source(str(PHOTOS)).entries if isinstance(entry, ImageRef)]


def take_all(listing: Listing, limit: int) -> list[int]:
    """The sizes of all shards."""
    sizes = []
    while listing.more(seconds=SECONDS):
        shard = listing.take(limit)
        assert shard is not None
        sizes.append(len(shard.refs))
    return sizes


def test_known_images_are_left_out(collection: Collection) -> None:
    vectors = np.random.default_rng(0).random((129, collection.dim), dtype=np.float32)
    collection.add(vectors, refs()[:129])
    with Listing(open_source(str(PHOTOS)), collection=collection) as listing:
        assert take_all(listing, 10) == [10, 10, 5]
        assert listing.count == Count(listed=154, skipped=129, done=True)
        assert listing.more() is False
        assert listing.take(10) is None


def test_an_empty_folder(tmp_path: Path, collection: Collection) -> None:
    with Listing(open_source(str(tmp_path)), collection=collection) as listing:
        assert take_all(listing, 10) == []
        assert listing.count == Count(done=True)


def test_the_figures_stay_within_bounds(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "FIRST_PAGE", 2)
    monkeypatch.setattr(listing_module, "PAGE", 2)
    monkeypatch.setattr(listing_module, "AHEAD", 4)
    with Listing(open_source(str(PHOTOS)), collection=collection) as listing:
        assert listing.more(seconds=SECONDS)
        # One page taken, two waiting, one in the thread's hand.
        assert listing.count.listed <= 8
        assert sum(take_all(listing, 3)) == 154
    with Listing(open_source(str(PHOTOS)), collection=collection):
        pass  # leaving it early ends the thread


def test_an_error_comes_after_what_was_found_before_it(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks() -> Iterator[ImageRef | ListingFailure]:
        yield from refs()[:3]
        raise SourceError("the disk is gone")

    monkeypatch.setattr(listing_module, "FIRST_PAGE", 3)
    with Listing(Source(breaks(), Access()), collection=collection) as listing:
        assert listing.more(seconds=SECONDS)
        shard = listing.take(10)
        assert shard is not None
        assert len(shard.refs) == 3
        with pytest.raises(SourceError, match="the disk is gone"):
            listing.more(seconds=SECONDS)


def test_a_lost_store_is_reported(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise StoreError("cannot reach Redis")

    monkeypatch.setattr(Collection, "known", lost)
    with (
        Listing(open_source(str(PHOTOS)), collection=collection) as listing,
        pytest.raises(StoreError, match="cannot reach Redis"),
    ):
        listing.more(seconds=SECONDS)
