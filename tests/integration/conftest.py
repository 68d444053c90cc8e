"""A command line on a store, and a small collection of real photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.sources import ImageRef, list_folder, uri_path
from simdist.store import connect
from tests.command_line import CommandLine
from tests.conftest import PHOTOS


def embedded(paths: list[Path], embedder: Embedder, config: pytest.Config) -> NDArray[np.float32]:
    """The photographs' vectors; they are computed once, and kept in pytest's cache."""
    assert config.cache is not None
    digest = hashlib.sha256(embedder.model.id.encode())
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    folder = config.cache.mkdir("photographs")
    file = folder / f"{digest.hexdigest()}.npy"
    if not file.exists():
        # Two processes may come here at once: each writes a file of its own, the last one stays.
        whole = folder / f"{uuid4().hex}.npy"
        np.save(whole, embedder.embed_files(paths))
        whole.replace(file)
    vectors: NDArray[np.float32] = np.load(file)
    return vectors


@pytest.fixture(scope="session")
def photo_dump(
    embedder: Embedder, valkey_url: str, pytestconfig: pytest.Config
) -> dict[bytes, bytes]:
    """The keys of a collection `photos` of all example photographs, made once."""
    store = connect(valkey_url)
    store.call("FLUSHALL")
    refs = [ref for ref in list_folder(PHOTOS) if isinstance(ref, ImageRef)]
    collection = Collection.ensure(store, "photos", model=embedder.model)
    collection.add(embedded([uri_path(ref.uri) for ref in refs], embedder, pytestconfig), refs)
    keys = store.call("KEYS", "*")
    dump = dict(zip(keys, store.call_many([("DUMP", key) for key in keys]), strict=True))
    store.close()
    return dump


@pytest.fixture
def photos(
    cli: CommandLine, photo_dump: dict[bytes, bytes], valkey_url: str
) -> Iterator[Collection]:
    """The collection `photos`, in the store that `cli` uses."""
    store = connect(valkey_url)
    store.call("FLUSHALL")
    store.call_many([("RESTORE", key, 0, value) for key, value in photo_dump.items()])
    yield Collection.open(store, "photos")
    store.close()
