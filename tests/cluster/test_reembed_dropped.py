"""A collection is dropped at any command of its `reembed`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.ingest import reembed as reembedding
from simdist.index.collection import Collection
from simdist.ingest.committer import Committer
from simdist.ingest.listing import Listing
from simdist.ingest.progress import Progress
from simdist.store import Store, connect
from tests.collections import DIM, filled, vectors
from tests.conftest import LONG
from tests.endings import CLEAR, ENDS, End, every_answer

pytestmark = pytest.mark.slow

COUNT = 40
# Each command by one of the three ways in which it ends.
STEP = 1 if LONG else 3
MODEL: Any = SimpleNamespace(id="m-2", source="m", backbone="m", dim=DIM, licence="")
# What is beside it has its own name.
CLEAR_OF_BOTH = CLEAR.replace("'test'", r"'test(\.next)?'")


def embed_all(listing: Listing, committer: Committer, *_: Any, **__: Any) -> Progress:
    """The pipeline, but for Ray."""
    while listing.more(seconds=60):
        if shard := listing.take(16):
            committer.hold(vectors(len(shard.refs), seed=3), shard.refs)
            committer.flush()
    return committer.progress(listing.count)


def reembed(collection: Collection, _: Path, *, keep: str | None = None) -> None:
    reembedding.reembed(collection.store, "test", model=MODEL, keep=keep)


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reembedding, "run_pipeline", embed_all)
    monkeypatch.setattr(reembedding, "ray_session", lambda _: nullcontext())
    monkeypatch.setattr(reembedding, "_GRACE", 0)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("keep", [None, "other"])
def test_a_collection_is_dropped_at_any_command(
    valkey_url: str, tmp_path: Path, end: End, keep: str | None
) -> None:
    make: Callable[[Store], object] = partial(filled, count=COUNT)
    use = partial(reembed, keep=keep)
    with closing(connect(valkey_url)) as store, closing(connect(valkey_url)) as other:
        answers = list(every_answer(store, other, use, end, tmp_path, make=make, step=STEP))
    assert len(answers) - answers.count("") > 20 // STEP
    assert [text for text in answers if not re.fullmatch(CLEAR_OF_BOTH, text)] == []
