"""What holds embeddings until a commit is due, and keeps count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.index.collection import Collection
from simdist.ingest import committer as committer_module
from simdist.ingest.committer import Committer
from simdist.ingest.failures import Failure, keep, kept
from simdist.ingest.progress import Count
from simdist.sources import Access, ImageRef
from simdist.sources.saved import SavedEmbeddings, read_saved
from simdist.store import Store

DIM = 8
UNUSABLE = {
    "zero": np.zeros(DIM, np.float32),
    "infinite": np.full(DIM, np.inf, np.float32),
    "not a number": np.full(DIM, np.nan, np.float32),
    "squares overflow": np.full(DIM, 1e30, np.float32),
}


@pytest.fixture
def collection(store: Store) -> Collection:
    return Collection.create(store, "photos", model="m", model_id="m-1", dim=DIM)


def refs(start: int, stop: int, *, content: str = "first") -> list[ImageRef]:
    return [ImageRef(f"file:///{i}.jpg", content, 10, None) for i in range(start, stop)]


def vectors(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).random((count, DIM), np.float32)


def test_a_commit_is_due_by_number_and_later_by_time(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "COMMIT_ROWS", 100)
    monkeypatch.setattr(committer_module, "COMMIT_SECONDS", 0.0)
    committer = Committer(collection, source="photos")
    committer.hold(vectors(60), refs(0, 60))
    # Whatever the time: the first commit is what the hash family is fitted on.
    assert not committer.is_due()
    committer.hold(vectors(60), refs(60, 120))
    assert committer.is_due()
    assert len(collection.known(refs(0, 120)).nonzero()[0]) == 0
    committer.flush()
    assert collection.known(refs(0, 120)).all()
    assert not committer.is_due()
    committer.hold(vectors(1), refs(120, 121))
    assert committer.is_due()


def test_saved_embeddings_are_committed_file_by_file(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "COMMIT_ROWS", 10)
    monkeypatch.setattr(committer_module, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(committer_module, "SAVED_ROWS", 100)
    saved = SavedEmbeddings.create(str(tmp_path), access=Access(), model_id="m-1")
    committer = Committer(collection, source="photos", saved=saved)
    committer.hold(vectors(90), refs(0, 90))
    assert not committer.is_due()
    committer.hold(vectors(90), refs(90, 180))
    assert committer.is_due()
    committer.flush()
    [batch] = read_saved(str(tmp_path), Access())
    assert [ref.uri for ref in batch.refs] == [ref.uri for ref in refs(0, 180)]


def test_it_counts_what_becomes_of_images(collection: Collection) -> None:
    collection.add(vectors(30), [*refs(0, 10), *refs(10, 30, content="second")])
    committer = Committer(collection, source="photos")
    committer.hold(vectors(50), refs(0, 50))
    committer.fail([Failure.of(ref, "decode", "no picture") for ref in refs(50, 80)])
    progress = committer.progress(Count(listed=90, skipped=10, failed=0, done=True))
    assert (progress.listed, progress.skipped, progress.done, progress.failed) == (90, 10, 50, 30)
    assert progress.listing_done
    committer.flush()
    summary = committer.summary(progress, pruned=3)
    assert (summary.added, summary.replaced, summary.unchanged) == (20, 20, 10)
    assert (summary.listed, summary.skipped, summary.failed, summary.pruned) == (90, 10, 30, 3)
    assert [failure.uri for failure in summary.failures] == [ref.uri for ref in refs(50, 70)]
    assert len(kept(collection)) == 30


@pytest.mark.parametrize("bad", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_embedding_that_cannot_be_indexed_is_a_failure(
    collection: Collection, bad: NDArray[np.float32]
) -> None:
    committer = Committer(collection, source="photos")
    given = vectors(40)
    given[[0, 17]] = bad
    committer.hold(given, refs(0, 40))
    committer.hold(bad[None], refs(40, 41))
    committer.flush()
    summary = committer.summary(committer.progress(Count()))
    assert (summary.added, summary.failed) == (38, 3)
    assert [failure.uri for failure in summary.failures] == [
        refs(0, 41)[i].uri for i in (0, 17, 40)
    ]
    assert {failure.stage for failure in summary.failures} == {"embed"}
    assert not collection.known(refs(0, 41))[[0, 17, 40]].any()


def test_an_indexed_image_is_no_longer_a_failure(collection: Collection) -> None:
    keep(collection, [Failure.of(ref, "fetch", "no") for ref in refs(0, 2)], source="photos")
    committer = Committer(collection, source="photos")
    committer.hold(vectors(1), refs(0, 1))
    committer.flush()
    assert [one.failure.uri for one in kept(collection)] == [refs(0, 2)[1].uri]


def test_a_failed_commit_is_retried_with_the_next(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise StoreError("cannot reach Redis")

    committer = Committer(collection, source="photos")
    committer.hold(vectors(40), refs(0, 40))
    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(Collection, "add", lost)
        committer.flush()
    committer.flush()
    assert collection.known(refs(0, 40)).all()
