"""Where models come from: ids, bundles, weights files, downloads."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from simdist.embedding import (
    Embedder,
    Model,
    Preprocessing,
    load_model,
)
from simdist.embedding.model import save_bundle
from simdist.errors import ModelError, Remedy, UsageError
from simdist.images.resizing import Resize

# Ids.


def test_an_id_names_the_backbone_and_is_the_same_for_every_load(
    lite0: Model, untrained: Model, resnet34_weights: Path
) -> None:
    assert lite0.id.startswith("efficientnet-lite0-")
    assert load_model("efficientnet-lite0").id == lite0.id
    assert load_model("resnet34", weights=resnet34_weights).id == untrained.id
    assert untrained.id != lite0.id


@pytest.mark.parametrize(
    "known", ["efficientnet-lite0-873d3ab87162", "efficientnet-lite2-fead8f9a9fd3"]
)
def test_models_that_collections_were_made_with_stay_what_they_were(known: str) -> None:
    assert load_model(known.rpartition("-")[0]).id == known


@pytest.mark.slow
def test_an_id_is_the_same_in_every_process(lite0: Model) -> None:
    code = "from simdist.embedding import load_model; print(load_model('efficientnet-lite0').id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == lite0.id


def test_an_id_does_not_depend_on_the_order_or_layout_of_weights(untrained: Model) -> None:
    turned = dict(reversed(list(untrained.weights.items())))
    name = "layer1.0.conv1.weight"
    turned[name] = turned[name].contiguous(memory_format=torch.channels_last)
    assert replace(untrained, weights=turned).id == untrained.id


def _with_weight(model: Model, change: Callable[[torch.Tensor], torch.Tensor]) -> Model:
    return replace(
        model, weights={**model.weights, "bn1.bias": change(model.weights["bn1.bias"].clone())}
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda model: _with_weight(model, lambda tensor: tensor.index_fill_(0, torch.tensor(3), 9)),
        lambda model: _with_weight(model, lambda tensor: tensor.view(8, 8)),
        lambda model: _with_weight(model, lambda tensor: tensor.double()),
        lambda model: _with_weight(model, lambda tensor: tensor.bfloat16()),
        lambda model: replace(model, weights={**model.weights, "more": torch.zeros(0)}),
        lambda model: replace(model, tap="layer4"),
        lambda model: replace(model, backbone="efficientnet-lite0"),
        lambda model: replace(model, preprocessing=replace(model.preprocessing, size=225)),
        lambda model: replace(model, preprocessing=replace(model.preprocessing, mean=(0, 0, 0))),
        lambda model: replace(model, preprocessing=replace(model.preprocessing, std=(1, 1, 1))),
    ],
    ids=["number", "shape", "double", "bfloat16", "more", "tap", "backbone", "size", "mean", "std"],
)
def test_whatever_changes_embeddings_changes_the_id(
    change: Callable[[Model], Model], untrained: Model
) -> None:
    assert change(untrained).id != untrained.id


# Bundles.


@pytest.fixture
def bundle(untrained: Model, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    save_bundle(untrained, folder)
    return folder


def test_a_bundle_holds_the_whole_model(bundle: Path, untrained: Model) -> None:
    model = load_model(str(bundle))
    assert model.id == untrained.id
    assert model.preprocessing == untrained.preprocessing
    assert (model.backbone, model.tap) == (untrained.backbone, untrained.tap)
    assert sorted(path.name for path in bundle.iterdir()) == ["card.json", "weights.safetensors"]


@pytest.mark.parametrize("resize", list(Resize))
def test_a_bundles_preprocessing_is_its_own(
    untrained: Model, tmp_path: Path, resize: Resize
) -> None:
    own = Preprocessing(96, (1.5, 2.5, 3.5), (4.5, 5.5, 6.5), resize)
    save_bundle(replace(untrained, preprocessing=own), tmp_path / "own")
    model = load_model(str(tmp_path / "own"))
    assert model.preprocessing == own
    vectors = Embedder(model, device="cpu").embed(np.zeros((1, 96, 96, 3), np.uint8))
    assert vectors.shape == (1, 512)


def test_a_bundle_is_not_written_over_another(bundle: Path, lite0: Model) -> None:
    before = (bundle / "weights.safetensors").read_bytes()
    with pytest.raises(ModelError, match="already holds a model bundle"):
        save_bundle(lite0, bundle)
    assert (bundle / "weights.safetensors").read_bytes() == before


CARDS = {
    "nothing": "",
    "no JSON": "{",
    "bytes": b"\xff\xfe",
    "foreign JSON": '{"name": "a package"}',
    "a list": "[1, 2]",
    "a number": "7",
    "null": "null",
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("content", CARDS.values(), ids=CARDS)
def test_a_file_that_is_not_a_card_is_refused(bundle: Path, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (bundle / "card.json").write_bytes(data)
    with pytest.raises(ModelError, match=r"card\.json is not the card of a model bundle"):
        load_model(str(bundle))


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        (["version"], 2, "has version 2, this simdist reads 1: update simdist"),
        (["version"], None, "has version None"),
        (["backbone"], "resnet9000", "names the backbone 'resnet9000'"),
        (["backbone"], None, "names the backbone 'None'"),
        (["preprocessing"], [], "is not the card"),
        (["preprocessing", "size"], 0, "is not the card"),
        (["preprocessing", "size"], -224, "is not the card"),
        (["preprocessing", "size"], 10**9, "is not the card"),
        (["preprocessing", "size"], "wide", "is not the card"),
        (["preprocessing", "size"], float("inf"), "is not the card"),
        (["preprocessing", "mean"], [1, 2, 10**400], "is not the card"),
        (["preprocessing", "resize"], "stretch", "is not the card"),
        (["preprocessing", "mean"], [1, 2], "is not the card"),
        (["preprocessing", "mean"], [1, 2, float("nan")], "is not the card"),
        (["preprocessing", "std"], [1, 2, float("inf")], "is not the card"),
        (["preprocessing", "std"], [1, 0, 1], "is not the card"),
    ],
)
def test_a_card_with_a_wrong_value_is_refused(
    bundle: Path, keys: list[str], value: object, reason: str
) -> None:
    card = json.loads((bundle / "card.json").read_text())
    place = card
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (bundle / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=reason):
        load_model(str(bundle))


@pytest.mark.parametrize("key", ["version", "backbone", "tap", "preprocessing"])
def test_a_card_without_a_part_is_refused(bundle: Path, key: str) -> None:
    card = json.loads((bundle / "card.json").read_text())
    del card[key]
    (bundle / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="is not the card"):
        load_model(str(bundle))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("no card", r"is not a model bundle: no readable card\.json"),
        ("no weights", "cannot read the weights"),
        ("cut weights", "cannot read the weights"),
        ("empty weights", "cannot read the weights"),
        ("weights that are text", "cannot read the weights"),
        ("weights that are a folder", "cannot read the weights"),
        ("another backbone's weights", "does not hold the weights that its card describes"),
    ],
)
def test_a_damaged_bundle_is_refused(bundle: Path, damage: str, reason: str, lite0: Model) -> None:
    weights = bundle / "weights.safetensors"
    match damage:
        case "no card":
            (bundle / "card.json").unlink()
        case "no weights":
            weights.unlink()
        case "cut weights":
            os.truncate(weights, weights.stat().st_size // 2)
        case "empty weights":
            weights.write_bytes(b"")
        case "weights that are text":
            weights.write_text("not a tensor in sight")
        case "weights that are a folder":
            weights.unlink()
            weights.mkdir()
        case "another backbone's weights":
            save_bundle(lite0, bundle / "other")
            (bundle / "other" / weights.name).replace(weights)
    with pytest.raises(ModelError, match=reason):
        Embedder.load(str(bundle), device="cpu")


@pytest.mark.parametrize("name", ["resnet", "ResNet34", "/no/such/folder", "a\0b"])
def test_an_unknown_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="use efficientnet-lite0 or resnet34, or the folder"):
        load_model(name)


@pytest.mark.parametrize("name", ["~no-such-user/bundle", "x" * 5000])
def test_a_name_that_cannot_be_read_is_an_error(name: str) -> None:
    with pytest.raises(ModelError, match="cannot read the model"):
        load_model(name)


def test_a_backbone_comes_before_a_folder_of_the_same_name(
    bundle: Path, lite0: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.rename(bundle.with_name("efficientnet-lite0"))
    monkeypatch.chdir(bundle.parent)
    assert load_model("efficientnet-lite0").id == lite0.id
    assert load_model("./efficientnet-lite0").backbone == "resnet34"


# Weights files.


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["pickle", "torch", "torch, as of old"])
@pytest.mark.parametrize("place", ["the whole", "a value"])
def test_a_hostile_weights_file_runs_no_code(form: str, place: str, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    content = Hostile(trap) if place == "the whole" else {"conv1.weight": Hostile(trap)}
    path = tmp_path / "weights.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(ModelError, match="is not a file of weights"):
        load_model("resnet34", weights=path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(content))  # noqa: S301 - the trap does work
    assert trap.is_dir()


def test_a_state_dict_of_torch_is_read(untrained: Model, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(dict(untrained.weights), path)
    assert load_model("resnet34", weights=path).id == untrained.id


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"epoch": 3},
        {1: torch.zeros(1)},
        torch.zeros(3),
        {"a": torch.eye(3).to_sparse()},
        {"a": torch.zeros(3, device="meta")},
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_a_file_without_weights_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    # torch 2.11 itself refuses sparse tensors.
    with pytest.raises(
        ModelError, match=r"something other than a state dict|not a file of weights"
    ):
        load_model("resnet34", weights=tmp_path / "weights.pth")


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_weights_file_is_refused(suffix: str, keep: float, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    state = {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    os.truncate(path, int(keep * path.stat().st_size) if isinstance(keep, float) else keep)
    with pytest.raises(ModelError, match="weights"):
        load_model("resnet34", weights=path)


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors", "folder"])
def test_a_weights_file_that_is_not_there_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match=f"cannot read the weights {tmp_path / name}"):
        load_model("resnet34", weights=tmp_path / name)


# The published weights of resnet34.


@pytest.mark.usefixtures("torch_home")
def test_without_a_network_the_error_names_the_alternatives() -> None:
    with pytest.raises(ModelError, match="cannot be downloaded") as caught:
        load_model("resnet34")
    assert "give a file of weights" in str(caught.value)
    assert caught.value.remedy is Remedy.BUNDLED_MODEL


def test_a_damaged_download_is_named(torch_home: Path) -> None:
    cached = torch_home / "hub" / "checkpoints" / "resnet34-b627a593.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half of what it was")
    with pytest.raises(ModelError, match=f"below {torch_home / 'hub'} are damaged"):
        load_model("resnet34")


def test_a_cache_that_cannot_be_written_is_named(torch_home: Path) -> None:
    torch_home.write_text("a file where a folder should be")
    with pytest.raises(ModelError, match="cannot be kept in the cache"):
        load_model("resnet34")


def test_a_cached_download_needs_no_network(torch_home: Path, resnet34_weights: Path) -> None:
    cached = torch_home / "hub" / "checkpoints" / "resnet34-b627a593.pth"
    cached.parent.mkdir(parents=True)
    torch.save(load_file(resnet34_weights), cached)
    assert load_model("resnet34").id == load_model("resnet34", weights=resnet34_weights).id
    shutil.rmtree(torch_home)
