"""The wheel: built, and installed with uv and with pip in environments far from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from simdist.sources import file_uri
from tests.command_line import tool
from tests.conftest import LONG, PHOTOS, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PACKAGES = ("simdist", "cluster")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command as somebody who has no checkout; returns what it printed."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "SIMDIST_REDIS_URL", "RAY_ADDRESS")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def uv(*arguments: str | Path, cwd: Path) -> str:
    """Run uv. It does not read pip's settings: they are handed on, as the Makefile does."""
    names = {"PIP_CERT": "SSL_CERT_FILE", "PIP_INDEX_URL": "UV_DEFAULT_INDEX"}
    settings = {names[name]: os.environ[name] for name in names if os.environ.get(name)}
    return run(tool("uv"), *arguments, cwd=cwd, **settings)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build leaves its traces in the folder."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    uv("build", "--quiet", "--wheel", "--out-dir", folder / "dist", folder, cwd=folder)
    [built] = (folder / "dist").glob("simdist-*.whl")
    return built


@pytest.fixture(scope="module", params=["uv", "pip"] if LONG else ["pip"])
def home(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A folder with an environment in which simdist is installed.

    It takes pip minutes to install the dependencies. So it does that before a release only; else
    uv does, and without an index pip says so if one of them is not as the wheel wants it.
    """
    home = tmp_path_factory.mktemp(request.param)
    pinned = ("--constraint", ROOT / "constraints.txt")
    python = home / "env" / "bin" / "python"
    uv("venv", "--quiet", "--seed", "--python", sys.executable, home / "env", cwd=home)
    if request.param == "uv" or not LONG:
        uv("pip", "install", "--quiet", "--python", python, *pinned, wheel, cwd=home)
    if request.param == "pip":
        if not LONG:
            uv("pip", "uninstall", "--quiet", "--python", python, "simdist", cwd=home)
        options = pinned if LONG else ("--no-index",)
        run(python, "-m", "pip", "install", "--quiet", *options, wheel, cwd=home)
    yield home
    shutil.rmtree(home)


def test_it_has_all_files_of_the_packages(wheel: Path) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {Path(name).suffix for name in wanted} >= {".py", ".lua", ".html", ".js", ".typed"}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert found == wanted


def test_installed_it_ingests_and_searches(home: Path) -> None:
    (home / "photos").mkdir()
    fish = sorted((PHOTOS / "fish").glob("*.jpg"))[:3]
    for photo in fish:
        shutil.copy(photo, home / "photos")
    binaries = home / "env" / "bin"
    assert "No broken requirements" in run(binaries / "python", "-m", "pip", "check", cwd=home)
    data = {"SIMDIST_DATA_DIR": str(home / "data")}
    options = ("--collection", "demo")
    model = ("--model", "efficientnet-lite0")
    printed = run(binaries / "simdist", "ingest", "photos", *options, *model, cwd=home, **data)
    assert "3 listed: 3 added" in printed
    query = f"photos/{fish[0].name}"
    search = ("search", query, *options, "--json")
    [found] = json.loads(run(binaries / "simdist", *search, cwd=home, **data))
    assert found["hits"][0]["uri"] == file_uri(home / query)
    where = run(binaries / "python", "-c", "import simdist; print(simdist.__file__)", cwd=home)
    assert Path(where.strip()).is_relative_to(home / "env")
