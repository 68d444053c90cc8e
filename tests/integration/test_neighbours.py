"""`simdist neighbours`: the table, what changes in it, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import simdist
from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.index.rehash import rehash
from simdist.joining.decisions import Decisions
from simdist.joining.duplicates import Sought, find_duplicates
from simdist.joining.folder import NOTE
from simdist.sources import ImageRef
from simdist.store import connect
from tests.collections import DIM, create, ref
from tests.command_line import CommandLine
from tests.conftest import ROOT
from tests.copies import index, make_copies

pytestmark = pytest.mark.slow

# More than are all compared with each other.
MANY = 17_000


def clustered(count: int, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(7)
    centres = generator.standard_normal((500, DIM))
    generator = np.random.default_rng(seed)
    values = centres[generator.integers(0, 500, count)]
    return (values + generator.standard_normal((count, DIM)) / 3).astype(np.float32)


def table(folder: Path) -> dict[str, list[tuple[str, float]]]:
    """The neighbours of each image, in their order."""
    found: dict[str, list[tuple[str, float]]] = {}
    for path in sorted(folder.glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            its = found.setdefault(row["uri"], [])
            its.append((row["neighbour"], row["score"]))
            assert row["rank"] == len(its)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small(cli: CommandLine, valkey_url: str) -> Collection:
    collection = create(connect(valkey_url))
    labels = ["cats", "dogs", None]
    refs = [ref(i, label=labels[i % 3]) for i in range(300)]
    collection.add(clustered(300), refs)
    return collection


@pytest.fixture
def large(cli: CommandLine, valkey_url: str) -> Collection:
    collection = create(connect(valkey_url))
    collection.add(clustered(MANY), [ref(i) for i in range(MANY)])
    return collection


def run(cli: CommandLine, out: Path, *arguments: str) -> str:
    result = cli.run("neighbours", "-c", "test", "-k", "5", "--out", str(out), *arguments)
    assert result.code == 0, result
    return result.out


class TestTable:
    def test_it_has_the_nearest_in_order(
        self, cli: CommandLine, small: Collection, tmp_path: Path
    ) -> None:
        run(cli, tmp_path / "out")
        found = table(tmp_path / "out")
        images = sorted(small.images(), key=lambda image: image.uri)
        assert list(found) == [image.uri for image in images]
        vectors = np.stack([image.vector for image in images]).astype(np.float64)
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -2)
        for image, row in zip(images, scores, strict=True):
            expected = np.sort(row)[::-1][:5]
            got = [score for _, score in found[image.uri]]
            assert got == pytest.approx(expected, abs=1e-4)
            assert image.uri not in [uri for uri, _ in found[image.uri]]

    def test_bounds_and_labels(self, cli: CommandLine, small: Collection, tmp_path: Path) -> None:
        bounds = ("--min-score", "0.5", "--max-score", "0.9")
        run(cli, tmp_path / "out", *bounds, "--same-label")
        labels = {image.uri: image.label for image in small.images()}
        found = table(tmp_path / "out")
        assert 5 < len(found) < 300
        for uri, its in found.items():
            assert {labels[other] for other, _ in its} == {labels[uri]} != {None}
            assert all(0.5 <= score < 0.9 for _, score in its)

    def test_without_duplicates(
        self, cli: CommandLine, embedder: Embedder, valkey_url: str, tmp_path: Path
    ) -> None:
        """What is in one group with an image is no neighbour, and the next ones are."""
        (tmp_path / "copies").mkdir()
        copies = index(connect(valkey_url), embedder, make_copies(tmp_path / "copies"))
        groups = find_duplicates(copies).groups(Sought.same)
        group_of = {one.uri: one.group for group in groups for one in group}
        found: dict[str, list[str]] = {}
        for one in simdist.neighbours("copies", k=5, no_duplicates=True):
            found.setdefault(one.uri, []).append(one.neighbour)
        assert len(group_of) > 10
        expected: dict[str, list[str]] = {}
        for one in simdist.neighbours("copies", k=len(copies)):
            if not group_of.get(one.uri) or group_of.get(one.uri) != group_of.get(one.neighbour):
                expected.setdefault(one.uri, []).append(one.neighbour)
        assert found == {uri: others[:5] for uri, others in expected.items()}
        out = tmp_path / "out"
        cli.run("neighbours", "-c", "copies", "-k", "5", "--no-duplicates", "--out", str(out))
        assert {uri: [other for other, _ in its] for uri, its in table(out).items()} == found
        # Decisions change the groups, and so what is written, though nothing else has changed.
        first, second = (each.uri for each in groups[0][:2])
        apart = (min(first, second), max(first, second))
        Decisions(apart=frozenset({apart})).add_to(copies)
        cli.run("neighbours", "-c", "copies", "-k", "5", "--no-duplicates", "--out", str(out))
        assert second in [uri for uri, _ in table(out)[first]]

    def test_the_recall_that_is_asked_for_is_reached(
        self, cli: CommandLine, large: Collection, tmp_path: Path
    ) -> None:
        said = run(cli, tmp_path / "out", "--recall", "0.95")
        found = table(tmp_path / "out")
        images = list(large.images())
        vectors = np.stack([image.vector for image in images])
        met = []
        for number in range(0, MANY, 100):
            scores = vectors @ vectors[number]
            scores[number] = -2
            best = {images[i].uri for i in np.argsort(-scores)[:5]}
            met.append(len(best & {uri for uri, _ in found[images[number].uri]}) / 5)
        assert np.mean(met) >= 0.93
        assert "recall 0.9" in said or "recall 1.000" in said

    def test_in_python(self, cli: CommandLine, small: Collection, tmp_path: Path) -> None:
        run(cli, tmp_path / "out")
        found: dict[str, list[tuple[str, float]]] = {}
        for one in simdist.neighbours("test", k=5):
            found.setdefault(one.uri, []).append((one.neighbour, one.score))
        assert found == table(tmp_path / "out")

    def test_an_empty_collection(self, cli: CommandLine, valkey_url: str, tmp_path: Path) -> None:
        create(connect(valkey_url))
        assert "of 0 images" in run(cli, tmp_path / "out")
        assert table(tmp_path / "out") == {}

    @pytest.mark.parametrize(
        "mistake",
        [
            (["--out", "full"], "full holds notes.txt: name a new folder"),
            (["--out", "full/notes.txt"], "is not a folder"),
            (["--out", "new", "--since", "nothing"], "holds no finished neighbours"),
        ],
    )
    def test_mistakes(
        self,
        cli: CommandLine,
        small: Collection,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        mistake: tuple[list[str], str],
    ) -> None:
        arguments, message = mistake
        monkeypatch.chdir(tmp_path)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "notes.txt").write_text("keep me")
        assert message in cli.fail("neighbours", "-c", "test", *arguments, code=2)
        assert not (tmp_path / "nothing").exists()


def change(collection: Collection) -> None:
    """Add, delete and replace some images."""
    collection.add(clustered(150, seed=2), [ref(MANY + i) for i in range(150)])
    collection.delete(ref(i).uri for i in range(100, 160))
    collection.add(clustered(20, seed=3), [ref(i, version=1) for i in range(500, 520)])


class TestSince:
    def test_it_equals_a_full_run(
        self, cli: CommandLine, large: Collection, tmp_path: Path
    ) -> None:
        run(cli, tmp_path / "old")
        change(large)
        said = run(cli, tmp_path / "new", "--since", str(tmp_path / "old"))
        run(cli, tmp_path / "full")
        assert contents(tmp_path / "new") == contents(tmp_path / "full")
        anew = int(said.partition("Found anew for ")[2].split()[0].replace(",", ""))
        assert 170 <= anew < MANY // 5

    def test_in_place(self, cli: CommandLine, small: Collection, tmp_path: Path) -> None:
        run(cli, tmp_path / "out")
        change(small)
        run(cli, tmp_path / "out", "--since", str(tmp_path / "out"))
        run(cli, tmp_path / "full")
        assert contents(tmp_path / "out") == contents(tmp_path / "full")

    def test_other_tables_or_wishes_make_it_a_full_run(
        self, cli: CommandLine, large: Collection, tmp_path: Path
    ) -> None:
        run(cli, tmp_path / "old")
        rehash(large)
        said = run(cli, tmp_path / "new", "--since", str(tmp_path / "old"))
        assert "Found anew" not in said
        run(cli, tmp_path / "full")
        assert contents(tmp_path / "new") == contents(tmp_path / "full")

    def test_a_collection_that_was_made_anew_is_another(
        self, cli: CommandLine, small: Collection, tmp_path: Path
    ) -> None:
        run(cli, tmp_path / "out")
        small.store.call("FLUSHALL")
        again = create(small.store)
        again.add(clustered(300, seed=9), [ref(i) for i in range(300)])
        said = run(cli, tmp_path / "out", "--since", str(tmp_path / "out"))
        assert "Found anew" not in said

    def test_nothing_to_do(self, cli: CommandLine, small: Collection, tmp_path: Path) -> None:
        run(cli, tmp_path / "out")
        before = contents(tmp_path / "out")
        assert "Found anew for 0 of them" in run(cli, tmp_path / "out")
        assert contents(tmp_path / "out") == before


@pytest.mark.slow
def test_killed_at_ten_moments_it_goes_on_to_the_same_output(
    cli: CommandLine, large: Collection, tmp_path: Path, valkey_url: str
) -> None:
    run(cli, tmp_path / "whole")
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "simdist", "neighbours", "-c", "test", "-k", "5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SIMDIST_REDIS_URL": valkey_url}
    moments = np.random.default_rng(4).uniform(0, 1, 10)
    killed = 0
    for moment in moments:
        process = subprocess.Popen(
            [*command, "--out", str(out)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # From when it begins to write on, or somewhat later.
        while not out.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(float(moment))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 5
    run(cli, out)
    assert contents(out) == contents(tmp_path / "whole")
    assert (out / NOTE).exists()


def test_labels_of_many_images(cli: CommandLine, valkey_url: str, tmp_path: Path) -> None:
    """Images with no label have none in common."""
    collection = create(connect(valkey_url))
    vectors = clustered(4)
    collection.add(vectors, [ImageRef(f"file:///{i}.jpg", "1", 1, None) for i in range(4)])
    run(cli, tmp_path / "out", "--same-label")
    assert table(tmp_path / "out") == {}
