"""The commands that docs/serving.md shows can be run as they are, and so can `Client`'s example."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import simdist
from simdist.embedding import Embedder
from simdist.sources import ImageRef
from simdist.store import connect
from tests.conftest import QUERIES, ROOT
from tests.docstrings import run_examples
from tests.servers import running, valkey
from tests.service import running_service

PAGE = (ROOT / "docs" / "serving.md").read_text()
HERE = "http://127.0.0.1:8000"
TOKENS = "read read-read-read-read\nwrite write-write-write-write\n"


def commands(start: str) -> list[str]:
    return re.findall(rf"^    ({start} .*)$", PAGE, re.MULTILINE)


@pytest.fixture
def shop(tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a photograph, its embedding and tokens."""
    shutil.copy(QUERIES / "fish.jpg", tmp_path / "photo.jpg")
    np.save(tmp_path / "vector.npy", embedder.embed_files([QUERIES / "fish.jpg"])[0])
    (tmp_path / "tokens.txt").write_text(TOKENS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.timeout(900)
def test_the_commands_work(shop: Path, embedder: Embedder) -> None:
    started = 0
    with running(valkey(), shop / "redis") as redis:
        store = connect(redis.url)
        collection = simdist.Collection.ensure(store, "shop", model=embedder.model)
        photos = sorted(QUERIES.glob("*.jpg"))[:3]
        refs = [ImageRef(f"urn:shop:{n}", "1", 1, "fish") for n in (4711, 4713, 4714)]
        collection.add(embedder.embed_files(photos), refs)
        store.close()
        for line in commands("simdist serve"):
            arguments = shlex.split(line)[2:]
            with running_service(redis.url, *arguments) as service:
                started += 1
                if "--tokens" in arguments:
                    assert service.get("/v1/collections").status_code == 401
                    continue
                for command in commands("curl"):
                    here = command.replace(HERE, service.url).replace("curl ", "curl -sS -f ", 1)
                    subprocess.run(here, shell=True, check=True, capture_output=True)  # noqa: S602
                for command in commands("simdist search"):
                    words = shlex.split(command.replace(HERE, service.url))
                    subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True)
                run_examples(simdist.Client, here=service.url, simdist=simdist, Path=Path)
    assert started == 2


def test_there_are_commands() -> None:
    assert [len(commands(start)) for start in ("simdist serve", "curl", "simdist search")] == [
        *(2, 12, 3)
    ]
