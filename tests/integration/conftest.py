"""A command line on a store, and a small collection of real photographs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.sources import ImageRef, list_folder, uri_path
from simdist.store import connect
from tests.command_line import CommandLine
from tests.conftest import PHOTOS


@pytest.fixture(scope="session")
def photo_dump(embedder: Embedder, valkey_url: str) -> dict[bytes, bytes]:
    """The keys of a collection `photos` of all example photographs, made once."""
    store = connect(valkey_url)
    store.call("FLUSHALL")
    refs = [ref for ref in list_folder(PHOTOS) if isinstance(ref, ImageRef)]
    collection = Collection.ensure(store, "photos", model=embedder.model)
    collection.add(embedder.embed_files([uri_path(ref.uri) for ref in refs]), refs)
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
