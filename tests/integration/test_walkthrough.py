"""The walk-through's commands can be run as they stand, on few pictures."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from simdist.sources import reading
from simdist.sources.web import fetch
from tests.command_line import CommandLine
from tests.conftest import PHOTOS, QUERIES, ROOT

PAGE = ROOT / "examples" / "walkthrough.md"
COMMAND = re.compile(r"^    simdist (.*)$", re.MULTILINE)
COMMANDS = [shlex.split(line) for line in COMMAND.findall(PAGE.read_text())]
# Stands in the page for an address of the reader's own.
ADDRESS = "https://example.com/photo.jpg"
# What few pictures ask for: 8 of each category to train with, so that some are left for testing,
# and no more buckets than pictures.
SHORT = {
    "train": ["--epochs", "2+1", "--images", "8", "--batch", "4"],
    "rehash": ["--size", "3"],
}


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A photograph on a web server of this machine, which simdist may read for once."""
    monkeypatch.setattr(reading, "fetch", partial(fetch, allow_loopback=True))
    handler = partial(_Handler, directory=str(QUERIES))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/fish.jpg"
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a `caltech-101` of three categories, and the two that are left out."""
    names = {"fish": 14, "monuments": 14, "tools": 14, "BACKGROUND_Google": 2, "Faces_easy": 2}
    for name, count in names.items():
        (tmp_path / "caltech-101" / name).mkdir(parents=True)
        source = PHOTOS / (name if (PHOTOS / name).is_dir() else "animals")
        for photo in sorted(source.glob("*.jpg"))[:count]:
            shutil.copy(photo, tmp_path / "caltech-101" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("small_ray")
def test_the_walkthrough_can_be_walked(cli: CommandLine, folder: Path, address: str) -> None:
    assert [command[0] for command in COMMANDS] == [
        *("train", "ingest", "ingest", "eval", "eval", "rehash", "rehash", "search"),
    ]
    printed = []
    for command in COMMANDS:
        given = [address if argument == ADDRESS else argument for argument in command]
        given += SHORT.get(command[0], [])
        result = cli.run(*given)
        assert result.code == 0, (given, result)
        printed.append(result.out)
    assert "3 categories, 18 images to learn from, 6 to check with, 18 left to test" in printed[0]
    assert "18 listed: 18 added" in printed[1]
    # It ends with pictures that are like the one at the address.
    rows = [line.split() for line in printed[-1].splitlines()[1:6]]
    assert len(rows) == 5
    assert [row[2] for row in rows].count("fish") >= 4
    for name in ("precision.png", "worst.jpg", "similar.jpg"):
        with Image.open(folder / name) as picture:
            assert picture.width > 500


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text())
    assert len(targets) > 4
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []
