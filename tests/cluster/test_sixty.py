"""A folder as people have it: all of it is indexed or told, and found again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import simdist
from simdist.embedding import Model
from simdist.index.collection import Collection
from simdist.ingest.failures import kept
from simdist.sources import ImageRef, list_folder
from tests.conftest import PHOTOS
from tests.sixty import write_sixty

pytestmark = pytest.mark.usefixtures("small_ray")


def test_sixty_files_are_indexed_or_told_and_found(
    tmp_path: Path, collection: Collection, valkey_url: str, model: Model
) -> None:
    cases = write_sixty(tmp_path / "sixty")
    assert len(cases) == 60
    index = partial(
        simdist.ingest, collection="photos", model="efficientnet-lite0", redis=valkey_url
    )
    index(PHOTOS)
    summary = index(tmp_path / "sixty")

    failed = {case.name: case.reason for case in cases if case.becomes == "failed"}
    reasons = {f.failure.uri.rpartition("/")[2]: f.failure.reason for f in kept(collection)}
    assert reasons.keys() == failed.keys()
    assert [name for name, reason in failed.items() if not reasons[name].startswith(reason)] == []
    passed = [case.reason for case in cases if case.becomes == "passed over"]
    assert summary.passed_over == {kind: passed.count(kind) for kind in passed}
    indexed = [case for case in cases if case.becomes == "indexed"]
    assert summary.added == len(indexed)

    photos = [ref.uri for ref in list_folder(PHOTOS) if isinstance(ref, ImageRef)]
    vectors = np.stack([_vector(collection, uri) for uri in photos])
    wrong = {}
    for case in indexed:
        found = _vector(collection, (tmp_path / "sixty" / case.name).as_uri())
        nearest = photos[int((vectors @ found).argmax())]
        if case.alike and nearest != case.photo.as_uri():
            wrong[case.name] = nearest
    assert wrong == {}


def _vector(collection: Collection, uri: str) -> NDArray[np.float32]:
    stored = collection.get(uri)
    assert stored is not None, uri
    return stored.vector
