"""What the tests of the pipeline share: a model, collections, and a look at a whole index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simdist.embedding import Embedder, Model, load_model
from simdist.index.collection import Collection
from simdist.sources import ImageRef, list_folder
from simdist.store import connect
from tests.conftest import PHOTOS, ROOT
from tests.hostile import READ_TOKEN, WRITE_TOKEN
from tests.index_contents import contents
from tests.servers import running, valkey
from tests.service import COLLECTION, Service, index_photos, running_service

SPARE = ("spare", "other")


@pytest.fixture(scope="module", autouse=True)
def _workers_find_the_tests() -> Iterator[None]:
    """Ray's workers import the actors that tests define, though nothing of the working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def model() -> Model:
    return load_model("efficientnet-lite0")


@pytest.fixture
def collection(valkey_url: str, model: Model) -> Iterator[Collection]:
    """An empty collection on the embedded server."""
    store = connect(valkey_url)
    store.call("FLUSHALL")
    yield Collection.ensure(store, "photos", model=model)
    store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of links to 40 of the example photographs, eight of each category."""
    for category in PHOTOS.iterdir():
        (tmp_path / "photos" / category.name).mkdir(parents=True)
        for photo in sorted(category.iterdir())[:8]:
            (tmp_path / "photos" / category.name / photo.name).symlink_to(photo)
    return tmp_path / "photos"


def refs_of(folder: Path) -> list[ImageRef]:
    """The images of a folder."""
    return [entry for entry in list_folder(folder) if isinstance(entry, ImageRef)]


def assert_holds_exactly(collection: Collection, refs: Iterable[ImageRef]) -> None:
    """Each image is there once and findable, and no row or posting is left that is nobody's."""
    refs = list(refs)
    assert collection.known(refs).all()
    assert contents(collection) == sorted(ref.uri for ref in refs)


def without_servers(**more: str) -> dict[str, str]:
    """The environment without a server or a cluster that the caller may have named."""
    kept = {k: v for k, v in os.environ.items() if k not in ("SIMDIST_REDIS_URL", "RAY_ADDRESS")}
    return kept | more


@contextmanager
def guarded_service(folder: Path, embedder: Embedder, **environment: str) -> Iterator[Service]:
    """A service with a token of each kind, on the photographs and a server of its own."""
    tokens = folder / "tokens"
    tokens.write_text(f"read {READ_TOKEN}\nwrite {WRITE_TOKEN}\n")
    with running(valkey(), folder / "valkey") as server:
        index_photos(server.url, embedder)
        # Two names for collections that callers may make.
        names = [word for name in (COLLECTION, *SPARE) for word in ("--collection", name)]
        with running_service(server.url, "--tokens", str(tokens), *names, **environment) as started:
            yield started


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Service]:
    """A service with tokens, on a collection of its own."""
    with guarded_service(tmp_path_factory.mktemp("guarded"), embedder) as started:
        yield started
