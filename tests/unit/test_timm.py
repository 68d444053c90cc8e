"""Networks of timm: against timm's own pooled features, transforms and folders."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.models import save_for_hf
from torch import nn

from simdist.embedding import Embedder, Model, Preprocessing, load_model
from simdist.embedding.aliases import ALIASES
from simdist.embedding.backbones import backbone
from simdist.embedding.head import check_trainable
from simdist.embedding.model import save_bundle
from simdist.errors import ModelError, Remedy, SimdistError, UsageError
from simdist.images.resizing import Filter, Resize, Scaling

# Small networks that timm has for its own tests: with tokens, and with maps and batch norms.
VIT, RESNET = "test_vit.r160_in1k", "test_resnet.r160_in1k"
# One that is made for pictures of one size.
TINY = "vit_tiny_patch16_224.augreg_in21k"
DOCS = Path(__file__).parents[2] / "docs"


def _made(name: str, **options: object) -> nn.Module:
    """A network of timm with weights from a seed, as after a training: all layers do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = timm.create_model(name, **options)  # type: ignore[arg-type]
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
                nn.init.normal_(layer.running_mean, 0, 0.1)
        for key, parameter in network.named_parameters():
            # Scales of layers, which begin as good as shut.
            if key.endswith("gamma") or "gamma_" in key:
                nn.init.uniform_(parameter, 0.5, 1.5)
    return network.eval().requires_grad_(False)


def _saved(folder: Path, name: str, **options: object) -> Path:
    """A folder in the layout of the Hugging Face Hub."""
    save_for_hf(_made(name, **options), str(folder), safe_serialization=True)
    return folder


def _inputs(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> torch.Tensor:
    values = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(row).view(3, 1, 1) for row in (preprocessing.mean, preprocessing.std))
    return (values - mean) / std


def _unit(rows: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = nn.functional.normalize(rows, dim=1).numpy()
    return values


def _check_features(folder: Path, photos: list[Path], **options: object) -> Model:
    """A folder's embeddings of photographs are timm's own pooled features of the same pixels."""
    model = load_model(f"timm:local-dir:{folder}", accept_licence=True)
    pixels = np.stack([model.preprocessing.pixels(path.read_bytes()) for path in photos])
    rows = Embedder(model, device="cpu", full_precision=True).embed(pixels)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, **options)  # type: ignore[arg-type]
    theirs.eval()
    with torch.inference_mode():
        maps = theirs.forward_features(_inputs(pixels, model.preprocessing))  # type: ignore[operator]
        wanted = _unit(theirs.forward_head(maps, pre_logits=True))  # type: ignore[operator]
    assert rows.shape == (len(photos), model.dim)
    assert np.abs(rows - wanted).max() < 1e-5
    # Not all the same: the network sees the pictures.
    assert (rows @ rows.T).min() < 1 - 1e-5
    return model


@pytest.mark.parametrize("name", [VIT, RESNET])
def test_an_embedding_is_what_timm_pools(name: str, tmp_path: Path, photos: list[Path]) -> None:
    model = _check_features(_saved(tmp_path / "own", name), photos[:3])
    assert model.backbone == f"timm:{name}"
    assert model.licence == "apache-2.0"


@pytest.mark.slow
@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_what_timm_pools(alias: str, tmp_path: Path, photos: list[Path]) -> None:
    name = ALIASES[alias].removeprefix("timm:")
    options = {"global_pool": "token"} if alias.startswith("dinov3") else {}
    model = _check_features(_saved(tmp_path / "own", name), photos[:2], **options)
    assert model.backbone == ALIASES[alias]
    assert model.id.startswith(f"{ALIASES[alias]}-")


@pytest.mark.slow
def test_the_documented_aliases_are_these_with_timms_licences() -> None:
    rows = {}
    for line in (DOCS / "models.md").read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if len(cells) > 5 and cells[3].startswith("timm:"):
            rows[cells[0]] = cells[1:5]
    assert set(rows) == set(ALIASES)
    for alias, (dim, size, name, licence) in rows.items():
        known = backbone(alias)
        assert [name, licence] == [known.name, known.licence], alias
        assert [int(dim.replace(",", "")), int(size)] == [known.dim, known.preprocessing.size]
        assert name == ALIASES[alias]


# Pixels.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (VIT, {}),
        (RESNET, {}),
        ("tf_efficientnetv2_b3.in21k_ft_in1k", {"crop_mode": "squash"}),
    ],
)
def test_pixels_are_those_of_timms_transform(
    name: str, options: dict[str, str], photos: list[Path]
) -> None:
    """To two levels, where the places that the filter reads are rounded otherwise."""
    with torch.device("meta"):
        data = resolve_model_data_config(timm.create_model(name))  # type: ignore[no-untyped-call]
    for key, value in options.items():
        assert data[key] == value
    transform = create_transform(**data, is_training=False)
    preprocessing = backbone(f"timm:{name}").preprocessing
    for path in photos:
        with Image.open(path) as photo:
            picture = photo.convert("RGB")
        wanted = transform(picture)
        file = io.BytesIO()
        picture.save(file, "PNG")
        pixels = preprocessing.pixels(file.getvalue())
        assert pixels.shape == (preprocessing.size, preprocessing.size, 3)
        apart = (_inputs(pixels[None], preprocessing)[0] - wanted).abs()
        levels = apart * torch.tensor(preprocessing.std).view(3, 1, 1)
        assert levels.max() < 2.01
        assert levels.mean() < 0.1
    # A JPEG that is decoded at a reduced scale: other pixels, alike as a whole.
    large = picture.resize((picture.width * 8, picture.height * 8))
    file = io.BytesIO()
    large.save(file, "JPEG", quality=95)
    pixels = preprocessing.pixels(file.getvalue())
    wanted = transform(large)
    apart = (_inputs(pixels[None], preprocessing)[0] - wanted).abs()
    assert (apart * torch.tensor(preprocessing.std).view(3, 1, 1)).mean() < 0.5


def test_a_pictures_facts_come_with_the_same_pixels(photo: Path) -> None:
    preprocessing = backbone(f"timm:{VIT}").preprocessing
    pixels, _ = preprocessing.pixels_and_facts(photo.read_bytes())
    assert np.array_equal(pixels, preprocessing.pixels(photo.read_bytes()))


def test_only_what_differs_from_before_is_part_of_an_id() -> None:
    old = Preprocessing(224, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert set(old.as_json()) == {"size", "mean", "std"}
    new = replace(old, resize=Resize.crop, scaling=Scaling(256, Filter.bicubic))
    assert json.loads(json.dumps(new.as_json()))["scaling"] == {"side": 256, "filter": "bicubic"}


# Folders and files.


def test_a_folder_is_the_same_model_as_its_published_name(tmp_path: Path) -> None:
    """So that a collection may be made with one and searched with the other."""
    folder = _saved(tmp_path / "own", VIT)
    model = load_model(f"timm:local-dir:{folder}")
    file = folder / "model.safetensors"
    assert load_model(f"timm:{VIT}", weights=file).id == model.id
    assert "head.weight" in load_file(file)
    assert not any(name.startswith("head.") for name in model.weights)


def test_a_bundle_of_a_folders_model_needs_no_folder(tmp_path: Path, photo: Path) -> None:
    """Nor do Ray's actors, which have the model itself, and maybe not the folder."""
    folder = _saved(tmp_path / "own", RESNET)
    model = load_model(f"timm:local-dir:{folder}")
    save_bundle(model, tmp_path / "bundle")
    folder.rename(tmp_path / "gone")
    copy = load_model(str(tmp_path / "bundle"))
    assert (copy.id, copy.preprocessing, copy.licence) == (
        model.id,
        model.preprocessing,
        "apache-2.0",
    )
    for one in (model, copy):
        assert Embedder(one, device="cpu").embed_files([photo]).shape == (1, 96)


def test_how_a_folders_network_was_made_travels_in_its_name(
    tmp_path: Path, photos: list[Path]
) -> None:
    folder = _saved(tmp_path / "own", TINY, num_classes=7, img_size=96, global_pool="avg")
    model = _check_features(folder, photos[:2])
    assert model.backbone == f"timm:{TINY}?global_pool=%22avg%22&img_size=%5B96%2C+96%5D"
    assert model.preprocessing.size == 96
    folder.rename(tmp_path / "gone")
    assert Embedder(model, device="cpu").embed_files(photos[:1]).shape == (1, model.dim)


def test_a_size_that_only_the_configuration_has_travels_too(
    tmp_path: Path, photos: list[Path]
) -> None:
    folder = _saved(tmp_path / "own", TINY, img_size=96)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["model_args"]
    config["pretrained_cfg"]["tag"] = "mine"
    path.write_text(json.dumps(config))
    model = load_model(f"timm:local-dir:{folder}")
    assert model.backbone == f"timm:{TINY.partition('.')[0]}?img_size=%5B96%2C+96%5D"
    assert Embedder(model, device="cpu").embed_files(photos[:1]).shape == (1, model.dim)


def test_smaller_pictures_are_taken_where_a_name_says_so(
    tmp_path: Path, photos: list[Path]
) -> None:
    file = _saved(tmp_path / "own", TINY) / "model.safetensors"
    model = load_model(f"timm:{TINY}?img_size=96", weights=file)
    assert model.preprocessing.size == 96
    pixels = np.stack([model.preprocessing.pixels(path.read_bytes()) for path in photos[:2]])
    rows = Embedder(model, device="cpu", full_precision=True).embed(pixels)
    overlay = {"file": str(file)}
    theirs = timm.create_model(
        TINY, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, img_size=96
    ).eval()
    with torch.inference_mode():
        assert np.abs(rows - _unit(theirs(_inputs(pixels, model.preprocessing)))).max() < 1e-5


def _change(folder: Path, what: str) -> None:
    path, weights = folder / "config.json", folder / "model.safetensors"
    config = json.loads(path.read_text())
    match what:
        case "no config":
            path.unlink()
        case "no JSON":
            path.write_text("{")
        case "a list":
            path.write_text("[]")
        case "pickled":
            torch.save(load_file(weights), folder / "pytorch_model.bin")
            weights.unlink()
        case "other weights":
            weights.write_bytes((folder.parent / "resnet" / weights.name).read_bytes())
        case "unknown":
            path.write_text(json.dumps(config | {"architecture": "vit_of_tomorrow"}))
        case "odd arguments":
            path.write_text(json.dumps(config | {"model_args": {"checkpoint_path": "/etc/passwd"}}))
        case "grey":
            config["pretrained_cfg"]["input_size"] = [1, 160, 160]
            del config["model_args"]
            path.write_text(json.dumps(config))
        case "huge":
            config["pretrained_cfg"]["input_size"] = [3, 10**9, 10**9]
            path.write_text(json.dumps(config))
        case "no numbers":
            config["pretrained_cfg"]["mean"] = "white"
            path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("no config", r"holds no config\.json"),
        ("no JSON", "is not the config of a timm model"),
        ("a list", "is not the config of a timm model"),
        ("pickled", r"holds no model\.safetensors, and pickles \(\.bin, \.pth\) are not read"),
        ("other weights", "the weights do not fit the backbone timm:test_vit"),
        ("unknown", "'vit_of_tomorrow', which this timm does not know"),
        ("odd arguments", "arguments that simdist does not know"),
        ("grey", "not square, have a border or are not in colour"),
        ("huge", "does not say what pictures it takes"),
        ("no numbers", "does not say what pictures it takes"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(what: str, reason: str, tmp_path: Path) -> None:
    folder = _saved(tmp_path / "own", VIT)
    if what == "other weights":
        _saved(tmp_path / "resnet", RESNET)
    _change(folder, what)
    with pytest.raises(SimdistError, match=reason):
        load_model(f"timm:local-dir:{folder}")


def test_weights_that_lack_a_part_are_refused(tmp_path: Path) -> None:
    """timm itself would leave it at random."""
    state = _made(VIT).state_dict()
    del state["blocks.0.attn.qkv.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ModelError, match="do not fit the backbone"):
        load_model(f"timm:{VIT}", weights=tmp_path / "part.pth")


@pytest.mark.parametrize(
    "name",
    [
        *("timm:", "timm:resnet9000", "timm:resnet18.nobodys_in1k", "timm:hf-hub:timm/resnet18"),
        *("timm:test_vit?depth=3", "timm:test_vit?img_size=99999999", "timm:test_vit?img_size"),
        *("timm:test_vit?img_size=[1", f"timm:{RESNET}?img_size=96"),
        f"timm:{TINY}?img_size=[96,100]",
    ],
)
def test_a_name_that_timm_does_not_have_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=r"has no model|not say how|not work|not square"):
        load_model(name)


@pytest.mark.parametrize(
    "name", ["volo_d4_448.sail_in1k", "vit_base_patch16_sapiens2.fb"], ids=["border", "not square"]
)
def test_pictures_that_simdist_does_not_make_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="which simdist does not make: choose another"):
        backbone(f"timm:{name}")


def test_without_a_network_the_error_names_the_alternatives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot be downloaded .* a folder that timm") as caught:
        load_model(f"timm:{VIT}")
    assert caught.value.remedy is Remedy.TIMM_WEIGHTS


def test_a_cached_download_needs_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / f"models--timm--{VIT}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    _saved(snapshot, VIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    assert load_model(f"timm:{VIT}").id == load_model(f"timm:local-dir:{snapshot}").id


def test_without_a_home_nothing_is_taken_from_the_working_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    with pytest.raises(ModelError, match=r"no home directory for the weights .* set HF_HOME"):
        load_model(f"timm:{VIT}")


def test_a_name_without_a_tag_has_no_published_weights() -> None:
    with pytest.raises(ModelError, match="or name the weights, as in resnet18"):
        load_model("timm:test_vit")


# Training.


def test_a_network_without_maps_cannot_be_trained() -> None:
    with pytest.raises(UsageError, match=f"timm:{VIT} cannot be trained: .* use another"):
        check_trainable(backbone(f"timm:{VIT}"))


def test_a_network_with_maps_can() -> None:
    known = backbone(f"timm:{RESNET}")
    check_trainable(known)
    assert known.body is not None
    maps = known.body(known.build().eval())(torch.zeros(1, 3, 160, 160))
    assert maps.shape == (1, 96, 5, 5)
