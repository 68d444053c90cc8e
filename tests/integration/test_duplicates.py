"""`simdist duplicates`: groups, decisions, files, and a collection that changes meanwhile."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import simdist
from simdist.embedding import Embedder
from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.index.rehash import rehash
from simdist.joining.decisions import Decisions
from simdist.joining.duplicates import Duplicate, Sought, find_duplicates
from simdist.joining.keeping import Keep
from simdist.joining.whole import read_whole
from simdist.joining.writing import write_table
from simdist.sources import ImageRef, file_uri
from simdist.store import Store, connect
from tests.collections import create, ref, vectors
from tests.command_line import CommandLine
from tests.conftest import ROOT
from tests.copies import COPIED, SAME, index, make_copies

pytestmark = pytest.mark.slow

STEMS = [name.partition("/")[2] for name in COPIED]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_copies(tmp_path_factory.mktemp("copies"))


@pytest.fixture
def collection(
    cli: CommandLine, embedder: Embedder, copies: list[Path], valkey_url: str
) -> Collection:
    """A collection of copies, on the server that `cli` uses."""
    return index(connect(valkey_url), embedder, copies)


def stems(group: list[Duplicate]) -> set[str]:
    return {one.uri.rpartition("/")[2].partition(".")[0] for one in group}


class TestGroups:
    def test_copies_are_one_group_and_nothing_else_is(self, collection: Collection) -> None:
        groups = find_duplicates(collection).groups()
        copied = {stem: {stem, *(f"{stem}-{way}" for way in (*SAME, "part"))} for stem in STEMS}
        assert len(groups) == len(STEMS)
        for group in groups:
            [its] = [stem for stem in STEMS if stem in stems(group)]
            # A mirror image may be similar, too.
            assert stems(group) - {f"{its}-mirrored"} == copied[its]
            kinds = {one.uri.rpartition("/")[2].partition(".")[0]: one.kind for one in group}
            assert {kinds[f"{its}-{way}"] for way in SAME} == {"same"}
            assert kinds[f"{its}-part"] == "similar"

    def test_the_same_picture_alone(self, collection: Collection) -> None:
        groups = find_duplicates(collection).groups(Sought.same)
        assert sorted(map(len, groups)) == [1 + len(SAME)] * len(STEMS)
        assert {one.kind for group in groups for one in group} == {"same"}

    def test_turned_pictures_are_the_same_on_request(self, collection: Collection) -> None:
        groups = find_duplicates(collection, turns=True).groups(Sought.same)
        assert sorted(map(len, groups)) == [2 + len(SAME)] * len(STEMS)
        assert all(any(f"{stem}-mirrored" in stems(group) for group in groups) for stem in STEMS)

    def test_each_group_has_one_representative_and_keeps_one(self, collection: Collection) -> None:
        for group in find_duplicates(collection).groups():
            assert [one.representative for one in group] == [True, *[False] * (len(group) - 1)]
            assert [one.keep for one in group].count(True) == 1
            scores = [one.score for one in group]
            assert scores == sorted(scores, reverse=True)
            # What is cut out of a picture does not stand for it.
            assert not group[0].uri.endswith(("-part.jpg", "-trimmed.jpg"))

    def test_blank_and_tiny_pictures_are_counted_and_in_no_group(
        self, collection: Collection
    ) -> None:
        found = find_duplicates(collection)
        assert (found.flat, found.tiny, found.unprinted) == (3, 3, 0)
        uris = [one.uri for group in found.groups(threshold=0.01) for one in group]
        assert not [uri for uri in uris if "blank" in uri or "tiny" in uri]

    def test_a_higher_threshold_finds_less(self, collection: Collection) -> None:
        found = find_duplicates(collection)
        counts = [sum(map(len, found.groups(threshold=least))) for least in (0.7, 0.9, 0.97, 1.0)]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] > counts[2] > counts[3]

    @pytest.mark.parametrize("made", [(1, 1), (2, 1), (3, 1), (4, 1), (5, 3)])
    def test_no_order_and_no_sharding_changes_a_byte(
        self,
        collection: Collection,
        embedder: Embedder,
        copies: list[Path],
        tmp_path: Path,
        made: tuple[int, int],
    ) -> None:
        seed, partitions = made
        order = np.random.default_rng(seed).permutation(len(copies))
        shuffled = [copies[i] for i in order]
        other = index(collection.store, embedder, shuffled, name="shuffled", partitions=partitions)
        written = []
        for number, one in enumerate((collection, other)):
            path = tmp_path / f"{number}.jsonl"
            groups = find_duplicates(one, turns=True).groups()
            write_table((line for group in groups for line in group), Duplicate, path)
            written.append(path.read_bytes())
        assert written[0] == written[1]
        assert len(written[0].splitlines()) > 15

    def test_without_prints_embeddings_decide(
        self, cli: CommandLine, embedder: Embedder, copies: list[Path], valkey_url: str
    ) -> None:
        plain = index(connect(valkey_url), embedder, copies, prints=False)
        groups = find_duplicates(plain).groups(threshold=0.85)
        assert any({stem, f"{stem}-poor"} <= stems(group) for stem in STEMS for group in groups)
        result = cli.run("duplicates", "-c", "copies")
        assert f"{len(plain)} images have no print, and are compared by their" in result.out

    def test_an_empty_collection_has_none(self, store: Store) -> None:
        found = find_duplicates(create(store))
        assert (found.images, found.groups()) == (0, [])


class TestMeanwhile:
    """Others write while a collection is read."""

    def test_it_is_as_it_was_at_one_moment(self, store: Store) -> None:
        collection = create(store)
        count = 3000
        collection.add(vectors(count), [ref(i) for i in range(count)])
        steps: list[Callable[[], object]] = [
            lambda: collection.delete(ref(i).uri for i in range(0, 200)),
            lambda: collection.add(vectors(3100)[3000:], [ref(i) for i in range(3000, 3100)]),
            lambda: collection.add(vectors(10), [ref(i, version=1) for i in range(500, 510)]),
            lambda: rehash(collection),
            lambda: collection.delete([ref(3050).uri, ref(2999).uri]),
        ]

        def disturb(doing: str, done: int, total: int) -> None:
            if steps:
                steps.pop(0)()

        whole = read_whole(collection, disturb)
        while steps:
            whole = read_whole(collection, disturb)
        whole = read_whole(collection, disturb)
        assert whole.epochs == (collection.partitions[0].state().epoch,)
        assert len(whole) == len(collection) == 3000 - 200 + 100 - 2
        uris = [whole.uri(number) for number in range(len(whole))]
        assert uris == sorted(set(uris))

    def test_what_is_deleted_during_the_reading_is_gone_or_whole(self, store: Store) -> None:
        collection = create(store)
        collection.add(vectors(4000), [ref(i) for i in range(4000)])
        calls = []

        def disturb(doing: str, done: int, total: int) -> None:
            calls.append(done)
            number = len(calls)
            collection.delete([ref(4000 - number).uri, ref(number).uri])
            collection.add(vectors(1, seed=number), [ref(5000 + number)])

        whole = read_whole(collection, disturb)
        epoch = whole.epochs[0]
        assert len(calls) >= 2
        # Two changes each time: so many had come by then.
        changes = epoch - 8
        uris = {whole.uri(number) for number in range(len(whole))}
        expected = {ref(i).uri for i in range(4000)}
        for number in range(1, len(calls) + 1):
            state = expected - {ref(4000 - number).uri, ref(number).uri}
            expected = state | {ref(5000 + number).uri}
            if uris == expected:
                break
        assert uris == expected, changes


class TestDecisions:
    def test_what_is_apart_stays_apart(self, collection: Collection, copies: list[Path]) -> None:
        one, other = (file_uri(path) for path in copies if path.stem in ("bison", "bison-poor"))
        Decisions(apart=frozenset({(one, other)})).add_to(collection)
        groups = find_duplicates(collection).groups()
        assert not any({one, other} <= {line.uri for line in group} for group in groups)
        assert any("bison-small" in stems(group) for group in groups)

    def test_what_is_to_be_kept_is_kept(self, collection: Collection, copies: list[Path]) -> None:
        kept = [file_uri(path) for path in copies if path.stem in ("bison-poor", "bison-part")]
        Decisions(keep=frozenset(kept)).add_to(collection)
        [group] = [g for g in find_duplicates(collection).groups() if "bison" in stems(g)]
        assert sorted(one.uri for one in group if one.keep) == sorted(kept)

    def test_references_are_kept(self, collection: Collection, copies: list[Path]) -> None:
        prefix = file_uri(copies[0].parent) + "/cat-face"
        Decisions(references=(prefix,)).add_to(collection)
        for group in find_duplicates(collection).groups(keep=Keep.path):
            its = [one for one in group if one.uri.startswith(prefix)]
            assert all(one.keep for one in its)
            assert sum(one.keep for one in group) == (len(its) or 1)

    def test_bad_decisions_are_refused(self, collection: Collection) -> None:
        for bad in (
            Decisions(keep=frozenset({"\u00e4"})),
            Decisions(references=("",)),
            Decisions(apart=frozenset({("a", "a")})),
        ):
            with pytest.raises(UsageError):
                bad.add_to(collection)

    def test_by_command(self, cli: CommandLine, collection: Collection, copies: list[Path]) -> None:
        poor = next(path for path in copies if path.stem == "bison-poor")
        bison = next(path for path in copies if path.stem == "bison")
        decided = ("--apart", f"{bison},{poor}", "--keep-this", str(poor))
        cli.run("duplicates", "-c", "copies", *decided)
        again = cli.run("duplicates", "-c", "copies", "--json")
        lines = [json.loads(line) for line in again.out.splitlines()]
        groups = {line["uri"]: line["group"] for line in lines}
        both = [groups.get(file_uri(path), path) for path in (bison, poor)]
        assert both[0] != both[1]
        result = cli.run("duplicates", "-c", "copies", "--forget", "--json")
        assert "2 decisions forgotten" in result.err
        assert file_uri(poor) in result.out


class TestCommand:
    @pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
    def test_tables(
        self, cli: CommandLine, collection: Collection, tmp_path: Path, suffix: str
    ) -> None:
        out = tmp_path / f"groups{suffix}"
        result = cli.run("duplicates", "-c", "copies", "--out", str(out))
        assert (result.code, list(tmp_path.iterdir())) == (0, [out])
        assert f"Written: {out}" in result.out
        assert "3 groups of duplicates" in result.out
        groups = find_duplicates(collection).groups()
        expected = [one.uri for group in groups for one in group]
        if suffix == ".jsonl":
            rows = [json.loads(line) for line in out.read_text().splitlines()]
        elif suffix == ".csv":
            rows = list(csv.DictReader(out.read_text().splitlines()))
            assert {row["representative"] for row in rows} == {"true", "false"}
        else:
            rows = pq.read_table(out).to_pylist()
        assert [row["uri"] for row in rows] == expected
        assert set(rows[0]) == {"group", "uri", "score", "representative", "kind", "keep"}

    def test_files_are_listed_and_never_deleted(
        self, cli: CommandLine, collection: Collection, copies: list[Path]
    ) -> None:
        result = cli.run("duplicates", "-c", "copies", "--same", "--list-files", "--keep", "path")
        listed = result.out.splitlines()
        assert len(listed) == len(STEMS) * len(SAME)
        assert not {str(copies[0].parent / f"{stem}.jpg") for stem in STEMS} & set(listed)
        assert all(Path(name).is_file() for name in listed)

    def test_the_others_are_deleted_from_the_index(
        self, cli: CommandLine, collection: Collection, copies: list[Path]
    ) -> None:
        before = len(collection)
        assert "add --yes" in cli.fail("duplicates", "-c", "copies", "--delete", code=2)
        result = cli.run("duplicates", "-c", "copies", "--same", "--delete", "--yes")
        assert f"{len(STEMS) * len(SAME)} images deleted from the index" in result.err
        assert len(collection) == before - len(STEMS) * len(SAME)
        assert all(path.is_file() for path in copies)
        again = cli.run("duplicates", "-c", "copies", "--same", "--delete", "--yes")
        assert "Nothing to delete" in again.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--same", "--threshold", ".9"], "choose one of --same"),
            (["--thresholds", "--delete", "--yes"], "it goes with --report only"),
            (["--out", "groups.xlsx"], "must end in .jsonl, .csv, .parquet"),
            (["--out", "/no/such/folder/a.csv"], "is not a folder"),
            (["--report", "/no/such/folder/a.html"], "is not a folder"),
            (["--keep", "largest"], "to keep the largest needs the sizes of images"),
            (["--apart", "a.jpg"], "needs two URIs"),
            (["-c", "nothing"], "there is no collection 'nothing'"),
        ],
    )
    def test_mistakes(
        self, cli: CommandLine, collection: Collection, arguments: list[str], message: str
    ) -> None:
        code = 1 if "-c" in arguments else 2
        assert message in cli.fail("duplicates", "-c", "copies", *arguments, code=code)

    def test_thresholds_are_chosen_by_looking(
        self, cli: CommandLine, collection: Collection, tmp_path: Path
    ) -> None:
        page = tmp_path / "pairs.html"
        result = cli.run("duplicates", "-c", "copies", "--thresholds", "--report", str(page))
        lines = [line.split() for line in result.out.splitlines()[1:-1]]
        found = find_duplicates(collection)
        for least, groups, images, largest in lines:
            sizes = [len(group) for group in found.groups(threshold=float(least))]
            assert [len(sizes), sum(sizes), max(sizes)] == [int(groups), int(images), int(largest)]
        text = page.read_text()
        assert text.count("<li") == 2 * text.count("<h2") > 20

    def test_the_report_shows_all_and_asks_nobody(
        self, cli: CommandLine, collection: Collection, tmp_path: Path
    ) -> None:
        page = tmp_path / "page.html"
        assert cli.run("duplicates", "-c", "copies", "--report", str(page)).code == 0
        text = page.read_text()
        groups = find_duplicates(collection).groups()
        assert text.count("<li") == text.count("data:image/jpeg") == sum(map(len, groups))
        assert "default-src 'none'; img-src data:" in text
        assert "http://" not in text
        assert "https://" not in text
        assert "<script" not in text


def test_killed_at_ten_moments_it_leaves_the_same_output(
    collection: Collection, tmp_path: Path, valkey_url: str
) -> None:
    """What is there is whole: that of the run before, or the new one."""
    out, page = tmp_path / "groups.jsonl", tmp_path / "groups.html"
    command = [sys.executable, "-m", "simdist", "duplicates", "-c", "copies"]
    command += ["--out", str(out), "--report", str(page)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SIMDIST_REDIS_URL": valkey_url}
    before = time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - before
    expected = out.read_bytes(), page.read_bytes()
    assert len(expected[0].splitlines()) > 15
    killed = 0
    for share in np.random.default_rng(5).uniform(0, 1, 10).tolist():
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
        time.sleep(seconds * share)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert (out.read_bytes(), page.read_bytes()) == expected
    assert killed >= 3
    out.unlink()
    page.unlink()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (out.read_bytes(), page.read_bytes()) == expected


def test_what_is_replaced_meanwhile_is_not_deleted(collection: Collection) -> None:
    from simdist.joining.removing import remove

    found = find_duplicates(collection)
    one, other, *_ = (line.uri for line in found.groups(Sought.same)[0] if not line.keep)
    vector = collection.get(other)
    assert vector is not None
    collection.add(vector.vector[None], [ImageRef(other, "another", 5, "new label")])
    assert remove(collection, found.whole, [one, other]) == (1, 1)
    assert one not in collection
    assert other in collection


def test_dates_and_sizes_choose_what_to_keep(
    store: Store, embedder: Embedder, copies: list[Path]
) -> None:
    pair = [path for path in copies if path.stem in ("bison", "bison-small")]
    plain = index(store, embedder, pair, name="plain")
    records = {image.uri: image for image in plain.images()}
    known = [
        {"width": 900, "height": 600, "date": "2020-01-01T10:00:00"},
        {"width": 300, "height": 200, "date": "2010-01-01T10:00:00"},
    ]
    uris = [file_uri(path) for path in pair]
    both = zip(uris, known, strict=True)
    refs = [ImageRef(uri, "2", 1, None, metadata) for uri, metadata in both]
    plain.add(np.stack([records[uri].vector for uri in uris]), refs)
    found = find_duplicates(plain)
    for rule, kept in ((Keep.largest, 0), (Keep.newest, 0), (Keep.oldest, 1), (Keep.path, 1)):
        [group] = found.groups(threshold=0.5, keep=rule)
        assert [one.uri for one in group if one.keep] == [uris[kept]], rule


def test_in_python(collection: Collection) -> None:
    found = list(simdist.duplicates("copies", sought="same"))
    groups = find_duplicates(collection).groups(Sought.same)
    assert found == [one for group in groups for one in group]
