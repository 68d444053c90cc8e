"""The pipeline on real photographs, with Ray on this machine and the embedded server."""

from __future__ import annotations

import itertools
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from numpy.typing import NDArray

from cluster.ingest import pipeline as pipeline_module
from cluster.ingest.driver import ingest_images
from cluster.ingest.stages import EmbedActor, Placement, decode_shard
from simdist.embedding import Model, Preprocessing
from simdist.errors import ClusterError, ModelError, SourceError
from simdist.images.limits import Pixels
from simdist.index.collection import Collection
from simdist.index.images import Added
from simdist.ingest import committer
from simdist.ingest.progress import Progress, Summary
from simdist.ingest.shards import Shard
from simdist.sources import file_uri, open_source
from tests.bad_inputs import write_bad_inputs
from tests.cluster.conftest import assert_holds_exactly, refs_of
from tests.conftest import PHOTOS

pytestmark = pytest.mark.usefixtures("small_ray")


@pytest.fixture
def run(collection: Collection, model: Model) -> Run:
    return Run(collection, model)


class Run:
    """An ingest into the test's collection, whose progress is kept."""

    def __init__(self, collection: Collection, model: Model) -> None:
        self._collection = collection
        self._model = model
        self.seen: list[Progress] = []

    def __call__(self, source: object) -> Summary:
        self.seen.clear()
        return ingest_images(
            open_source(str(source)),
            collection=self._collection,
            model=self._model,
            on_progress=self.note,
        )

    def note(self, progress: Progress) -> None:
        self.seen.append(progress)
        if progress.done:
            self.at_first_results()

    def at_first_results(self) -> None:
        """For a test to break something in the middle."""


def test_each_photograph_is_indexed_once_then_skipped_then_replaced(
    folder: Path, collection: Collection, run: Run
) -> None:
    first = run(folder)
    assert (first.listed, first.added, first.skipped, first.failed) == (40, 40, 0, 0)
    assert run.seen[-1].listing_done
    assert run.seen[-1].done == 40
    assert run.seen[-1].seconds_left == 0
    assert all(a.done <= b.done for a, b in zip(run.seen, run.seen[1:], strict=False))
    assert_holds_exactly(collection, refs_of(folder))
    clownfish = collection.get(file_uri(folder / "fish" / "clownfish.jpg"))
    assert clownfish is not None
    assert clownfish.label == "fish"

    second = run(file_uri(folder))
    assert (second.listed, second.added, second.skipped) == (40, 0, 40)

    changed = folder / "fish" / "clownfish.jpg"
    changed.unlink()
    shutil.copy(PHOTOS / "tools" / min(os.listdir(PHOTOS / "tools")), changed)
    (folder / "fish" / "another.jpg").symlink_to(PHOTOS / "fish" / "red-mullet.jpg")
    third = run(folder)
    assert (third.listed, third.added, third.replaced, third.skipped) == (41, 1, 1, 39)
    assert_holds_exactly(collection, refs_of(folder))


def test_bad_files_are_failures_with_their_reasons(
    tmp_path: Path, collection: Collection, run: Run
) -> None:
    cases = write_bad_inputs(tmp_path / "bad", PHOTOS / "animals" / "horses.jpg")
    summary = run(tmp_path / "bad")
    failures = {failure.uri: failure for failure in summary.failures}
    for case in cases:
        uri = file_uri(case.path)
        if case.reason is None:
            assert uri not in failures, failures[uri]
            assert collection.get(uri) is not None, case
        else:
            assert case.reason in failures[uri].reason
            assert collection.get(uri) is None
    assert summary.failed == len(failures) == sum(case.reason is not None for case in cases)
    assert summary.added == len(cases) - summary.failed
    assert {failure.stage for failure in failures.values()} == {"list", "fetch", "decode"}


def test_only_the_first_failures_are_named_and_all_are_counted(
    tmp_path: Path, collection: Collection, run: Run
) -> None:
    for i in range(70):
        (tmp_path / f"{i}.jpg").touch()
    summary = run(tmp_path)
    assert (summary.listed, summary.failed, len(summary.failures)) == (70, 70, 20)
    assert not collection.is_fitted()


def test_a_source_that_cannot_be_listed_fails_before_anything_starts(
    tmp_path: Path, run: Run
) -> None:
    with pytest.raises(SourceError, match="check the path"):
        run(tmp_path / "nowhere")
    assert run.seen == []


def test_ctrl_c_commits_what_is_embedded(
    folder: Path, collection: Collection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "at_first_results", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    done = run.seen[-1].done
    assert 0 < done < 40
    assert collection.known(refs_of(folder)).sum() == done

    monkeypatch.undo()
    assert run(folder).added == 40 - done
    assert_holds_exactly(collection, refs_of(folder))


def test_an_image_that_kills_its_decoder_costs_no_other(
    folder: Path, collection: Collection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(shard: Shard, *, preprocessing: Preprocessing) -> tuple[Shard, Pixels]:
        if any("clownfish" in ref.uri for ref in shard.refs):
            os._exit(1)
        return decode_shard(shard, preprocessing=preprocessing)

    # Decoded in the actor first, then apart: it kills both.
    class DeadlyActor(EmbedActor):
        def embed(self, shard: Shard, pixels: Pixels | None) -> tuple[Shard, NDArray[np.float32]]:
            if pixels is None:
                own = self._embedder.model.preprocessing
                shard, pixels = deadly(shard, preprocessing=own)
            return super().embed(shard, pixels)

    monkeypatch.setattr(pipeline_module, "EmbedActor", DeadlyActor)
    monkeypatch.setattr(pipeline_module, "decode_shard", deadly)
    summary = run(folder)
    [failure] = summary.failures
    assert failure.uri.endswith("/fish/clownfish.jpg")
    assert (failure.stage, failure.reason) == ("decode", "the process that decodes it dies")
    assert_holds_exactly(collection, [ref for ref in refs_of(folder) if "clownfish" not in ref.uri])


def test_an_unusable_embedding_is_a_failure_and_costs_no_other(
    folder: Path, collection: Collection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of length zero, infinite, not a number, and with squares that overflow."""

    class BadActor(EmbedActor):
        def embed(self, shard: Shard, pixels: Pixels | None) -> tuple[Shard, NDArray[np.float32]]:
            shard, vectors = super().embed(shard, pixels)
            fish = [i for i, ref in enumerate(shard.refs) if ref.label == "fish"]
            for value, i in zip(itertools.cycle([0, np.inf, np.nan, 1e30]), fish, strict=False):
                vectors[i] = value
            return shard, vectors

    monkeypatch.setattr(pipeline_module, "EmbedActor", BadActor)
    summary = run(folder)
    assert (summary.added, summary.failed, run.seen[-1].done) == (32, 8, 32)
    assert {failure.stage for failure in summary.failures} == {"embed"}
    assert all("/fish/" in failure.uri for failure in summary.failures)
    assert_holds_exactly(collection, [ref for ref in refs_of(folder) if ref.label != "fish"])


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten shards of the 40 photographs: actors are sure to have work left at the first results."""
    placement = Placement.of(ray.cluster_resources())  # type: ignore[no-untyped-call]
    monkeypatch.setattr(Placement, "of", lambda resources, **_: replace(placement, shard_size=4))


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize(
    ("seconds", "sizes"), [(0.0, [16, 4, 4, 4, 4, 4, 4]), (3600.0, [16, 16, 8])]
)
def test_commits_hold_many_shards_unless_searches_would_wait_for_them(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, seconds: float, sizes: list[int]
) -> None:
    """By number at first, whatever the time: the hash family is fitted on the first commit."""
    committed = []

    def add(collection: Collection, vectors: NDArray[np.float32], *rest: Any, **more: Any) -> Added:
        committed.append(len(vectors))
        return really_add(collection, vectors, *rest, **more)

    really_add = Collection.add
    monkeypatch.setattr(Collection, "add", add)
    monkeypatch.setattr(committer, "COMMIT_ROWS", 16)
    monkeypatch.setattr(committer, "COMMIT_SECONDS", seconds)
    assert run(folder).added == 40
    assert committed == sizes


@pytest.mark.usefixtures("small_shards")
def test_killed_actors_are_replaced(
    folder: Path, collection: Collection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "at_first_results", lambda: kill_the_actors(run, monkeypatch))
    assert run(folder).added == 40
    assert_holds_exactly(collection, refs_of(folder))


@pytest.mark.usefixtures("small_shards")
def test_actors_that_keep_dying_end_the_job_with_advice(
    folder: Path, collection: Collection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "ACTOR_LOSSES", 0)
    monkeypatch.setattr(run, "at_first_results", lambda: kill_the_actors(run, monkeypatch))
    with pytest.raises(ClusterError, match="run the same command again to go on"):
        run(folder)
    assert 0 < collection.known(refs_of(folder)).sum() < 40


@pytest.mark.usefixtures("small_shards")
def test_an_actors_death_may_be_heard_of_before_its_last_result(
    tmp_path: Path, folder: Path, collection: Collection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    died, wait = tmp_path / "died", ray.wait

    class DiesOnce(EmbedActor):
        shards = 0

        def embed(self, shard: Shard, pixels: Pixels | None) -> tuple[Shard, NDArray[np.float32]]:
            self.shards += 1
            if self.shards == 2 and not died.exists():
                died.touch()
                os._exit(1)
            return super().embed(shard, pixels)

    def last_first(pending: list[Any], *, timeout: float) -> tuple[list[Any], list[Any]]:
        """By then an actor's first shard is done, and the death of the second is known."""
        wait(pending, num_returns=len(pending), timeout=60)
        return pending[-1:], pending[:-1]

    monkeypatch.setattr(pipeline_module, "EmbedActor", DiesOnce)
    monkeypatch.setattr(ray, "wait", last_first)
    assert run(folder).added == 40
    assert died.exists()
    assert_holds_exactly(collection, refs_of(folder))


def kill_the_actors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill all embedding actors, as the kernel does it where memory is short; once.

    All, because one may belong to the run before, whose actors die in their own time.
    """
    monkeypatch.setattr(run, "at_first_results", lambda: None)
    for process in psutil.Process().children(recursive=True):
        if is_actor(process):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def is_actor(process: psutil.Process) -> bool:
    try:
        return "EmbedActor" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_weights_that_do_not_fit_are_reported_as_such(
    folder: Path, collection: Collection, model: Model
) -> None:
    broken = Model(model.backbone, dict(list(model.weights.items())[1:]), model.preprocessing, "fc")
    with pytest.raises(ModelError, match="do not fit the backbone"):
        ingest_images(
            open_source(str(folder)),
            collection=collection,
            model=broken,
            on_progress=lambda _: None,
        )
