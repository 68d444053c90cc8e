"""An index rebuilt from saved embeddings, without images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cluster.ingest.driver import ingest_images
from simdist.embedding import Model
from simdist.index.collection import Collection
from simdist.ingest import committer
from simdist.ingest.progress import Progress, Summary
from simdist.ingest.saved import ingest_saved
from simdist.sources import Access, open_source
from simdist.sources.saved import SavedEmbeddings
from tests.cluster.conftest import assert_holds_exactly, refs_of
from tests.index_contents import stored_vectors


def rebuild(collection: Collection, location: Path, name: str, *, force: bool = False) -> Summary:
    seen: list[Progress] = []
    summary = ingest_saved(
        str(location),
        store=collection.store,
        name=name,
        access=Access(),
        on_progress=seen.append,
        expect=1000,
        partitions=1,
        force=force,
    )
    assert seen[-1].listing_done
    return summary


def test_the_same_index_comes_from_what_is_saved(
    folder: Path,
    tmp_path: Path,
    collection: Collection,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(committer, "SAVED_ROWS", 16)
    location = tmp_path / "saved"
    saved = SavedEmbeddings.create(str(location), access=Access(), model_id=model.id)
    ingest_images(
        open_source(str(folder)),
        collection=collection,
        model=model,
        on_progress=lambda _: None,
        saved=saved,
    )
    refs = refs_of(folder)
    shutil.rmtree(folder)
    assert 1 < len(list(location.iterdir())) <= 3

    first = rebuild(collection, location, "rebuilt")
    assert (first.listed, first.added, first.failed) == (40, 40, 0)
    rebuilt = Collection.open(collection.store, "rebuilt")
    assert (rebuilt.model, rebuilt.model_id) == (collection.model, collection.model_id)
    assert_holds_exactly(rebuilt, refs)
    assert stored_vectors(rebuilt) == stored_vectors(collection)
    assert rebuild(collection, location, "rebuilt").skipped == 40
    assert rebuild(collection, location, "rebuilt", force=True).replaced == 40
    assert_holds_exactly(rebuilt, refs)
