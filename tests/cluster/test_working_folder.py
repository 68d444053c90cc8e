"""Commands that are run in a folder full of files which bear the names of modules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simdist.embedding import Embedder
from tests.command_line import tool
from tests.conftest import PHOTOS
from tests.servers import running, valkey
from tests.service import index_photos, running_service

# What simdist and its workers import, the last two by names of their own.
NAMES = ("numpy", "torch", "ray", "redis", "PIL", "json", "cluster", "simdist")
# As a script and as `python -m`, which is asked for the simdist of the working folder.
STARTS = {
    "script": ([str(tool("simdist"))], NAMES),
    "module": ([sys.executable, "-m", "simdist"], NAMES[:-1]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some photographs, and a file beside them for each name that tells if it was imported."""
    (tmp_path / "photos").mkdir()
    for photo in sorted(PHOTOS.glob("*/*.jpg"))[::40]:
        shutil.copy(photo, tmp_path / "photos")
    return tmp_path


def set_traps(folder: Path, names: tuple[str, ...]) -> None:
    for name in names:
        trap = f"open({str(folder / 'sprung')!r}, 'a').write({name!r} + ' ')\nraise SystemExit(9)\n"
        (folder / f"{name}.py").write_text(trap)


def run(folder: Path, start: list[str], *arguments: str, redis_url: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [*start, *arguments],
        cwd=folder,
        env=kept | {"SIMDIST_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        check=False,
    )
    sprung = folder / "sprung"
    assert not sprung.exists(), sprung.read_text()
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("start", STARTS)
def test_an_ingest_and_a_search_import_nothing_of_the_working_folder(
    folder: Path, valkey_url: str, start: str
) -> None:
    """And find what is named by its path from there."""
    command, names = STARTS[start]
    set_traps(folder, names)
    indexed = f"--collection=working-{start}"
    run(
        folder,
        command,
        *("ingest", "photos", indexed, "--model", "efficientnet-lite0", "--actors", "1"),
        redis_url=valkey_url,
    )
    photo = next((folder / "photos").iterdir())
    found = run(
        folder, command, "search", f"photos/{photo.name}", indexed, "--json", redis_url=valkey_url
    )
    assert photo.as_uri() in found


def test_a_service_imports_nothing_of_the_working_folder(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, embedder: Embedder
) -> None:
    """Neither its workers nor what starts HAProxy."""
    set_traps(folder, NAMES[:-1])
    photo = next((folder / "photos").iterdir())
    with running(valkey(), tmp_path_factory.mktemp("valkey")) as server:
        index_photos(server.url, embedder, folder / "photos")
        with running_service(server.url, folder=folder) as service:
            body = photo.read_bytes()
            answer = service.post("/v1/search", data=body, headers={"Content-Type": "image/jpeg"})
            assert answer.json()["hits"][0]["uri"] == photo.as_uri(), json.dumps(answer.json())
    assert not (folder / "sprung").exists(), (folder / "sprung").read_text()
