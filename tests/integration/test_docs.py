"""The commands that the pages in docs/ show can be run as they are."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import requests

from tests.command_line import CommandLine
from tests.conftest import PHOTOS, ROOT
from tests.object_store import ObjectStore, made_bucket

COMMAND = re.compile(r"^    simdist (.*)$", re.MULTILINE)
# Stands in the pages for an endpoint of the reader's own.
ENDPOINT = "https://minio.example:9000"
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
FOLDERS = ("docs", "deploy", "examples")
LINKING = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))]
)


def commands(page: str) -> list[list[str]]:
    """What a page shows, but for the service: that is tests/cluster/test_serving_page.py's."""
    found = map(shlex.split, COMMAND.findall((ROOT / "docs" / page).read_text()))
    return [words for words in found if words[0] != "serve" and "--server" not in words]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with some photographs, a list of them, and one file that is none."""
    for photo in sorted((PHOTOS / "fish").iterdir())[:3]:
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(photo, tmp_path / "photos")
    (tmp_path / "photos" / "text.jpg").write_text("no picture")
    names = [path.name for path in (tmp_path / "photos").iterdir()]
    rows = [f"photos/{name},fish" for name in names]
    (tmp_path / "photos.csv").write_text("\n".join(["link,kind", *rows, ""]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("small_ray_at_s3")
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_work(page: str, cli: CommandLine, folder: Path, s3: ObjectStore) -> None:
    made_bucket(s3.url, "bucket").put_folder(folder / "photos", "photos")
    made_bucket(s3.url, "public-bucket")
    for photo in (folder / "photos").iterdir():
        address = f"{s3.url}/public-bucket/photos/{photo.name}"
        public = {"x-amz-acl": "public-read"}
        requests.put(address, data=photo.read_bytes(), headers=public, timeout=30)
    for arguments in commands(page):
        if arguments[0] == "ingest":
            # Without it the weights of the default model would be downloaded.
            arguments += ["--model", "efficientnet-lite0"]
        given = [s3.url if argument == ENDPOINT else argument for argument in arguments]
        result = cli.run(*given)
        # One of the files is no picture, today and when it is tried again.
        expected = {"ingest": (0, 3), "failures": (0, 1)}.get(given[0], (0,))
        assert result.code in expected, (given, result)


def test_commands_are_found() -> None:
    assert {"ingest.md", "sources.md"} <= {page for page in PAGES if commands(page)}


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING)
def test_links_lead_somewhere(page: str) -> None:
    lost = []
    for link in re.findall(r"\]\((?!<?\w+:)([^)]+)\)", (ROOT / page).read_text()):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_the_map_names_every_page() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "index.md").read_text())
    assert [page for page in PAGES if page != "index.md" and page not in targets] == []
