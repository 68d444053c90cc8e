"""The pipeline on what does not lie in a folder: what comes out is what a folder gives."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from cluster.ingest.driver import ingest_images
from simdist.embedding import Model
from simdist.index.collection import Collection
from simdist.ingest.progress import Summary
from simdist.sources import Columns, Selection, open_source, uri_path
from tests.archives import dataset_of, shard_of
from tests.cluster.conftest import refs_of
from tests.object_store import FlakyProxy, ObjectStore

pytestmark = pytest.mark.usefixtures("small_ray_at_s3")


@pytest.fixture
def filled(s3: ObjectStore, folder: Path) -> ObjectStore:
    """A bucket with the photographs of `folder`, as they are, and in archives and lists."""
    photos = sorted(folder.rglob("*.jpg"))
    s3.put_folder(folder, "photos")
    for half in (0, 1):
        s3.put(f"shards/{half:03}.tar", shard_of(photos[20 * half : 20 * half + 20]))
    s3.put("tables/all.parquet", dataset_of(photos))
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["file", "kind", "name", "width"])
    for photo in photos:
        rows.writerow([f"photos/{photo.relative_to(folder)}", photo.parent.name, photo.stem, 7])
    s3.put("list.csv", text.getvalue().encode())
    return s3


def run(
    source: str, collection: Collection, model: Model, columns: Columns | None = None
) -> Summary:
    return ingest_images(
        open_source(source, selection=Selection(columns=columns or Columns())),
        collection=collection,
        model=model,
        on_progress=lambda _: None,
    )


def test_a_store_and_a_folder_give_the_same_index(
    folder: Path, filled: ObjectStore, collection: Collection, model: Model
) -> None:
    assert run(str(folder), collection, model).added == 40
    refs = refs_of(folder)
    expected = [(collection.get(ref.uri), Path(ref.uri)) for ref in refs]
    sources = {
        "photos": [f"photos/{'/'.join(path.parts[-2:])}" for _, path in expected],
        "shards/{000..001}.tar": [f"shards/{i // 20:03}.tar#{i % 20:04}.jpg" for i in range(40)],
        "tables/*.parquet": [f"tables/all.parquet#{i}" for i in range(40)],
    }
    for source, members in sources.items():
        summary = run(f"{filled.uri}/{source}", collection, model)
        assert (summary.added, summary.failed) == (40, 0), summary
        for member, (image, path) in zip(members, expected, strict=True):
            stored = collection.get(f"{filled.uri}/{member}")
            assert image is not None
            assert stored is not None
            np.testing.assert_array_equal(stored.vector, image.vector)
            assert stored.label == image.label == path.parent.name
            said: dict[str, object] = {} if source == "photos" else {"name": path.stem}
            assert stored.metadata == {**image.metadata, **said}
            assert image.metadata["bytes"] == uri_path(image.uri).stat().st_size
        again = run(f"{filled.uri}/{source}", collection, model)
        assert (again.added, again.skipped) == (0, 40)

    # The list names objects that are indexed, and knows more of them.
    columns = Columns(uri="file", label="kind")
    summary = run(f"{filled.uri}/list.csv", collection, model, columns=columns)
    assert (summary.replaced, summary.failed) == (40, 0)
    stored = collection.get(f"{filled.uri}/photos/fish/clownfish.jpg")
    assert stored is not None
    # What the list says wins over what the file says.
    assert stored.label == "fish"
    assert stored.metadata.items() >= {"name": "clownfish", "width": "7", "format": "JPEG"}.items()


def test_an_object_that_is_lost_on_the_way_costs_no_other(
    filled: ObjectStore, collection: Collection, model: Model
) -> None:
    filled.put("photos/fish/not-an-image.jpg", b"<html>")
    proxy = FlakyProxy(filled.url)
    try:
        proxy.trouble["clownfish.jpg"] = ["404"]
        proxy.trouble["horses.jpg"] = ["503"] * 2
        summary = ingest_images(
            open_source(f"{filled.uri}/photos", access=filled.at(proxy.url).access),
            collection=collection,
            model=model,
            on_progress=lambda _: None,
        )
    finally:
        proxy.close()
    assert (summary.added, summary.failed) == (39, 2)
    failures = {failure.uri.rpartition("/")[2]: failure for failure in summary.failures}
    assert failures["clownfish.jpg"].stage == "fetch"
    assert failures["clownfish.jpg"].reason.startswith("there is no s3://")
    assert failures["not-an-image.jpg"].stage == "decode"
    assert run(f"{filled.uri}/photos", collection, model).added == 1
