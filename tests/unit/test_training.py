"""A training from a folder of photographs to a bundle: with the real network, in a few seconds."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simdist.embedding import Embedder, load_model
from simdist.errors import (
    ModelError,
    Remedy,
    SimdistError,
    SourceError,
    UsageError,
)
from simdist.sources import ImageRef, open_source
from simdist.training.job import Progress, Trained, TrainingOptions
from simdist.training.train import train
from tests.conftest import LONG, PHOTOS

pytestmark = pytest.mark.slow

OPTIONS = TrainingOptions("efficientnet-lite0", epochs=(1, 2), images=5, batch=4, seed=3)
COMMAND = [
    *("--arch", "efficientnet-lite0", "--epochs", "1+2", "--images", "5", "--batch", "4"),
    *("--seed", "3"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three categories of six photographs."""
    folder = tmp_path_factory.mktemp("photos")
    for category in ("fish", "monuments", "tools"):
        (folder / category).mkdir()
        for photo in sorted((PHOTOS / category).glob("*.jpg"))[:6]:
            shutil.copy(photo, folder / category)
    return folder


def run(photos: Path, out: Path, options: TrainingOptions = OPTIONS, **more: object) -> Trained:
    return train(open_source(str(photos)), out, options, device="cpu", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(photos, tmp_path_factory.mktemp("trained") / "bundle")


def test_a_training_leaves_a_bundle(trained: Trained) -> None:
    model = load_model(str(trained.folder))
    assert model.id == trained.model_id
    assert model.classes == ("fish", "monuments", "tools")
    assert not trained.folder.with_name("bundle.training").exists()
    card = json.loads((trained.folder / "card.json").read_text())
    about = card["about"]
    assert about["started_from"] == load_model("efficientnet-lite0").id
    counts = [about["data"][part] for part in ("training", "validation", "test")]
    assert counts == [12, 3, 3]
    assert about["options"]["seed"] == 3
    assert len(about["epochs"]) == 3
    assert about["versions"]["fastai"]


def test_its_embedding_is_the_512_behind_the_relu(trained: Trained, photos: Path) -> None:
    embedder = Embedder.load(str(trained.folder), device="cpu")
    vectors = embedder.embed_files(sorted((photos / "fish").iterdir()))
    assert vectors.shape == (6, 512)
    assert vectors.min() == 0
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_lists_of_its_images_can_be_ingested(trained: Trained, photos: Path) -> None:
    named: list[str] = []
    for part in ("training", "validation", "test"):
        listed = list(open_source(str(trained.folder / f"{part}.csv")).entries)
        assert all(isinstance(ref, ImageRef) for ref in listed)
        names = [(ref.uri, getattr(ref, "label", None)) for ref in listed]
        assert names == [(ref.uri, ref.label) for ref in getattr(trained.split, part)]
        with (trained.folder / f"{part}.csv").open() as file:
            named += [row["uri"] for row in csv.DictReader(file)]
    assert sorted(named) == sorted(path.as_uri() for path in photos.rglob("*.jpg"))


def test_it_comes_with_a_report(trained: Trained) -> None:
    text = (trained.folder / "report.md").read_text()
    assert trained.model_id in text
    assert text.count("| everything |") == 2
    for name in ("curves.png", "neighbours.jpg"):
        assert f"({name})" in text
        with Image.open(trained.folder / name) as picture:
            # Not one colour: something is drawn.
            assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 20


def _weights(bundle: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(str(bundle)).weights)


def _until(path: Path, process: subprocess.Popen[bytes], *, newer_than: int) -> int:
    """Wait for a checkpoint that is newer, and say how new."""
    for _ in range(6000):
        if path.exists() and (now := path.stat().st_mtime_ns) > newer_than:
            return now
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("no checkpoint came")


def test_killed_after_an_epoch_it_comes_to_the_same_weights(
    trained: Trained, photos: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "simdist", "train", str(photos), *COMMAND, "--out", "bundle"]
    # As many threads as in this process: sums are rounded as they are split.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "bundle.training" / "checkpoint.pt"
    seen = 0
    for _ in range(2 if LONG else 1):
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        seen = _until(checkpoint, process, newer_than=seen)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "bundle").exists()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    once, again = _weights(trained.folder), _weights(tmp_path / "bundle")
    assert once.keys() == again.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in once.items())
    assert b"Next: simdist ingest FOLDER --model bundle" in done.stdout


# What is in the way, and what is bad.


@pytest.fixture
def stopped(photos: Path, tmp_path: Path) -> Path:
    """The folder of a training that was stopped at its first batch."""

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "bundle", on_progress=stop)
    return tmp_path / "bundle.training"


def test_an_unfinished_training_is_not_resumed_with_other_settings(
    stopped: Path, photos: Path
) -> None:
    before = {path: path.read_bytes() for path in stopped.iterdir()}
    out = stopped.with_name("bundle")
    with pytest.raises(ModelError, match=r"other settings \(batch, patience\): .* or delete"):
        run(photos, out, replace(OPTIONS, patience=4, batch=5))
    assert {path: path.read_bytes() for path in stopped.iterdir()} == before
    (stopped / "settings.json").write_text("{")
    with pytest.raises(ModelError, match="cannot work in"):
        run(photos, out)


def test_a_folder_of_half_written_files_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.training").mkdir()
    (tmp_path / "bundle.training" / "film.partial").write_text("dear")
    with pytest.raises(ModelError, match="in the way: it is not an unfinished training"):
        run(photos, tmp_path / "bundle")
    assert [path.name for path in (tmp_path / "bundle.training").iterdir()] == ["film.partial"]


@pytest.mark.parametrize("thing", ["a file", "a bundle", "an empty folder"])
def test_nothing_is_overwritten(thing: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    match thing:
        case "a file":
            out.write_text("dear")
        case "a bundle":
            out.mkdir()
            (out / "card.json").write_text("dear")
        case "an empty folder":
            out.mkdir()
    before = [(path, path.is_dir() or path.read_text()) for path in tmp_path.rglob("*")]
    with pytest.raises(ModelError, match="exists already, and is not overwritten"):
        run(photos, out)
    assert [(path, path.is_dir() or path.read_text()) for path in tmp_path.rglob("*")] == before


def test_without_fastai_nothing_is_begun(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastai", None)
    with pytest.raises(ModelError, match=r"pip install 'simdist\[train\]'"):
        run(photos, tmp_path / "bundle")
    assert [*tmp_path.iterdir()] == []


def test_an_unrelated_folder_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.training").mkdir()
    (tmp_path / "bundle.training" / "diary.txt").write_text("dear")
    with pytest.raises(ModelError, match="in the way: it is not an unfinished training"):
        run(photos, tmp_path / "bundle")
    assert [path.name for path in (tmp_path / "bundle.training").iterdir()] == ["diary.txt"]


def test_what_somebody_keeps_in_its_folder_is_left_alone(few: Path, tmp_path: Path) -> None:
    work = tmp_path / "bundle.training"

    def note(progress: Progress) -> None:
        (work / "bundle").mkdir(exist_ok=True)
        (work / "bundle" / "diary.txt").write_text("dear")

    run(few, tmp_path / "bundle", QUICK, on_progress=note)
    assert [path.name for path in work.rglob("*")] == ["bundle", "diary.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle.training", "few"]


@pytest.fixture
def few(photos: Path, tmp_path: Path) -> Path:
    """Two categories of three photographs, to be spoilt."""
    for category in ("fish", "tools"):
        (tmp_path / "few" / category).mkdir(parents=True)
        for photo in sorted((photos / category).iterdir())[:3]:
            shutil.copy(photo, tmp_path / "few" / category)
    return tmp_path / "few"


QUICK = replace(OPTIONS, epochs=(1, 0), images=None)


def _spoil(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        path.write_bytes(path.read_bytes()[:100])
        yield path


def test_a_corrupt_file_is_left_out_and_named(few: Path, tmp_path: Path) -> None:
    parts = run(few, tmp_path / "whole", QUICK).split
    [bad] = [ref.uri for ref in parts.training if ref.label == "fish"][:1]
    path = few / "fish" / bad.rpartition("/")[2]
    path.write_bytes(path.read_bytes()[:100])
    trained = run(few, tmp_path / "bundle", QUICK)
    assert list(trained.left_out) == [bad]
    assert "it is cut" in trained.left_out[bad]
    assert path.name in (tmp_path / "bundle" / "report.md").read_text()
    card = json.loads((tmp_path / "bundle" / "card.json").read_text())
    assert list(card["about"]["data"]["left_out"]) == [bad]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("all corrupt", r"images cannot be read, such as .*fish.*leave the category out"),
        ("one image", "needs at least two images.*'fish' has fewer"),
        ("one category", "at least two categories, and there is only: 'tools'"),
        ("no images", "no images with a category were found"),
        ("no folder", "cannot read"),
    ],
)
def test_images_that_are_too_few_say_so(
    damage: str, reason: str, few: Path, tmp_path: Path
) -> None:
    match damage:
        case "all corrupt":
            assert len(list(_spoil(few / "fish"))) == 3
        case "one image":
            for path in sorted((few / "fish").iterdir())[1:]:
                path.unlink()
        case "one category":
            shutil.rmtree(few / "fish")
        case "no images":
            shutil.rmtree(few / "fish")
            shutil.rmtree(few / "tools")
        case "no folder":
            shutil.rmtree(few)
    with pytest.raises(SourceError, match=reason):
        run(few, tmp_path / "bundle", QUICK)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        (replace(QUICK, arch="resnet9000"), UsageError, "there is no model 'resnet9000'"),
        (replace(QUICK, arch="vit_b_16"), UsageError, "vit_b_16 cannot be trained"),
        (replace(QUICK, exclude=("birds",)), UsageError, "no category 'birds'"),
    ],
)
def test_impossible_requests_are_reported(
    options: TrainingOptions, error: type[SimdistError], reason: str, few: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason):
        run(few, tmp_path / "bundle", options)
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_resnet34_trains_from_a_weights_file(
    few: Path, tmp_path: Path, resnet34_weights: Path
) -> None:
    options = replace(QUICK, arch="resnet34")
    trained = run(few, tmp_path / "bundle", options, weights=resnet34_weights)
    model = load_model(str(trained.folder))
    assert model.id.startswith("resnet34-")
    [vector] = Embedder(model, device="cpu").embed(np.zeros((1, 224, 224, 3), np.uint8))
    assert vector.shape == (512,)
    # The body is the file's, to the bit: only the head was trained.
    start = load_model("resnet34", weights=resnet34_weights).weights
    for name, tensor in model.weights.items():
        if name.startswith("body."):
            assert torch.equal(tensor, start[name.removeprefix("body.")])


@pytest.mark.usefixtures("torch_home")
def test_an_error_without_weights_names_the_alternatives(few: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"resnet34 cannot be downloaded.*a file of weights"
    ) as error:
        run(few, tmp_path / "bundle", replace(QUICK, arch="resnet34"))
    assert error.value.remedy is Remedy.BUNDLED_MODEL
    assert not (tmp_path / "bundle.training").exists()


# A bundle whose parts do not belong together.


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Path:
    shutil.copytree(trained.folder, tmp_path / "copied")
    return tmp_path / "copied"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("no card", "is not a model bundle"),
        ("no weights", "cannot read the weights"),
        ("cut weights", "cannot read the weights"),
        ("foreign weights", "does not hold the weights that its card describes"),
        ("one class fewer", "do not fit the backbone"),
        ("classes that are none", "is not the card of a model bundle"),
        ("a backbone without a head", "do not fit the backbone"),
    ],
)
def test_a_damaged_bundle_is_refused(
    damage: str, reason: str, copied: Path, resnet34_weights: Path
) -> None:
    card = json.loads((copied / "card.json").read_text())
    weights = copied / "weights.safetensors"
    match damage:
        case "no card":
            (copied / "card.json").unlink()
        case "no weights":
            weights.unlink()
        case "cut weights":
            os.truncate(weights, weights.stat().st_size // 2)
        case "foreign weights":
            shutil.copy(resnet34_weights, weights)
        case "one class fewer":
            card["classes"].pop()
        case "classes that are none":
            card["classes"] = [1, 2, 3]
        case "a backbone without a head":
            card["backbone"], card["id"] = "vit_b_16", ""
    if damage != "no card":
        (copied / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=reason):
        Embedder.load(str(copied), device="cpu")


def test_a_network_of_timm_is_trained_with_its_licence(photos: Path, tmp_path: Path) -> None:
    """From a folder, which the bundle does not need afterwards."""
    import timm
    from timm.models import save_for_hf

    own = tmp_path / "own"
    save_for_hf(timm.create_model("test_resnet.r160_in1k"), str(own), safe_serialization=True)
    options = replace(OPTIONS, arch=f"timm:local-dir:{own}")
    trained = run(photos, tmp_path / "bundle", options)
    assert trained.licence == "apache-2.0"
    shutil.rmtree(own)
    model = load_model(str(tmp_path / "bundle"))
    assert (model.id, model.dim) == (trained.model_id, 512)
    assert (model.backbone, model.licence) == ("timm:test_resnet.r160_in1k", "apache-2.0")
    assert model.preprocessing.scaling is not None
    vectors = Embedder(model, device="cpu").embed_files(sorted((photos / "fish").iterdir()))
    assert vectors.shape == (6, 512)
    assert (vectors @ vectors.T).min() < 1 - 1e-5
    transformer = replace(OPTIONS, arch="timm:test_vit.r160_in1k")
    with pytest.raises(UsageError, match="makes no map of features for the new head"):
        run(photos, tmp_path / "other", transformer)
