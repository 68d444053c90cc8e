"""A source that names an image more than once: one of them wins, and later runs do nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simdist.index.collection import Collection
from simdist.ingest import listing as listing_module
from simdist.ingest import repeats as repeats_module
from simdist.ingest.listing import Listing
from simdist.ingest.progress import Count
from simdist.sources import ImageRef, open_source
from simdist.store import Store

SECONDS = 30.0


@pytest.fixture
def collection(store: Store) -> Collection:
    return Collection.create(store, "photos", model="m", model_id="m-1", dim=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"content")
    return tmp_path


def run(
    source: str, collection: Collection, *, force: bool = False
) -> tuple[list[ImageRef], Count]:
    """Index what a source lists, shards in the worst order: the last first."""
    with Listing(open_source(source), collection=collection, force=force) as listing:
        shards = []
        while listing.more(seconds=SECONDS):
            shard = listing.take(1)
            assert shard is not None
            shards.append(shard)
        taken = [ref for shard in reversed(shards) for ref in shard.refs]
        for ref in taken:
            if not listing.is_superseded(ref):
                vector = np.random.default_rng(0).random((1, 8), np.float32)
                collection.add(vector, [ref], force=force)
        return taken, listing.count


def label(collection: Collection, path: Path) -> str | None:
    stored = collection.get(path.as_uri())
    assert stored is not None
    return stored.label


def write(path: Path, *rows: str) -> str:
    path.write_text("\n".join(("url,label", *rows)))
    return str(path)


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_the_last_wins_and_later_runs_skip_all(
    folder: Path, collection: Collection, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "PAGE", page)
    monkeypatch.setattr(listing_module, "FIRST_PAGE", page)
    rows = ("a.jpg,one", "b.jpg,x", "a.jpg,two", "c.jpg,y", "a.jpg,three", "c.jpg,y")
    source = write(folder / "list.csv", *rows)
    _, count = run(source, collection)
    assert (count.listed, count.repeated) == (6, 3)
    for _ in range(2):
        taken, count = run(source, collection)
        assert (taken, count.listed, count.skipped, count.repeated) == ([], 6, 6, 3)
        assert label(collection, folder / "a.jpg") == "three"
    # With force it is all done again, and the last wins again.
    run(source, collection, force=True)
    assert label(collection, folder / "a.jpg") == "three"


def test_lists_that_name_the_same_image_converge(folder: Path, collection: Collection) -> None:
    write(folder / "1.csv", "a.jpg,one", "b.jpg,one")
    write(folder / "2.csv", "b.jpg,two", "c.jpg,two")
    source = f"{folder}/*.csv"
    assert run(source, collection)[1].repeated == 1
    assert label(collection, folder / "b.jpg") == "two"
    assert run(source, collection)[0] == []


def test_a_row_that_changes_is_indexed_anew(folder: Path, collection: Collection) -> None:
    source = write(folder / "list.csv", "a.jpg,one", "b.jpg,x")
    run(source, collection)
    write(folder / "list.csv", "a.jpg,other", "b.jpg,x")
    taken, count = run(source, collection)
    assert ([ref.label for ref in taken], count.skipped, count.repeated) == (["other"], 1, 0)


def test_few_wait_at_a_time(
    folder: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats_module, "MAX_HELD", 1)
    monkeypatch.setattr(listing_module, "FIRST_PAGE", 1)
    source = write(folder / "list.csv", *(f"{name}.jpg,x" for name in "abc"))
    run(source, collection)
    write(folder / "list.csv", *(f"{name}.jpg,y" for name in "abc"))
    taken, count = run(source, collection)
    assert (len(taken), count.skipped) == (3, 0)
