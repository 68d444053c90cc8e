"""Another model for a collection that is in use."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

import simdist
from cluster.ingest.reembed import BESIDE, reembed
from simdist.embedding import Embedder, Model, load_model
from simdist.embedding.model import save_bundle
from simdist.errors import UsageError
from simdist.images.resizing import Resize
from simdist.index import names
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.declared import Field, declare, declared
from simdist.index.names import Names
from simdist.joining.decisions import Decisions
from simdist.search.question import Question
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef, list_folder
from simdist.sources.background import in_background
from simdist.store import Store, connect
from tests.cluster.conftest import without_servers
from tests.command_line import CommandLine
from tests.conftest import CALTECH, LONG, PHOTOS
from tests.index_contents import contents
from tests.servers import eventually, running, valkey
from tests.service import running_service

Answer = tuple[tuple[str, float], ...]

NAME = "shop"
SEARCHERS, CLIENTS = 2, 8


@pytest.fixture(scope="module")
def bundle(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, which sees another part of each picture."""
    folder = tmp_path_factory.mktemp("other") / "bundle"
    cropping = replace(model.preprocessing, resize=Resize.crop)
    save_bundle(replace(model, preprocessing=cropping), folder)
    return folder


@pytest.fixture(scope="module")
def other(bundle: Path) -> Model:
    return load_model(str(bundle))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Some of the photographs, as files of their own."""
    for category in PHOTOS.iterdir():
        (tmp_path / "photos" / category.name).mkdir(parents=True)
        for photo in sorted(category.iterdir())[:8]:
            shutil.copy(photo, tmp_path / "photos" / category.name)
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with running(valkey(), tmp_path / "valkey") as server, closing(connect(server.url)) as opened:
        yield opened


def index(store: Store, photos: Path) -> None:
    simdist.ingest(photos, collection=NAME, model="efficientnet-lite0", redis=store.url)


def kept(collection: Collection) -> dict[str, tuple[str | None, str]]:
    """What is known of each image, but for its embedding."""
    return {
        record.uri: (record.label, repr(record.metadata))
        for partition in collection.partitions
        for _, records in partition.blocks.records(0, partition.state().rows)
        for record in records
    }


def test_searches_go_on_and_all_is_there(
    store: Store, photos: Path, other: Model, small_ray: None
) -> None:
    index(store, photos)
    old = Collection.open(store, NAME)
    declare(old, [Field.parse("price:float")])
    uris = contents(old)
    amend(old, uris[3:4], Amendment(label="mine", metadata={"price": 3.5}))
    Decisions(keep=frozenset(uris[:2])).add_to(old)
    names.set_alias(store, "live", NAME)
    before, uri = kept(old), uris[5]
    done, asked = Event(), Question(uri=uri, n=8, recall=None)

    def search() -> set[Answer]:
        searcher, found = Searcher(Collection.open(store, NAME)), set()
        while not done.is_set():
            hits = searcher.ask(asked)
            found.add(tuple((hit.uri, round(hit.score, 5)) for hit in hits))
            time.sleep(0.01)
        return found

    runs = [in_background(search) for _ in range(SEARCHERS)]
    first = {tuple((hit.uri, round(hit.score, 5)) for hit in Searcher(old).ask(asked))}
    summary = reembed(store, "live", model=other)
    assert (summary.added, summary.failed) == (len(uris), 0)
    new = Collection.open(store, NAME)
    then = {tuple((hit.uri, round(hit.score, 5)) for hit in Searcher(new).ask(asked))}
    done.set()
    answers = set[Answer]().union(*(run.result(60) for run in runs))
    # Each is of one of both.
    assert answers <= first | then
    assert first != then
    assert new.model_id == other.id
    assert kept(new) == before
    assert contents(new) == uris
    assert declared(new) == (Field("price", "float"),)
    assert Decisions.read(new).keep == frozenset(uris[:2])
    # What was there is gone, and ingests know the images still.
    assert Names.read(store).aliases == {"live": NAME}
    assert list(Names.read(store).collections) == [NAME]
    assert new.known(_refs(photos)).all()
    with pytest.raises(UsageError, match="already"):
        reembed(store, NAME, model=other)


def _refs(photos: Path) -> list[ImageRef]:
    return [ref for ref in list_folder(photos) if isinstance(ref, ImageRef)]


@pytest.mark.usefixtures("small_ray")
def test_what_cannot_be_read_is_not_lost_unasked(
    store: Store, photos: Path, bundle: Path, other: Model, cli: CommandLine
) -> None:
    index(store, photos)
    old = Collection.open(store, NAME)
    gone, deleted, amended, *_ = contents(old)
    Path(gone.removeprefix("file://")).unlink()
    command = ("reembed", "-c", NAME, "--model", str(bundle), "--redis", store.url)
    result = cli.run(*command)
    assert result.code == 3
    assert "Cannot be embedded: 1. So shop stays as it was" in result.out
    assert Collection.open(store, NAME).model_id == old.model_id
    assert Path(gone).name in cli.run("failures", "-c", NAME + BESIDE, "--redis", store.url).out
    # Meanwhile one is deleted, and something else is said of another.
    amend(old, [amended], Amendment(label="mine"))
    old.delete([deleted])
    result = cli.run(*command, "--without-failed", "--keep", "before")
    assert result.code == 0, result
    new = Collection.open(store, NAME)
    assert new.model_id == other.id
    assert contents(new) == [uri for uri in contents(old) if uri != gone]
    assert kept(new)[amended] == kept(old)[amended]
    assert kept(new)[amended][0] == "mine"
    assert sorted(Names.read(store).collections) == ["before", NAME]


@pytest.mark.timeout(3600 if LONG else 900)
def test_killed_twice_it_loses_no_search(
    store: Store, photos: Path, bundle: Path, other: Model
) -> None:
    """By image and by URI, while the model changes: each answer is of one of both.

    Before a release, of all of Caltech-101.
    """
    folder = CALTECH if LONG else photos
    index(store, folder)
    uris = contents(Collection.open(store, NAME))
    photo = Path(url2pathname(urlsplit(uris[5]).path))
    ways: list[dict[str, Any]] = [
        {"data": photo.read_bytes(), "headers": {"Content-Type": "image/jpeg"}},
        {"json": {"uri": uris[5]}},
    ]
    done = Event()

    with running_service(store.url, "--collection", NAME) as service:

        def ask(way: dict[str, Any]) -> Answer:
            asked = {"n": 8, "recall": 1}
            answered = service.post("/v1/search", params=asked, **way)
            # On a busy machine a model may take longer to load than a request may: clients, such
            # as simdist's own, ask again then.
            while answered.status_code == 503:
                answered = service.post("/v1/search", params=asked, **way)
            assert answered.status_code == 200, answered.text
            return tuple((hit["uri"], round(hit["score"], 3)) for hit in answered.json()["hits"])

        def keep_asking(number: int) -> set[Answer]:
            found = set()
            while not done.is_set():
                found.add(ask(ways[number % len(ways)]))
                time.sleep(0.05)
            return found

        first = [ask(way) for way in ways]
        runs = [in_background(keep_asking, number) for number in range(CLIENTS)]
        _reembed_killed_twice(store, bundle, images=len(uris))
        done.set()
        seen = [run.result(60) for run in runs]
        eventually(lambda: ask(ways[0]) != first[0])
        then = [ask(way) for way in ways]
    for number, answers in enumerate(seen):
        way = number % len(ways)
        assert answers <= {first[way], then[way]}
    new = Collection.open(store, NAME)
    assert new.model_id == other.id
    assert contents(new) == uris
    assert list(Names.read(store).collections) == [NAME]
    [vector] = Embedder(other).embed_files([photo])
    here = Searcher(new).search(vector, n=8, recall=1)
    assert [hit.uri for hit in here] == [uri for uri, _ in then[0]]


def _reembed_killed_twice(store: Store, bundle: Path, *, images: int) -> None:
    command = ["reembed", "-c", NAME, "--model", str(bundle), "--redis", store.url]
    program = [sys.executable, "-m", "tests.cluster.driver", "together", *command]
    # While it embeds; and when most are done.
    for share in (0, 0.6):
        process = subprocess.Popen(program, env=without_servers(), stderr=subprocess.DEVNULL)
        while process.poll() is None and not _got_to(store, share * images):
            time.sleep(0.02)
        process.kill()
        process.wait()
    ended = subprocess.run(program, env=without_servers(), capture_output=True, check=False)
    # It may have been done just before it was killed.
    assert ended.returncode == 0 or b"already" in ended.stderr, ended


def _got_to(store: Store, images: float) -> bool:
    begun = NAME + BESIDE in Names.read(store).collections
    return begun and (not images or Collection.open(store, NAME + BESIDE).count() > images)
