"""`simdist.ingest`, the Python function, on real photographs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import simdist
from simdist.errors import MissingCollectionError, SourceError, UsageError
from simdist.index.collection import Collection
from simdist.ingest.progress import Progress, Summary
from simdist.ingest.sieve import DUPLICATE_OF
from simdist.sources import LabelFrom
from tests.cluster.conftest import assert_holds_exactly, refs_of
from tests.conftest import PHOTOS
from tests.copies import COPIED, SAME, make_copies

pytestmark = pytest.mark.usefixtures("small_ray")

MODEL = "efficientnet-lite0"


def test_a_folder_is_indexed_searched_and_pruned(
    folder: Path, collection: Collection, valkey_url: str
) -> None:
    seen: list[Progress] = []

    def ingest(**options: bool) -> Summary:
        return simdist.ingest(
            folder,
            collection=collection.name,
            model=MODEL,
            redis=valkey_url,
            on_progress=seen.append,
            prune=(lambda _: True) if options.get("prune") else None,
            force=options.get("force", False),
        )

    first = ingest()
    assert (first.listed, first.added, first.failed) == (40, 40, 0)
    assert (seen[-1].done, seen[-1].listing_done) == (40, True)
    assert all(a.done <= b.done for a, b in pairwise(seen))
    assert_holds_exactly(collection, refs_of(folder))
    clownfish = next(ref for ref in refs_of(folder) if "clownfish" in ref.uri)
    stored = collection.get(clownfish.uri)
    assert stored is not None
    assert simdist.Searcher(collection).search(stored.vector, n=1)[0].uri == clownfish.uri

    assert ingest().skipped == 40
    forced = ingest(force=True)
    assert (forced.added, forced.replaced, forced.skipped) == (0, 40, 0)
    assert_holds_exactly(collection, refs_of(folder))
    assert ingest().skipped == 40
    shutil.rmtree(folder / "fish")
    assert ingest(prune=True).pruned == 8
    assert_holds_exactly(collection, refs_of(folder))


def test_copies_of_what_is_there_are_left_out_or_linked(
    tmp_path: Path, collection: Collection, valkey_url: str
) -> None:
    for folder in ("originals", "copies"):
        (tmp_path / folder).mkdir()
    stems = [name.partition("/")[2] for name in COPIED]
    for path in make_copies(tmp_path / "copies"):
        if path.stem in stems:
            path.rename(tmp_path / "originals" / path.name)

    def ingest(folder: str, on_duplicate: str | None = None) -> Summary:
        return simdist.ingest(
            tmp_path / folder,
            collection=collection.name,
            model=MODEL,
            redis=valkey_url,
            on_duplicate=on_duplicate,
        )

    assert ingest("originals").added == len(COPIED)
    copies = len(refs_of(tmp_path / "copies"))
    same = {f"{stem}-{way}" for stem in stems for way in SAME}
    first = ingest("copies", on_duplicate="skip")
    assert (first.left_out, first.added) == (len(same), copies - len(same))
    again = ingest("copies", on_duplicate="link")
    assert (again.duplicates, again.added) == (len(same), len(same))
    links = {
        Path(image.uri).stem: Path(str(image.metadata[DUPLICATE_OF])).stem
        for image in collection.images()
        if DUPLICATE_OF in image.metadata
    }
    assert links == {f"{stem}-{way}": stem for stem in stems for way in SAME}


def test_a_model_of_timm_reaches_the_actors_without_its_folder(
    folder: Path, tmp_path: Path, collection: Collection, valkey_url: str
) -> None:
    """And its licence is accepted first, said once, and kept."""
    import timm
    from timm.models import save_for_hf

    own = tmp_path / "own"
    save_for_hf(timm.create_model("test_resnet.r160_in1k"), str(own), safe_serialization=True)
    config = own / "config.json"
    config.write_text(config.read_text().replace('"apache-2.0"', '"cc-by-nc-4.0"'))

    def ingest(accept: bool, on_progress: Callable[[Progress], None] | None = None) -> Summary:
        return simdist.ingest(
            folder,
            collection="timm",
            model=f"timm:local-dir:{own}",
            accept_licence=accept,
            redis=valkey_url,
            on_progress=on_progress,
        )

    def lose_the_folder(_: Progress) -> None:
        if own.exists():
            own.rename(tmp_path / "elsewhere")

    store = collection.store
    with pytest.raises(UsageError, match="which forbids commercial use"):
        ingest(accept=False)
    with pytest.raises(MissingCollectionError):
        Collection.open(store, "timm")
    first = ingest(accept=True, on_progress=lose_the_folder)
    assert not own.exists()
    assert (first.added, first.failed, first.licence) == (40, 0, "cc-by-nc-4.0")
    made = Collection.open(store, "timm")
    assert (made.model, made.licence) == (f"timm:local-dir:{own}", "cc-by-nc-4.0")
    assert made.model_id.startswith("timm:test_resnet.r160_in1k-")
    (tmp_path / "elsewhere").rename(own)
    again = ingest(accept=True)
    assert (again.skipped, again.licence) == (40, "")


def test_a_selection_is_labelled_saved_and_indexed_again(
    folder: Path, tmp_path: Path, collection: Collection, valkey_url: str
) -> None:
    some = simdist.ingest(
        str(folder),
        collection=collection.name,
        model=MODEL,
        include=["fish/*"],
        exclude=["*clown*"],
        limit=5,
        label_from=LabelFrom.none,
        save_embeddings=str(tmp_path / "saved"),
        redis=valkey_url,
    )
    assert (some.listed, some.added) == (5, 5)
    again = simdist.ingest(tmp_path / "saved", collection="again", redis=valkey_url)
    assert again.added == 5
    copy = Collection.open(collection.store, "again")
    assert copy.model_id == collection.model_id
    known = [ref for ref in refs_of(folder) if copy.get(ref.uri)]
    assert len(known) == 5
    for ref in known:
        image = copy.get(ref.uri)
        assert image is not None
        assert image.label is None
        assert "/fish/" in ref.uri
        assert "clown" not in ref.uri


def test_invalid_options_are_reported_at_once(tmp_path: Path, valkey_url: str) -> None:
    with pytest.raises(UsageError, match="GPUs or of actors"):
        simdist.ingest(PHOTOS, gpus=1, actors=1, redis=valkey_url)
    with pytest.raises(SourceError, match="check the path"):
        simdist.ingest(tmp_path / "nowhere", redis=valkey_url)
