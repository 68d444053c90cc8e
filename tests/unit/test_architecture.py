"""docs/architecture.md names what is there: folders, files, and the symbols in its answers."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PATHS = sorted(set(re.findall(r"\b(?:simdist|cluster)/[\w/]*(?:\.\w+)?", PAGE)))
FOLDERS = sorted(
    str(path.relative_to(ROOT))
    for top in ("simdist", "cluster")
    for path in [ROOT / top, *(ROOT / top).rglob("*")]
    if path.is_dir() and path.name != "__pycache__"
)
ROWS = re.findall(r"^\| `([\w/]+)/` \| .* \| (.*) \|$", PAGE, re.MULTILINE)
ANSWERS = [
    (path, symbol)
    for answer in re.findall(r"^\| .*\? \| (.*) \|$", PAGE, re.MULTILINE)
    for path, symbols in re.findall(r"`([\w/]+\.\w+)`: ((?:`\w+`(?:, )?)+)", answer)
    for symbol in re.findall(r"`(\w+)`", symbols)
]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_folder_has_its_row() -> None:
    assert sorted(folder for folder, _ in ROWS) == FOLDERS


@pytest.mark.parametrize(("folder", "files"), ROWS)
def test_a_row_names_the_files_of_its_folder(folder: str, files: str) -> None:
    there = [path for path in (ROOT / folder).iterdir() if path.is_file()]
    names = [path.stem if path.suffix == ".py" else path.name for path in there]
    shown = [name for name in names if not name.startswith("__") and name != "py.typed"]
    assert sorted(files.split(", ")) == sorted(shown)


def test_there_are_ten_questions() -> None:
    assert len(re.findall(r"^\| .*\? \| `", PAGE, re.MULTILINE)) == 10


@pytest.mark.parametrize(("path", "symbol"), ANSWERS)
def test_an_answer_is_found_in_its_file(path: str, symbol: str) -> None:
    assert re.search(rf"\b{symbol}\b", (ROOT / path).read_text())
