"""The examples in docstrings can be run as they stand there.

`Client`'s needs a service: tests/cluster/test_serving_page.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import simdist
from cluster.ingest.job import ingest
from simdist.embedding import Embedder
from simdist.settings import Settings
from simdist.sources import ImageRef, list_folder, uri_path
from simdist.store import open_store
from tests.command_line import CommandLine
from tests.conftest import PHOTOS
from tests.docstrings import run_examples


@pytest.fixture
def folder(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photographs, on an empty server."""
    (tmp_path / "photos").mkdir()
    fish = sorted((PHOTOS / "fish").glob("*.jpg"))[:3]
    for photo in fish:
        shutil.copy(photo, tmp_path / "photos")
    for photo, name in zip(fish, ("a.jpg", "b.jpg", "photo.jpg"), strict=True):
        shutil.copy(photo, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder", "small_ray")
@pytest.mark.parametrize("documented", [simdist, ingest], ids=["simdist", "ingest"])
def test_an_ingest_and_a_search(documented: object) -> None:
    run_examples(documented, simdist=simdist)


@pytest.mark.usefixtures("folder")
def test_an_embedder() -> None:
    run_examples(Embedder, Embedder=Embedder, Path=Path)


def test_a_collection(folder: Path, embedder: Embedder) -> None:
    refs = [ref for ref in list_folder(folder / "photos") if isinstance(ref, ImageRef)]
    vectors = embedder.embed_files([uri_path(ref.uri) for ref in refs])
    with open_store(Settings.resolve()) as store:
        simdist.Collection.ensure(store, "images", model=embedder.model).add(vectors, refs)
    run_examples(simdist.Collection, simdist=simdist, vector=vectors[0])


@pytest.mark.usefixtures("folder")
def test_lshash() -> None:
    run_examples(simdist.LSHash, LSHash=simdist.LSHash)
