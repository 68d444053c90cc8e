"""Embeddings that were saved are indexed without images, model or Ray."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

import simdist
from simdist.errors import ModelMismatchError, SourceError, UsageError
from simdist.index.collection import Collection
from simdist.ingest.failures import kept
from simdist.ingest.progress import Progress, Summary
from simdist.ingest.saved import ingest_saved
from simdist.sources import Access
from simdist.store import Store
from tests.index_contents import contents


def save(path: Path, vectors: NDArray[np.float32], *, model: str = "clip") -> list[str]:
    """Write embeddings; returns the URIs."""
    uris = [f"s3://elsewhere/{i}.jpg" for i in range(len(vectors))]
    columns = {"uri": uris, "model": [model] * len(uris), "vector": vectors.tolist()}
    kind = pa.list_(pa.float32())
    parquet.write_table(pa.table({**columns, "vector": pa.array(columns["vector"], kind)}), path)
    return uris


def index(store: Store, location: Path, *, force: bool = False) -> tuple[Summary, Progress]:
    seen: list[Progress] = []
    summary = ingest_saved(
        str(location),
        store=store,
        name="saved",
        access=Access(),
        on_progress=seen.append,
        expect=1000,
        partitions=1,
        force=force,
    )
    assert all(a.listed <= b.listed for a, b in pairwise(seen))
    return summary, seen[-1]


def test_they_are_indexed_once_then_skipped_then_replaced(store: Store, tmp_path: Path) -> None:
    uris = save(tmp_path / "a.parquet", np.random.default_rng(0).random((300, 8), np.float32))
    first, last = index(store, tmp_path)
    assert (first.listed, first.added, first.skipped, first.failed) == (300, 300, 0, 0)
    assert (last.listed, last.done, last.listing_done) == (300, 300, True)
    again, last = index(store, tmp_path)
    assert (again.listed, again.added, again.skipped, last.done) == (300, 0, 300, 0)
    forced, _ = index(store, tmp_path, force=True)
    assert (forced.replaced, forced.skipped) == (300, 0)
    assert contents(Collection.open(store, "saved")) == sorted(uris)


def test_vectors_that_cannot_be_indexed_are_failures(store: Store, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).random((300, 4), np.float32)
    vectors[7, 1], vectors[8, 2], vectors[9], vectors[299] = np.inf, np.nan, 0, 1e30
    uris = save(tmp_path / "clip.parquet", vectors)
    summary, last = index(store, tmp_path)
    assert (summary.listed, summary.added, summary.failed) == (300, 296, 4)
    assert (last.done, last.failed) == (296, 4)
    bad = [uris[i] for i in (7, 8, 9, 299)]
    assert [failure.uri for failure in summary.failures] == bad
    found = kept(Collection.open(store, "saved"))
    assert sorted(one.failure.uri for one in found) == sorted(bad)
    assert {(one.failure.stage, one.source) for one in found} == {("embed", str(tmp_path))}


def test_rows_that_cannot_be_stored_are_failures(store: Store, tmp_path: Path) -> None:
    uris = [f"s3://elsewhere/{i}.jpg" for i in range(300)]
    labels, metadata = ["fine"] * 300, ["{}"] * 300
    uris[7], labels[8], metadata[9] = "s3://elsewhere/" + "7" * 70_000, "8" * 70_000, '{"a":' * 300
    metadata[9] += "9" + "}" * 300
    vectors = np.random.default_rng(0).random((300, 4), np.float32)
    table = {"uri": uris, "label": labels, "metadata": metadata, "vector": vectors.tolist()}
    parquet.write_table(pa.table(table | {"model": ["clip"] * 300}), tmp_path / "a.parquet")
    summary, _ = index(store, tmp_path)
    assert (summary.listed, summary.added, summary.failed) == (300, 297, 3)
    reasons = [failure.reason[:12] for failure in summary.failures]
    assert reasons == ["its URI has ", "its label ha", "its metadata"]


def test_rows_that_hold_no_embedding_are_failures(store: Store, tmp_path: Path) -> None:
    uris = [f"s3://elsewhere/{i}.jpg" for i in range(300)]
    uris[7] = "s3://elsewhere/käse.jpg"
    vectors = np.random.default_rng(0).random((300, 4), np.float32).tolist()
    vectors[8] = vectors[8][:3]
    table = {"uri": uris, "vector": vectors, "model": ["clip"] * 300}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    summary, last = index(store, tmp_path)
    assert (summary.listed, summary.added, summary.failed) == (300, 298, 2)
    assert last.listing_done
    found = kept(Collection.open(store, "saved"))
    assert {one.failure.stage for one in found} == {"list"}
    assert [one.failure.uri.partition("#")[2] for one in found] == ["7", "8"]


def test_a_file_whose_first_rows_all_hold_nothing_is_refused(store: Store, tmp_path: Path) -> None:
    table = {"uri": ["ä"] * 3, "vector": [[1.0]] * 3, "model": ["clip"] * 3}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="none of its first rows can be indexed: row 0"):
        index(store, tmp_path)


def test_a_file_without_rows(store: Store, tmp_path: Path) -> None:
    save(tmp_path / "none.parquet", np.empty((0, 4), np.float32))
    summary, last = index(store, tmp_path)
    assert summary == Summary()
    assert last.listing_done


def test_embeddings_of_another_model_or_of_none(store: Store, tmp_path: Path) -> None:
    table = {"uri": ["a"], "vector": [[1.0, 2.0]]}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="column 'model'"):
        index(store, tmp_path)
    save(tmp_path / "a.parquet", np.ones((1, 2), np.float32), model="net")
    index(store, tmp_path)
    save(tmp_path / "a.parquet", np.ones((1, 2), np.float32))
    with pytest.raises(ModelMismatchError, match="not with clip"):
        index(store, tmp_path)


class TestIngest:
    def test_neither_ray_nor_pytorch_is_loaded(self, tmp_path: Path, valkey_url: str) -> None:
        save(tmp_path / "a.parquet", np.random.default_rng(0).random((300, 8), np.float32))
        code = (
            "import sys, simdist\n"
            "location, redis = sys.argv[1:]\n"
            "summary = simdist.ingest(location, collection='apart', redis=redis)\n"
            "print(summary.added, sorted({'ray', 'torch'} & set(sys.modules)))"
        )
        output = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), valkey_url],
            capture_output=True,
            text=True,
            check=True,
        )
        assert output.stdout == "300 []\n"

    def test_options_that_make_no_sense_for_embeddings(self, tmp_path: Path) -> None:
        save(tmp_path / "a.parquet", np.ones((1, 2), np.float32))
        with pytest.raises(UsageError, match="leave out the options"):
            simdist.ingest(tmp_path, limit=1)
        with pytest.raises(UsageError, match="leave out the options"):
            simdist.ingest(tmp_path, prune=lambda _: True)
        with pytest.raises(UsageError, match="leave out the options"):
            simdist.ingest(tmp_path, save_embeddings=str(tmp_path / "elsewhere"))
