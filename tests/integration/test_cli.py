"""`simdist search` and `simdist status`, and every way in which they are told wrong things."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_group

import simdist
from simdist.cli.main import app
from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.sources import file_uri
from simdist.store import connect, layout
from simdist.store.embedded import embedded_server
from tests.command_line import CommandLine
from tests.conftest import PHOTOS, QUERIES
from tests.object_store import ObjectStore

HORSES = PHOTOS / "animals" / "horses.jpg"


class TestSearch:
    @pytest.mark.parametrize("query", sorted(QUERIES.iterdir()), ids=lambda path: path.stem)
    def test_the_nearest_of_each_example_query_is_of_its_category(
        self, cli: CommandLine, photos: Collection, query: Path
    ) -> None:
        category = {"animal": "animals", "fish": "fish", "monument": "monuments", "tool": "tools"}
        result = cli.run("search", str(query), "--collection", "photos", "--json")
        [found] = json.loads(result.out)
        assert found["query"] == str(query)
        assert len(found["hits"]) == 5
        assert found["hits"][0]["label"] == category.get(query.stem, "renewable-energy")

    def test_table_and_contact_sheet(
        self, cli: CommandLine, photos: Collection, tmp_path: Path
    ) -> None:
        sheet = tmp_path / "similar.png"
        queries = [str(QUERIES / "fish.jpg"), str(QUERIES / "tool.jpg")]
        result = cli.run("search", *queries, "-c", "photos", "-n", "7", "--out", str(sheet))
        assert result.code == 0
        assert result.out.count("\n1  0.") == 2
        assert result.out.count(" tools ") == 7
        assert "fish/boarfish.jpg" in result.out
        assert f"Contact sheet: {sheet}" in result.out
        with Image.open(sheet) as picture:
            # Two queries, two lines of hits each; the first query stands at the left of its hits.
            assert picture.size == (272 + 5 * 240, 16 + 4 * 284)
            corner = picture.convert("RGB").crop((16, 16, 240, 240)).resize((1, 1))
            assert corner.getpixel((0, 0)) != (255, 255, 255)

    def test_by_uri_needs_no_model_and_finds_itself_first(
        self, cli: CommandLine, photos: Collection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a model was loaded")

        monkeypatch.setattr(Embedder, "load", refuse)
        uri = file_uri(HORSES)
        [found] = json.loads(cli.run("search", uri, "-c", "photos", "--json").out)
        assert found["hits"][0]["uri"] == uri
        assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-6)

    def test_same_hits_by_path_and_in_python(
        self, cli: CommandLine, photos: Collection, embedder: Embedder
    ) -> None:
        [found] = json.loads(cli.run("search", str(HORSES), "-c", "photos", "--json").out)
        hits = Searcher(photos).search(embedder.embed_files([HORSES])[0])
        assert [hit["uri"] for hit in found["hits"]] == [hit.uri for hit in hits]

    def test_a_hit_whose_file_has_gone_leaves_an_empty_frame(
        self, cli: CommandLine, photos: Collection, embedder: Embedder, tmp_path: Path
    ) -> None:
        copy = tmp_path / "a\nname\twith 'quotes'.jpg"
        shutil.copy(HORSES, copy)
        ref = simdist.ImageRef(file_uri(copy), "1", 1, "odd\nlabel")
        photos.add(embedder.embed_files([copy]), [ref])
        copy.unlink()
        sheet = tmp_path / "similar.jpg"
        result = cli.run("search", str(HORSES), "-c", "photos", "--out", str(sheet))
        assert result.code == 0, result.err
        assert "odd\N{REPLACEMENT CHARACTER}label" in result.out
        assert "%0A" in result.out
        assert sheet.exists()

    def test_bad_queries(self, cli: CommandLine, photos: Collection, tmp_path: Path) -> None:
        text = tmp_path / "notes.jpg"
        text.write_text("not a picture")
        empty = tmp_path / "empty.jpg"
        empty.touch()
        search = ("search", "-c", "photos")
        assert "No such file" in cli.fail(*search, str(tmp_path / "nothing.jpg"))
        assert "not an image of a known format" in cli.fail(*search, str(text))
        assert "the file is empty" in cli.fail(*search, str(empty))
        assert "is not indexed" in cli.fail(*search, "ftp://host/key.jpg")
        assert "no credentials for s3://bucket" in cli.fail(*search, "s3://bucket/key.jpg")
        assert "to a public address" in cli.fail(*search, "http://127.0.0.1:9/a.jpg")
        assert "Is a directory" in cli.fail(*search, str(tmp_path))

    def test_bad_options(self, cli: CommandLine, photos: Collection, tmp_path: Path) -> None:
        search = ("search", str(HORSES), "-c", "photos")
        cli.fail(*search, "-n", "0", code=2)
        cli.fail(*search, "--nonsense", code=2)
        assert "must end in .png" in cli.fail(*search, "--out", "similar.txt", code=2)
        assert "make it first" in cli.fail(*search, "--out", str(tmp_path / "no/a.png"), code=2)
        assert "there is no model 'vgg'" in cli.fail(*search, "--model", "vgg", code=2)

    def test_a_model_other_than_the_collections(
        self, cli: CommandLine, photos: Collection, embedder: Embedder, tmp_path: Path
    ) -> None:
        from safetensors.torch import save_file

        changed = {name: tensor.contiguous() for name, tensor in embedder.model.weights.items()}
        changed["_fc.bias"] = changed["_fc.bias"] + 1
        save_file(changed, tmp_path / "other.safetensors")
        weights = str(tmp_path / "other.safetensors")
        message = cli.fail("search", str(HORSES), "-c", "photos", "--weights", weights)
        assert photos.model_id in message
        assert message.count("efficientnet-lite0-") == 2

    def test_before_any_ingest_and_unknown_collections(self, cli: CommandLine) -> None:
        assert "there is none yet" in cli.fail("search", str(HORSES))
        store = connect_cli()
        Collection.create(store, "new", model="efficientnet-lite0", model_id="m", dim=4)
        store.close()
        assert "there are: new" in cli.fail("search", str(HORSES), "-c", "old")
        assert "'new' is empty" in cli.fail("search", str(HORSES), "-c", "new")
        assert "cannot name a collection" in cli.fail(
            *("search", str(HORSES), "-c", "../new"), code=2
        )


def connect_cli() -> simdist.store.Store:
    """The store that `cli` uses."""
    settings = simdist.Settings.resolve()
    assert settings.redis_url is not None
    return connect(settings.redis_url)


class TestIngest:
    """What is said before any image is embedded; the pipeline itself is in tests/cluster."""

    MODEL = ("--model", "efficientnet-lite0")

    def test_invalid_sources(self, cli: CommandLine, tmp_path: Path) -> None:
        missing = str(tmp_path / "nothing")
        assert "No such file or directory; check the path" in cli.fail("ingest", missing)
        text = tmp_path / "notes.md"
        text.touch()
        assert "name a folder of images" in cli.fail("ingest", str(text))
        assert "no credentials for s3://bucket" in cli.fail("ingest", "s3://bucket/prefix")
        cli.fail("ingest", code=2)

    def test_an_empty_folder(self, cli: CommandLine, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        (tmp_path / "a.mov").touch()
        (tmp_path / ".a.jpg").touch()
        result = cli.run("ingest", str(tmp_path), *self.MODEL)
        assert result.code == 1
        assert "No images found: simdist looks for .jpg, .png" in result.out
        told = "Passed over: 1 .mov, 1 .txt, 1 hidden; --hidden takes what is hidden"
        assert told in " ".join(result.out.split())

    def test_a_model_other_than_the_collections(
        self, cli: CommandLine, photos: Collection, tmp_path: Path
    ) -> None:
        store = connect_cli()
        Collection.create(store, "other", model="resnet34", model_id="resnet34-0", dim=512)
        store.close()
        message = cli.fail("ingest", str(PHOTOS), "-c", "other", *self.MODEL)
        assert "was made with the model resnet34-0, not with efficientnet-lite0-" in message

    def test_unknown_models(self, cli: CommandLine, tmp_path: Path) -> None:
        ingest = ("ingest", str(PHOTOS))
        assert "there is no model 'vgg'" in cli.fail(*ingest, "--model", "vgg", code=2)
        assert "cannot read the weights" in cli.fail(
            *(*ingest, "--weights", str(tmp_path / "none.safetensors"))
        )
        assert cli.run("status").out.startswith("No collections yet")

    def test_a_licence_that_must_be_accepted(self, cli: CommandLine) -> None:
        message = cli.fail("ingest", str(PHOTOS), "--model", "timm:hiera_tiny_224.mae", code=2)
        assert "under the licence cc-by-nc-4.0, which forbids commercial use" in message
        assert "(--accept-licence)" in message
        assert cli.run("status").out.startswith("No collections yet")

    def test_everything_known_needs_no_ray(
        self, cli: CommandLine, photos: Collection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        result = cli.run("ingest", str(PHOTOS), "-c", "photos", *self.MODEL)
        assert result.code == 0, result.err
        assert "154 listed: 0 added, 0 replaced, 154 skipped, 0 failed" in result.out


class TestStatus:
    def test_figures(self, cli: CommandLine, photos: Collection) -> None:
        result = cli.run("status")
        assert result.code == 0
        [line] = [line for line in result.out.splitlines() if line.startswith("photos")]
        assert line.split()[:4] == ["photos", "154", photos.model_id, "1,280"]
        assert "1 x 19 kmeans" in line
        [item] = json.loads(cli.run("status", "--json").out)
        assert (item["name"], item["images"], item["tables"]) == ("photos", 154, 1)
        assert 154 * 1280 < item["memory_bytes"] < 154 * 2600

    def test_one_of_another_layout_does_not_hide_the_others(
        self, cli: CommandLine, photos: Collection
    ) -> None:
        Collection.create(photos.store, "old", model="m", model_id="m-1", dim=8)
        photos.store.call("HSET", layout.Keys("old").meta, "version", 9)
        for command in (("status",), ("collections", "list")):
            result = cli.run(*command)
            assert (result.code, result.err) == (0, "")
            lines = result.out.splitlines()
            assert [line.split()[:2] for line in lines if line.startswith("photos")] == [
                ["photos", "154"]
            ]
            said = f"the collection 'old' has layout version 9, this simdist reads {layout.VERSION}"
            assert [line for line in lines if line.startswith(f"Cannot be read: {said}")]
            whole, other = json.loads(cli.run(*command, "--json").out)
            assert (whole["name"], whole["images"]) == ("photos", 154)
            assert other["problem"].startswith(said)
            assert other == {"name": "old", "problem": other["problem"]}

    def test_a_licence_is_shown_where_there_is_one(
        self, cli: CommandLine, photos: Collection
    ) -> None:
        assert "licence" not in cli.run("status").out
        Collection.create(
            photos.store, "clip", model="clip", model_id="clip-1", dim=8, licence="mit"
        )
        out = cli.run("status").out
        assert "licence" in out
        [line] = [line for line in out.splitlines() if line.startswith("clip")]
        assert line.split()[:5] == ["clip", "0", "clip-1", "mit", "8"]
        items = {
            item["name"]: item["licence"] for item in json.loads(cli.run("status", "--json").out)
        }
        assert items == {"clip": "mit", "photos": ""}

    def test_nothing_yet(self, cli: CommandLine) -> None:
        assert "No collections yet" in cli.run("status").out


class TestServers:
    def test_nothing_there(self, cli: CommandLine) -> None:
        message = cli.fail("status", "--redis", "redis://127.0.0.1:1")
        assert "cannot reach Redis at redis://127.0.0.1:1: start it" in message

    def test_not_a_url(self, cli: CommandLine) -> None:
        assert "is not a Redis URL" in cli.fail("status", "--redis", "127.0.0.1", code=2)

    def test_a_password_is_asked_for_and_never_shown(
        self, cli: CommandLine, tmp_path: Path
    ) -> None:
        with embedded_server(tmp_path) as url:
            store = connect(url)
            store.call("CONFIG", "SET", "requirepass", "open sesame")
            assert "redis://USER:PASSWORD@" in cli.fail("status", "--redis", url)
            wrong = url.replace("unix://", "unix://:hunter2@")
            message = cli.fail("status", "--redis", wrong)
            assert "refuses this user" in message
            assert "hunter2" not in message
            right = url.replace("unix://", "unix://:open%20sesame@")
            assert cli.run("status", "--redis", right).code == 0
            store.call("CONFIG", "SET", "requirepass", "")
            store.close()

    def test_a_full_server_says_so(self, cli: CommandLine, tmp_path: Path) -> None:
        with embedded_server(tmp_path) as url:
            store = connect(url)
            store.call("CONFIG", "SET", "maxmemory", "1mb")
            with pytest.raises(simdist.SimdistError, match="raise its maxmemory"):
                Collection.create(store, "new", model="m", model_id="m", dim=4)
            store.close()

    def test_debug_shows_the_stack_trace(self) -> None:
        command = [sys.executable, "-m", "simdist", "--debug", "status"]
        result = subprocess.run(
            [*command, "--redis", "redis://127.0.0.1:1"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert "Traceback" in result.stderr

    def test_output_that_nobody_reads(self, photos: Collection) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        result = subprocess.run(
            [sys.executable, "-m", "simdist", "status", "--redis", photos.store.url],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(writing)
        assert result.stderr == ""
        assert result.returncode == 1


@pytest.mark.slow
def test_output_for_which_there_is_no_room(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "simdist", "status"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"SIMDIST_DATA_DIR": str(tmp_path)},
            check=False,
        )
    assert result.returncode == 1
    assert "the disk is full" in result.stderr
    assert "defect" not in result.stderr


@pytest.mark.slow
def test_a_terminal_that_cannot_show_a_name_shows_its_number(tmp_path: Path) -> None:
    env = os.environ | {"SIMDIST_DATA_DIR": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    with embedded_server(tmp_path) as url:
        store = connect(url)
        Collection.create(store, "photos", model="caf\u00e9", model_id="caf\u00e9", dim=4)
        store.close()
        result = subprocess.run(
            [sys.executable, "-m", "simdist", "status"],
            capture_output=True,
            text=True,
            env=env,
            check=True,
        )
    assert "caf\\xe9" in result.stdout


def test_help_and_version(cli: CommandLine) -> None:
    result = cli.run("--help")
    assert result.code == 0
    commands = get_group(app).commands
    assert len(commands) > 10
    assert [name for name in commands if f"\n  {name} " not in result.out] == []
    assert max(map(len, result.out.splitlines())) <= 80
    assert cli.run("--version").out == f"simdist {simdist.__version__}\n"


@pytest.mark.usefixtures("small_ray")
class TestFailures:
    def test_they_are_listed_and_tried_again(self, cli: CommandLine, tmp_path: Path) -> None:
        model = ("--model", "efficientnet-lite0")
        folder = tmp_path / "[new] photos"
        folder.mkdir()
        shutil.copy(HORSES, folder / "horses.jpg")
        (folder / "text.jpg").write_text("no picture")
        assert cli.run("ingest", str(folder), "-c", "some", *model).code == 3
        assert cli.run("failures", "-c", "some", "--retry").code == 1  # all have failed again
        listed = cli.run("failures", "-c", "some")
        header, line, total = listed.out.splitlines()
        assert header.split() == ["stage", "image", "reason"]
        assert line.startswith("decode  ")
        assert f"{folder}/text.jpg  not an image of a known format" in line
        assert total == "1 failure: 1 decode"
        [failure] = json.loads(cli.run("failures", "-c", "some", "--json").out)
        assert failure["ref"]["label"] == "[new] photos"
        assert failure["stage"] == "decode"

        shutil.copy(HORSES, folder / "text.jpg")
        again = cli.run("failures", "-c", "some", "--retry")
        assert again.code == 0, again.err
        assert "1 listed: 1 added, 0 replaced, 0 skipped, 0 failed" in again.out
        assert cli.run("failures", "-c", "some").out == "No failures.\n"
        assert cli.run("failures", "-c", "some", "--retry").out == "No failures.\n"

    def test_a_retry_asks_the_store_that_the_ingest_asked(
        self, cli: CommandLine, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        s3.put("a.jpg", b"no picture")
        options = ("-c", "stored", "--model", "efficientnet-lite0", "--endpoint-url", s3.url)
        first = cli.run("ingest", s3.uri, *options).out
        assert "0 added" in first
        assert first.endswith("fix what is named above, then run the same command again.\n")
        assert "Next:" not in first
        s3.put("a.jpg", HORSES.read_bytes())
        again = cli.run("failures", "-c", "stored", "--retry")
        assert "1 listed: 1 added" in again.out, again

    def test_bad_options(self, cli: CommandLine) -> None:
        assert "there is no collection 'none'" in cli.fail("failures", "-c", "none")
        cli.fail("failures", "--retry", "--json", code=2)


@pytest.mark.usefixtures("small_ray")
class TestPruneAndProgress:
    def test_pruning_asks_somebody(
        self, cli: CommandLine, photos: Collection, tmp_path: Path
    ) -> None:
        ingest = ("ingest", str(tmp_path), "-c", "photos", "--model", "efficientnet-lite0")
        assert "add --yes" in cli.fail(*ingest, "--prune", code=2)
        assert "it holds no images" in cli.fail(*ingest, "--prune", "--yes")
        assert "pruning needs a whole folder" in cli.fail(
            *(*ingest, "--prune", "--yes", "--include", "*.jpg"), code=2
        )
        assert cli.fail(*ingest, "--gpus", "2", "--actors", "2", code=2)

    def test_missing_images_are_pruned(self, cli: CommandLine, tmp_path: Path) -> None:
        for name in ("a.jpg", "b.jpg"):
            shutil.copy(HORSES, tmp_path / name)
        ingest = ("ingest", str(tmp_path), "-c", "few", "--model", "efficientnet-lite0")
        assert cli.run(*ingest).code == 0
        (tmp_path / "a.jpg").unlink()
        pruned = cli.run(*ingest, "--prune", "--yes")
        assert "1 listed: 0 added, 0 replaced, 1 skipped, 0 failed, 1 pruned in" in pruned.out

    def test_what_is_excluded_later_is_pruned(self, cli: CommandLine, tmp_path: Path) -> None:
        for name in ("a.jpg", "small/a.jpg", ".bin/a.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy(HORSES, tmp_path / name)
        ingest = ("ingest", str(tmp_path), "-c", "left", "--model", "efficientnet-lite0")
        assert "3 added" in cli.run(*ingest, "--hidden").out
        rest = (*ingest, "--exclude", "small/**")
        assert "1 skipped" in cli.run(*rest).out
        assert "1 skipped, 0 failed, 2 pruned" in cli.run(*rest, "--prune", "--yes").out

    def test_progress_as_json(self, cli: CommandLine, tmp_path: Path) -> None:
        shutil.copy(HORSES, tmp_path / "a.jpg")
        (tmp_path / "b.jpg").touch()
        (tmp_path / "c.mov").touch()
        ingest = ("ingest", str(tmp_path), "-c", "one", "--model", "efficientnet-lite0")
        result = cli.run(*ingest, "--progress", "json")
        assert (result.out, result.code) == ("", 3)
        *steps, last = [json.loads(line) for line in result.err.splitlines()]
        assert steps[-1].keys() >= {"listed", "done", "failed", "rate", "seconds_left", "stages"}
        summary = last["summary"]
        assert (summary["listed"], summary["added"], summary["failed"]) == (2, 1, 1)
        assert summary["passed_over"] == {".mov": 1}
        assert summary["slowest"] in summary["stages"]
        assert summary["failures"][0]["reason"] == "the file is empty"
