"""`simdist tune`, `simdist rehash`, and searches that ask for a recall."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from simdist.index.collection import Collection
from simdist.sources import file_uri
from simdist.store import Store, connect, layout
from tests.collections import create, ref, tables_made, vectors
from tests.command_line import CommandLine
from tests.conftest import PHOTOS
from tests.index_contents import contents

HORSES = file_uri(PHOTOS / "animals" / "horses.jpg")

# The command, filling slowly enough to be stopped.
SLOW = """
import signal, sys, time
# What is started in the background is deaf to Ctrl-C, and so are all its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
from simdist.index import growth
from simdist.cli.main import main
from simdist.store import Store
growth.FILL_BATCH = 100
run = Store.run
def slow(self, script, *rest, **options):
    if script.name == "rehash_fill":
        time.sleep(0.1)
    return run(self, script, *rest, **options)
Store.run = slow
sys.argv = ["simdist", *sys.argv[1:]]
main()
"""


class TestTune:
    def test_a_table_that_fits_a_terminal(self, cli: CommandLine, photos: Collection) -> None:
        result = cli.run("tune", "--collection", "photos")
        assert result.code == 0, result.err
        first, header, *lines = result.out.splitlines()
        assert first == "Recall@10 of photos, 154 images, measured with 154 of them:"
        assert header.split() == ["probes", "rows", "read", "recall", "at", "least"]
        assert lines[0].split()[0] == "1"
        last = lines[-1].split()
        assert last[1:5] == ["100", "%", "1.000", "1.000"]
        assert last[0] == str(photos.partitions[0].families.now().family.size)
        # A bar for each, and where it is long enough for the usual wishes.
        bars = [line.count("\N{FULL BLOCK}") for line in lines]
        assert bars == sorted(bars)
        assert bars[-1] == 28
        assert "--recall 0.99" in result.out
        assert max(map(len, result.out.splitlines())) <= 80
        assert "measuring recall" in result.err

    def test_as_json_with_a_plot(
        self, cli: CommandLine, photos: Collection, tmp_path: Path
    ) -> None:
        plot = tmp_path / "tuning.png"
        result = cli.run("tune", "-c", "photos", "--json", "--plot", str(plot))
        figures = json.loads(result.out)
        assert (figures["images"], figures["queries"]) == (154, 154)
        assert figures["points"][0].keys() == {"probes", "recall", "bound", "rows_read"}
        assert figures["points"][-1]["recall"] == 1
        assert f"Plot: {plot}" in result.err
        with Image.open(plot) as picture:
            assert picture.width > 800

    def test_invalid_options(self, cli: CommandLine, photos: Collection, tmp_path: Path) -> None:
        assert "there is no collection 'none'" in cli.fail("tune", "-c", "none")
        create(photos.store, "new")
        assert "'new' is empty" in cli.fail("tune", "-c", "new")
        plot = ("tune", "-c", "photos", "--plot")
        assert "must end in .png" in cli.fail(*plot, "a.txt", code=2)
        assert "make it first" in cli.fail(*plot, str(tmp_path / "no" / "a.png"), code=2)


class TestSearch:
    def test_by_recall(self, cli: CommandLine, photos: Collection) -> None:
        search = ("search", HORSES, "-c", "photos", "--json", "--recall")
        assert "(simdist tune --collection photos)" in cli.fail(*search, "0.95")
        assert cli.run("tune", "-c", "photos").code == 0
        [found] = json.loads(cli.run(*search, "0.95").out)
        assert found["hits"][0]["uri"] == HORSES
        [found] = json.loads(cli.run(*search, "1").out)
        assert len(found["hits"]) == 5
        for wish in ("0", "95", "nan"):
            assert "above 0 and at most 1" in cli.fail(*search, wish, code=2)


class TestRehash:
    def test_to_another_family(self, cli: CommandLine, photos: Collection) -> None:
        rehash = ("rehash", "-c", "photos")
        options = ("--family", "hyperplanes", "--size", "4", "--tables", "3")
        result = cli.run(*rehash, *options)
        assert result.code == 0, result.err
        assert result.out.startswith("New hash tables: 3 x 16 hyperplanes\nRecall@10 of photos")
        assert "filling the new tables: 154 of 154 rows" in result.err
        assert "3 x 16 hyperplanes" in cli.run("status").out
        [found] = json.loads(
            cli.run("search", HORSES, "-c", "photos", "--recall", "0.9", "--json").out
        )
        assert found["hits"][0]["uri"] == HORSES
        assert cli.run(*rehash).out.startswith("New hash tables: 1 x ")

    def test_invalid_options(self, cli: CommandLine, photos: Collection) -> None:
        rehash = ("rehash", "-c", "photos")
        assert "choose one of kmeans" in cli.fail(*rehash, "--family", "best", code=2)
        assert "kmeans has one table" in cli.fail(*rehash, "--tables", "4", code=2)
        assert "choose a size from 1 to 154" in cli.fail(*rehash, "--size", "155", code=2)
        cli.fail(*rehash, "--size", "0", code=2)
        assert "there is no collection 'none'" in cli.fail("rehash", "-c", "none")

    @pytest.mark.slow
    @pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
    def test_stopped_it_goes_on(self, store: Store, stop: signal.Signals) -> None:
        collection = create(store)
        collection.add(vectors(3000), [ref(i) for i in range(3000)])
        options = ("--family", "hyperplanes", "--size", "6", "--tables", "2")
        command = ("rehash", "-c", "test", *options, "--redis", store.url)
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_rows(store, 200)
        process.send_signal(stop)
        _, err = process.communicate()
        if stop == signal.SIGINT:
            assert process.returncode == 130
            assert "error: stopped; run the same command again to go on" in err
        # Half way: all is where it was.
        filled = collection.partitions[0].state().filled
        assert 0 < filled < 3000
        assert contents(collection) == sorted(ref(i).uri for i in range(3000))

        again = subprocess.run(
            [sys.executable, "-m", "simdist", *command], capture_output=True, text=True, check=True
        )
        assert again.stdout.startswith("New hash tables: 2 x 64 hyperplanes\n")
        assert "fitting" not in again.stderr
        assert contents(collection) == sorted(ref(i).uri for i in range(3000))
        assert tables_made(collection) == 2


def wait_for_rows(store: Store, count: int) -> None:
    """Wait until a rebuild has filled in so many rows."""
    for _ in range(600):
        if int(store.call("HGET", layout.Keys("test").meta, "filled") or 0) >= count:
            return
        time.sleep(0.05)
    raise AssertionError("nothing is being filled")


def test_a_new_collection_is_made_as_ingest_is_told(
    cli: CommandLine, valkey_url: str, tmp_path: Path
) -> None:
    ingest = ("ingest", str(tmp_path), "--model", "efficientnet-lite0", "-c", "many")
    assert cli.run(*ingest, "--expect", "10_000_000", "--partitions", "4").code == 1  # no images
    with closing(connect(valkey_url)) as store:
        collection = Collection.open(store, "many")
    assert (collection.expect, len(collection.partitions)) == (10_000_000, 4)
    cli.fail(*ingest, "--expect", "0", code=2)
    cli.fail(*ingest, "--expect", "many", code=2)
    cli.fail(*ingest, "--partitions", "1025", code=2)
