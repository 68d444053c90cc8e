"""Thumbnails over HTTP: of what an ingest has read and nobody has changed, and of named places."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from simdist.images.thumbnails import Shelf
from simdist.index.collection import Collection
from simdist.index.thumbnails import make_thumbnails
from simdist.ingest.saved import ingest_saved
from simdist.settings import THUMBNAILS
from simdist.sources import Access, ImageRef, file_uri, open_source
from simdist.sources.saved import SavedEmbeddings
from simdist.store import connect, layout
from tests.archives import dataset_of, shard_of
from tests.conftest import PHOTOS, QUERIES
from tests.object_store import CREDENTIALS, ObjectStore, made_bucket
from tests.servers import running, valkey
from tests.service import COLLECTION, Service, running_service

FISH = QUERIES / "fish.jpg"
DIM = 16


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the service was told to show."""
    return tmp_path_factory.mktemp("named")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's data folder."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, s3_url: str, named: Path, data: Path
) -> Iterator[Service]:
    """A service of an empty collection, with credentials for an object store."""
    environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_url, "SIMDIST_DATA_DIR": str(data)}
    with running(valkey(), tmp_path_factory.mktemp("thumbnails")) as server:
        store = connect(server.url)
        model = "efficientnet-lite0"
        Collection.create(store, COLLECTION, model=model, model_id="m-1", dim=DIM)
        store.close()
        with running_service(server.url, "--thumbnails-from", str(named), **environment) as started:
            yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two photographs, and beside it one of the same names."""
    for name in ("photos/one.jpg", "photos/deep/two.jpg", "private/two.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(FISH, tmp_path / name)
        os.utime(tmp_path / name, ns=(0, 12345))
    return tmp_path / "photos"


def vectors(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng().standard_normal((count, DIM)).astype(np.float32)


def index(service: Service, location: Path | str) -> list[str]:
    """Add what a source lists, as an ingest does; returns the URIs."""
    refs = [ref for ref in open_source(str(location)).entries if isinstance(ref, ImageRef)]
    store = connect(service.redis_url)
    Collection.open(store, COLLECTION).add(vectors(len(refs)), refs)
    store.close()
    return [ref.uri for ref in refs]


def save(service: Service, folder: Path, uris: Sequence[str]) -> None:
    """Ingest saved embeddings of a stranger, who names these."""
    saved = SavedEmbeddings.create(str(folder), access=Access(), model_id="m-1")
    saved.write([ImageRef(uri, "1", 0, None) for uri in uris], vectors(len(uris)))
    store = connect(service.redis_url)
    summary = ingest_saved(
        str(folder),
        store=store,
        name=COLLECTION,
        access=Access(),
        on_progress=lambda _: None,
        expect=1000,
        partitions=1,
    )
    assert summary.added == len(uris)
    store.close()


def thumbnail(service: Service, uri: str) -> str:
    """What comes of a thumbnail: "a picture", or why there is none."""
    answer = service.get(f"/v1/images/{layout.uri_digest(uri).hex()}/thumbnail")
    if answer.status_code == 200:
        assert answer.headers["Content-Type"] == "image/webp"
        return "a picture"
    assert answer.status_code == 404, answer.text
    detail: str = answer.json()["detail"]
    return detail


def test_what_an_ingest_has_read_is_shown(service: Service, folder: Path) -> None:
    photos = sorted((PHOTOS / "fish").iterdir())
    (folder / "a.tar").write_bytes(shard_of(photos[:2]))
    (folder / "a.parquet").write_bytes(dataset_of(photos[2:4]))
    (folder / "list.csv").write_text("path,label\ndeep/two.jpg,fish\n")
    for location in (folder, folder / "a.tar", folder / "a.parquet", folder / "list.csv"):
        for uri in index(service, location):
            assert thumbnail(service, uri) == "a picture"


def test_what_saved_embeddings_name_is_not_shown(
    service: Service, folder: Path, tmp_path: Path, s3_url: str, named: Path
) -> None:
    other = ObjectStore(s3_url, f"other-{uuid4().hex}")
    made_bucket(s3_url, other.bucket)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        other.put("secret.jpg", FISH.read_bytes())
    shutil.copyfile(FISH, named / "fish.jpg")
    shown = file_uri(named / "fish.jpg")
    secret = [file_uri(folder / "one.jpg"), f"{other.uri}/secret.jpg"]
    save(service, tmp_path / "saved", [*secret, shown])
    for uri in secret:
        assert "in no folder or bucket" in thumbnail(service, uri)
        # All else of them is answered as ever.
        record = service.get(f"/v1/images/{layout.uri_digest(uri).hex()}").json()
        assert record["uri"] == uri
    assert thumbnail(service, shown) == "a picture"


def test_what_was_made_for_one_who_may_read_more_is_not_shown(
    service: Service, folder: Path, tmp_path: Path, data: Path
) -> None:
    uri = file_uri(folder / "one.jpg")
    save(service, tmp_path / "saved", [uri])
    store = connect(service.redis_url)
    made = make_thumbnails(
        Collection.open(store, COLLECTION),
        Shelf(data / THUMBNAILS, room=1 << 30),
        roots=[file_uri(folder)],
        access=Access(),
        threads=1,
        on_progress=lambda *_: None,
    )
    store.close()
    assert made.made >= 1
    assert "in no folder or bucket" in thumbnail(service, uri)


@pytest.mark.parametrize(
    ("name", "target"), [("deep/two.jpg", "private/two.jpg"), ("deep", "private")]
)
def test_a_link_that_was_swapped_in_is_not_followed(
    service: Service, folder: Path, name: str, target: str
) -> None:
    _, uri = sorted(index(service, folder), key=lambda uri: "deep" in uri)
    (folder / name).rename(folder / "away")
    (folder / name).symlink_to(folder.parent / target)
    assert "in no folder or bucket" in thumbnail(service, uri)


def test_what_has_changed_is_not_shown(service: Service, folder: Path) -> None:
    uri, piped = sorted(index(service, folder), key=lambda uri: "deep" in uri)
    shutil.copyfile(PHOTOS / "animals" / "horses.jpg", folder / "one.jpg")
    assert "has changed since it was indexed" in thumbnail(service, uri)
    (folder / "deep" / "two.jpg").unlink()
    os.mkfifo(folder / "deep" / "two.jpg")
    assert "can no longer be read" in thumbnail(service, piped)


def test_the_picture_of_an_address_is_fetched_safely(service: Service, tmp_path: Path) -> None:
    inside = "http://127.0.0.1:1/a.jpg"
    save(service, tmp_path, [inside, "urn:shop:1"])
    for uri in (inside, "urn:shop:1"):
        assert thumbnail(service, uri) == "the image can no longer be read from its source"
