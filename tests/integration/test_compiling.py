"""An ingest has compiled what a search needs: nobody's first search waits for a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.servers import running, valkey

pytestmark = pytest.mark.slow

COMPILE = """
from simdist.search.compiling import compile_search
from simdist.vectors.codec import Codec

compile_search(Codec.of("int8", 64))
"""
SEARCH = """
import sys

import numpy as np

from simdist.search.searcher import Searcher
from simdist.store import connect
from tests.collections import DIM, create, ref, vectors

store = connect(sys.argv[1])
collection = create(store)
collection.add(vectors(300), [ref(i) for i in range(300)])
collection.delete([ref(7).uri])
searcher = Searcher(collection, max_staleness=0)
for _ in range(2):
    assert len(searcher.search(vectors(300)[7], n=3)) == 3
    collection.add(vectors(310)[300:], [ref(i) for i in range(300, 310)])
# As a body's bytes, a column or every other row of what a caller has.
read_only = np.frombuffer(vectors(1).tobytes(), np.float32)
assert len(searcher.search(read_only, n=3)) == 3
for queries in (vectors(20), np.asfortranarray(vectors(20)), vectors(40)[::2]):
    assert len(searcher.search_many(queries, n=3)) == 20
# All passes by.
assert len(Searcher(collection, cache_memory=1).search(read_only, n=3)) == 3
"""


def copied(folder: Path) -> Path:
    """The packages without anything that was compiled beside them."""
    for package in ("simdist", "cluster"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    return folder


def test_a_search_compiles_nothing_that_an_ingest_has_compiled(tmp_path: Path) -> None:
    path = os.pathsep.join([str(copied(tmp_path / "site")), str(ROOT)])
    kept = {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    environment = {**os.environ, **kept}

    def run(code: str, *arguments: str) -> set[str]:
        """The compiled loops of searches on disk, after a process with this code."""
        command = [sys.executable, "-P", "-c", code, *arguments]
        subprocess.run(command, env=environment, check=True, timeout=280)
        files = (tmp_path / "compiled").rglob("*.nbc")
        return {file.name for file in files if file.parent.name.startswith("search_")}

    before = run(COMPILE)
    assert any("rank_vectors" in name for name in before)
    with running(valkey(), tmp_path / "redis") as server:
        assert run(SEARCH, server.url) == before


def test_what_was_compiled_with_the_installation_is_not_compiled_again(tmp_path: Path) -> None:
    """By a user who may not write beside the code, as in a container with a read-only root."""
    site = copied(tmp_path / "site")
    plain = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    plain["PYTHONPATH"] = str(site)

    def compile_for(**environment: str) -> None:
        subprocess.run(
            [sys.executable, "-P", "-c", COMPILE], env=plain | environment, check=True, timeout=280
        )

    compile_for()
    installed = {file.name for file in site.rglob("*.nbc")}
    assert any("rank_vectors" in name for name in installed)
    own = tmp_path / "own"
    compile_for(NUMBA_CACHE_DIR=str(own))
    assert [*own.rglob("*.nbc")] == []
    # What is not there, such as after an upgrade, is compiled and kept as ever.
    for file in site.rglob("*rank_vectors*.nbi"):
        file.unlink()
    compile_for(NUMBA_CACHE_DIR=str(own))
    assert {file.name.partition("-")[0] for file in own.rglob("*.nbc")} == {
        "query_loops.rank_vectors"
    }


def test_a_loop_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    head = "from simdist.vectors.compiled import compiled\n"
    (tmp_path / "loops/inner").mkdir(parents=True)
    (tmp_path / "loops/outer").mkdir()
    outer = tmp_path / "loops/outer/sums.py"
    outer.write_text(
        f"{head}from loops.inner.terms import term\n"
        "@compiled()\ndef total(n):\n    return term(n) + 1\n"
    )

    def answer(term: str) -> str:
        inner = tmp_path / "loops/inner/terms.py"
        inner.write_text(f"{head}@compiled()\ndef term(n):\n    return {term}\n")
        code = "import sys; sys.path.append('.'); from loops.outer.sums import total; "
        return subprocess.run(
            [sys.executable, "-c", f"{code}print(total(4), len(total.stats.cache_hits))"],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            check=True,
            timeout=280,
            capture_output=True,
            text=True,
        ).stdout.strip()

    assert answer("n * 2") == "9 0"
    assert answer("n * 2") == "9 1"
    assert answer("n * 3") == "13 0"
