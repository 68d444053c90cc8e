"""Whatever is killed at whatever moment, the same command again ends with the same index."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from simdist.embedding import Embedder
from simdist.errors import SimdistError
from simdist.index.collection import Collection
from simdist.settings import Settings
from simdist.sources import ImageRef
from simdist.store import (
    Store,
    connect,
    layout,
    open_store,
)
from simdist.store.embedded import PID_FILE, SOCKET_FILE
from tests.cluster.conftest import assert_holds_exactly, refs_of, without_servers
from tests.conftest import LONG, PHOTOS
from tests.embedded import in_a_container, keeper_of
from tests.service import COLLECTION, index_photos

# So many at first: with them the collection is fitted, and what follows is committed as it comes.
FIRST = PHOTOS / "fish"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def start(data_dir: Path) -> subprocess.Popen[str]:
    arguments = ["ingest", str(PHOTOS), "-c", COLLECTION, "--model", "efficientnet-lite0"]
    return subprocess.Popen(
        # In small steps, or a fast machine would commit all that it embeds at once.
        [sys.executable, "-m", "tests.cluster.driver", "together", *arguments],
        env=without_servers(SIMDIST_DATA_DIR=str(data_dir)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, code: int = 0) -> str:
    out, _ = process.communicate(timeout=200)
    assert process.returncode == code, out
    return out


def kill_driver(driver: psutil.Process, data_dir: Path) -> None:
    driver.kill()


def kill_actor(driver: psutil.Process, data_dir: Path) -> None:
    actors = [
        p for p in driver.children(recursive=True) if "SmallStepActor" in " ".join(p.cmdline())
    ]
    random.Random(3).choice(sorted(actors, key=lambda process: process.pid)).kill()


def kill_server(driver: psutil.Process, data_dir: Path) -> None:
    psutil.Process(int((data_dir / PID_FILE).read_text())).kill()


def start_another_server(driver: psutil.Process, data_dir: Path) -> None:
    """Nobody keeps the server any more, and a command in another container wants one there."""
    keeper_of(data_dir).kill()
    server = (data_dir / PID_FILE).read_text()
    command = in_a_container(sys.executable, "-m", "simdist", "status")
    subprocess.run(command, env=without_servers(SIMDIST_DATA_DIR=str(data_dir)), check=True)
    assert (data_dir / PID_FILE).read_text() == server


@pytest.mark.parametrize(
    ("kill", "code", "message"),
    [
        (kill_driver, -9, ""),
        (kill_server, 1, "error: cannot reach Redis"),
        # tests/cluster/test_faults.py kills actors, too; test_embedded.py has second servers.
        *(
            [
                (kill_actor, 0, "154 listed: 127 added"),
                (start_another_server, 0, "154 listed: 127 added"),
            ]
            if LONG
            else []
        ),
    ],
)
def test_the_index_is_whole_after_a_kill(
    data_dir: Path,
    embedder: Embedder,
    kill: Callable[[psutil.Process, Path], None],
    code: int,
    message: str,
) -> None:
    with open_store(Settings.resolve(data_dir=data_dir)) as store:
        index_photos(store.url, embedder, FIRST)
    ingest = start(data_dir)
    known = len(refs_of(FIRST))
    at = known + random.Random(kill.__name__).randrange(1, 90)
    wait_for_images(data_dir, at, ingest)
    kill(psutil.Process(ingest.pid), data_dir)
    out = finish(ingest, code=code)
    assert message in out
    assert "Traceback" not in out

    out = finish(start(data_dir))
    assert "154 listed" in out
    assert "0 replaced" in out
    with open_store(Settings.resolve(data_dir=data_dir)) as store:
        assert_holds_exactly(Collection.open(store, COLLECTION), photographs())


def photographs() -> list[ImageRef]:
    return refs_of(PHOTOS)


def wait_for_images(data_dir: Path, count: int, ingest: subprocess.Popen[str]) -> None:
    """Wait until so many images are committed, without keeping the server alive."""
    store: Store | None = None
    while ingest.poll() is None:
        try:
            store = store or connect(f"unix://{quote((data_dir / SOCKET_FILE).read_text())}")
            if int(store.call("HGET", layout.Keys(COLLECTION).meta, "live")) >= count:
                store.close()
                return
        except (SimdistError, OSError):
            store = None  # the server is just starting
        time.sleep(0.02)
    raise AssertionError(f"ended early: {ingest.communicate()[0]}")
