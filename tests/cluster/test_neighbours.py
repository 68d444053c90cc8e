"""Neighbours over Ray: the same as in one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.joining.job import write_neighbours
from simdist.joining.plan import Wanted
from simdist.settings import Settings
from simdist.store import Store
from tests.collections import create, ref, vectors

IMAGES = 17_000


@pytest.mark.usefixtures("small_ray")
def test_tasks_find_what_one_process_finds(store: Store, tmp_path: Path) -> None:
    collection = create(store)
    collection.add(vectors(IMAGES), [ref(i) for i in range(IMAGES)])
    here = Settings.resolve(data_dir=tmp_path / "data")
    written = []
    for name, settings in (("here", here), ("ray", replace(here, ray_address="auto"))):
        out = tmp_path / name
        outcome = write_neighbours(
            collection,
            Wanted(k=4),
            str(out),
            settings=settings,
            on_progress=lambda *_: None,
        )
        assert (outcome.images, outcome.found) == (IMAGES, IMAGES)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) > 1
