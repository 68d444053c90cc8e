"""What becomes of images that cannot be indexed, and of those that are gone or known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
import requests

from cluster.ingest.driver import ingest_images
from cluster.ingest.stages import EmbedActor, decode_shard
from simdist.embedding import Model
from simdist.errors import SourceError, UsageError
from simdist.index.collection import Collection
from simdist.ingest.failures import (
    kept,
)
from simdist.ingest.progress import STAGES, Progress, Summary
from simdist.ingest.shards import Shard
from simdist.sources import (
    Selection,
    Source,
    file_uri,
    open_source,
)
from tests.cluster.conftest import assert_holds_exactly, refs_of
from tests.conftest import PHOTOS
from tests.servers import eventually

FISH = PHOTOS / "fish" / "red-mullet.jpg"


pytestmark = pytest.mark.usefixtures("small_ray")


class Run:
    """Ingests into the test's collection."""

    def __init__(self, collection: Collection, model: Model) -> None:
        self._collection = collection
        self._model = model
        self.seen: list[Progress] = []

    def __call__(self, source: Path | Source, **options: object) -> Summary:
        opened = source if isinstance(source, Source) else open_source(str(source))
        return ingest_images(
            opened,
            collection=self._collection,
            model=self._model,
            on_progress=self.seen.append,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture
def run(collection: Collection, model: Model) -> Run:
    return Run(collection, model)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of one photograph, a text, an empty file and a link that leads nowhere."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(FISH, folder / "fish.jpg")
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.png").touch()
    (folder / "lost.jpg").symlink_to(folder / "nowhere.jpg")
    return folder


def index(collection: Collection, folder: Path) -> None:
    """Index the images of a folder with random vectors: what they show is all one here."""
    refs = refs_of(folder)
    vectors = np.random.default_rng(0).standard_normal((len(refs), collection.dim))
    collection.add(vectors.astype(np.float32), refs)


def names(collection: Collection) -> dict[str, str]:
    return {one.failure.uri.rpartition("/")[2]: one.failure.stage for one in kept(collection)}


class TestFailures:
    def test_failures_are_kept_once_and_dropped_when_resolved(
        self, mixed: Path, collection: Collection, run: Run
    ) -> None:
        assert run(mixed).failed == 3
        first = kept(collection)
        assert names(collection) == {
            "text.jpg": "decode",
            "empty.png": "decode",
            "lost.jpg": "list",
        }
        assert [one.failure.uri for one in first] == sorted(one.failure.uri for one in first)
        assert {one.source for one in first} == {file_uri(mixed)}

        assert run(mixed).failed == 3
        assert len(kept(collection)) == 3
        assert all(old.at < new.at for old, new in zip(first, kept(collection), strict=True))

        shutil.copy(FISH, mixed / "text.jpg")
        (mixed / "lost.jpg").unlink()
        assert run(mixed).added == 1
        assert names(collection) == {"empty.png": "decode"}
        assert collection.get(file_uri(mixed / "text.jpg")) is not None

    def test_an_ingest_of_a_part_forgets_no_failure_of_the_rest(
        self, mixed: Path, collection: Collection, run: Run
    ) -> None:
        run(mixed)
        run(open_source(str(mixed), selection=Selection(include=("fish.jpg",))))
        run(mixed / "fish.jpg")
        assert len(kept(collection)) == 3

    def test_those_whose_images_were_listed_can_be_tried_again(
        self, mixed: Path, collection: Collection, run: Run
    ) -> None:
        run(mixed)
        shutil.copy(FISH, mixed / "text.jpg")
        found = kept(collection)
        refs = [one.failure.ref for one in found if one.failure.ref]
        assert {ref.label for ref in refs} == {"mixed"}
        summary = run(Source(iter(refs), open_source(str(mixed)).access, found[0].source))
        assert (summary.added, summary.failed) == (1, 1)
        assert names(collection) == {"empty.png": "decode", "lost.jpg": "list"}


class TestPrune:
    def test_only_missing_images_are_deleted(
        self, folder: Path, tmp_path: Path, collection: Collection, run: Run
    ) -> None:
        beside = tmp_path / "photos-beside"
        beside.mkdir()
        shutil.copy(FISH, beside / "fish.jpg")
        index(collection, beside)
        index(collection, folder)
        shutil.rmtree(folder / "fish")
        asked: list[int] = []

        def agree(count: int) -> bool:
            asked.append(count)
            return len(asked) > 1

        assert run(folder, prune=agree).pruned == 0
        assert run(folder, prune=agree).pruned == 8
        assert asked == [8, 8]
        assert_holds_exactly(collection, [*refs_of(folder), *refs_of(beside)])
        assert run(folder, prune=agree).pruned == 0
        assert len(asked) == 2

    def test_images_added_during_a_census_are_not_missing(
        self, folder: Path, collection: Collection, run: Run
    ) -> None:
        index(collection, folder)
        opened = open_source(str(folder))
        refs = list(opened.entries)

        def slow() -> Iterator[object]:
            yield from refs
            shutil.copy(FISH, folder / "fish" / "new.jpg")
            Run(collection, run._model)(folder)

        source = Source(slow(), opened.access, opened.name, opened.below, whole=True)  # type: ignore[arg-type]
        assert run(source, prune=lambda _: True).pruned == 0
        assert collection.get(file_uri(folder / "fish" / "new.jpg")) is not None

    def test_nothing_is_pruned_after_an_incomplete_listing(
        self, mixed: Path, tmp_path: Path, collection: Collection, run: Run
    ) -> None:
        index(collection, mixed)
        (mixed / "fish.jpg").unlink()
        with pytest.raises(SourceError, match="cannot be listed"):
            run(mixed, prune=lambda _: True)
        for name in os.listdir(mixed):
            (mixed / name).unlink()
        with pytest.raises(SourceError, match="it holds no images"):
            run(mixed, prune=lambda _: True)
        assert collection.get(file_uri(mixed / "fish.jpg")) is not None

    def test_a_part_of_a_source_is_not_pruned(self, folder: Path, run: Run) -> None:
        part = open_source(str(folder), selection=Selection(limit=3))
        for source in (part, open_source(f"{folder}/*/*.jpg"), next(folder.glob("*/*.jpg"))):
            with pytest.raises(UsageError, match="pruning needs a whole folder"):
                run(source, prune=lambda _: True)


def test_the_same_bytes_are_embedded_once(folder: Path, model: Model) -> None:
    refs = refs_of(folder)
    actor = EmbedActor()
    actor.load(model)
    actor._embedder.batch = 1
    embedded: list[int] = []
    embed = actor._embedder.embed

    def counted(pixels: object) -> object:
        embedded.append(len(pixels))  # type: ignore[arg-type]
        return embed(pixels)  # type: ignore[arg-type]

    actor._embedder.embed = counted  # type: ignore[assignment,method-assign]
    _, once = actor.embed(Shard((refs[0], refs[1], refs[0])), None)
    shard, pixels = decode_shard(Shard((refs[1], refs[2])), preprocessing=model.preprocessing)
    _, again = actor.embed(shard, pixels)
    assert embedded == [2, 1]
    assert (once[0] == once[2]).all()
    assert (once[1] == again[0]).all()


class TestProgress:
    def test_it_says_which_stage_is_the_slow_one(self, folder: Path, run: Run) -> None:
        """And so do metrics of the cluster."""
        summary = run(folder)
        assert set(summary.stages) == set(STAGES)
        assert all(0 <= share <= 1 for share in summary.stages.values())
        assert summary.slowest in STAGES
        assert summary.stages[summary.slowest] > 0
        assert set(run.seen[-1].queues) == {"decoding", "ready", "embedding"}

        [node] = ray.nodes()  # type: ignore[no-untyped-call]
        url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
        lines: list[str] = []

        def counted() -> bool:
            """Of all ingests into this cluster; Ray has the figures some seconds later."""
            text = requests.get(url, timeout=5).text
            lines[:] = [line for line in text.splitlines() if line.startswith("ray_simdist_ingest")]
            images = [line for line in lines if line.startswith("ray_simdist_ingest_images_total{")]
            done = [line for line in images if 'outcome="done"' in line]
            return bool(done) and float(done[0].rpartition(" ")[2]) >= 40

        eventually(counted)
        assert {
            stage for stage in STAGES if any(f'stage="{stage}"' in line for line in lines)
        } == set(STAGES)
