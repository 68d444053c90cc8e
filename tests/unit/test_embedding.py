from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simdist.embedding import Embedder, Model
from simdist.embedding.backbones import backbone
from simdist.embedding.embedder import fast_precision
from simdist.embedding.folding import fold_batch_norms
from simdist.errors import ImageError, ModelError, UsageError
from simdist.images.decoding import decode
from simdist.images.limits import Pixels
from simdist.images.resizing import Resize
from tests.conftest import PHOTOS

Vectors = NDArray[np.float32]
SIDE = 96


@pytest.fixture(scope="module")
def models(lite0: Model, untrained: Model) -> dict[str, Model]:
    """Every backbone of the table; resnet34 with weights from a seed.

    At a smaller size than their own: the networks take any, and a fifth of the work is as good.
    """
    small = {
        model.backbone: replace(model.preprocessing, size=SIDE) for model in (lite0, untrained)
    }
    return {
        model.backbone: replace(model, preprocessing=small[model.backbone])
        for model in (lite0, untrained)
    }


@pytest.fixture(scope="module")
def embedders(models: dict[str, Model]) -> dict[str, Embedder]:
    return {name: Embedder(model, device="cpu") for name, model in models.items()}


@pytest.fixture(scope="module")
def pixels(photos: list[Path]) -> Pixels:
    return np.stack([decode(path.read_bytes(), size=SIDE) for path in photos])


@pytest.fixture(scope="module")
def rows(embedders: dict[str, Embedder], pixels: Pixels) -> dict[str, Vectors]:
    """The embeddings of all photographs, embedded in one call."""
    return {name: embedder.embed(pixels) for name, embedder in embedders.items()}


def _network(model: Model) -> nn.Module:
    network = backbone(model.backbone).build()
    network.load_state_dict(dict(model.weights))
    return network.eval()


def _cut_resnet34(network: nn.Module, inputs: Tensor) -> Tensor:
    cut: Tensor = nn.Sequential(*list(network.children())[:-1])(inputs)  # all but the classifier
    return cut


def _cut_efficientnet_lite0(network: nn.Module, inputs: Tensor) -> Tensor:
    features: Tensor = network.extract_features(inputs)  # type: ignore[operator]
    return features.mean(dim=(2, 3))


CUTS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "resnet34": _cut_resnet34,
    "efficientnet-lite0": _cut_efficientnet_lite0,
}


def test_fast_precision_changes_no_neighbour(lite0: Model, photos: list[Path]) -> None:
    fast = Embedder(lite0, device="cpu").embed_files(photos)
    exact = Embedder(lite0, device="cpu", full_precision=True).embed_files(photos)
    assert np.einsum("nd,nd->n", fast, exact).min() > 0.99
    scores = fast @ exact.T
    assert (scores.argmax(axis=1) == np.arange(len(photos))).all()


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("size", [SIDE, 224])
def test_the_hook_takes_what_cutting_the_network_gives(
    name: str, size: int, models: dict[str, Model], photos: list[Path]
) -> None:
    model = replace(models[name], preprocessing=replace(models[name].preprocessing, size=size))
    pixels = np.stack([decode(path.read_bytes(), size=size) for path in photos[:2]])
    inputs = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)
    for channel in range(3):
        inputs[:, channel] -= model.preprocessing.mean[channel]
        inputs[:, channel] /= model.preprocessing.std[channel]
    with torch.inference_mode():
        cut = CUTS[name](_network(model), inputs).flatten(1).numpy()
    assert cut.shape == (len(pixels), model.dim)
    rows = Embedder(model, device="cpu", full_precision=True).embed(pixels)
    assert np.allclose(rows, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("name", CUTS)
def test_rows_are_float32_of_length_one_and_differ(name: str, rows: dict[str, Vectors]) -> None:
    vectors = rows[name]
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = vectors @ vectors.T
    assert np.all(cosines[~np.eye(len(vectors), dtype=bool)] < 0.9999)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize("name", CUTS)
def test_a_row_does_not_depend_on_its_batch(
    name: str,
    count: int,
    embedders: dict[str, Embedder],
    pixels: Pixels,
    rows: dict[str, Vectors],
) -> None:
    vectors = embedders[name].embed(pixels[:count])
    assert vectors.shape == (count, embedders[name].model.dim)
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, rows[name][:count], atol=1e-5)


@pytest.mark.parametrize("kind", ["read-only", "strided", "Fortran", "reversed"])
def test_pixels_of_any_memory_layout_are_taken(
    kind: str, embedders: dict[str, Embedder], pixels: Pixels, rows: dict[str, Vectors]
) -> None:
    given = pixels[:2].copy()
    match kind:
        case "read-only":  # as Pillow and Ray hand them out
            given.flags.writeable = False
        case "strided":
            given = np.repeat(given, 2, axis=0)[::2]
        case "Fortran":
            given = np.asfortranarray(given)
        case "reversed":
            given = given[::-1].copy()[::-1]
    before = given.copy()
    vectors = embedders["efficientnet-lite0"].embed(given)
    assert np.allclose(vectors, rows["efficientnet-lite0"][:2], atol=1e-5)
    assert np.array_equal(given, before)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 100, 100, 3), np.uint8),
        np.zeros((1, 3, 224, 224), np.uint8),
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((1, 224, 224, 4), np.uint8),
    ],
    ids=lambda wrong: f"{wrong.shape} {wrong.dtype}",
)
def test_pixels_of_another_shape_or_type_are_refused(embedder: Embedder, wrong: Pixels) -> None:
    with pytest.raises(UsageError, match=r"pixels must be \(n, 224, 224, 3\) uint8"):
        embedder.embed(wrong)


def test_files_are_embedded_as_their_pixels_are(
    embedders: dict[str, Embedder], photos: list[Path], rows: dict[str, Vectors]
) -> None:
    vectors = embedders["efficientnet-lite0"].embed_files(photos)
    assert np.allclose(vectors, rows["efficientnet-lite0"], atol=1e-5)


def test_no_files_are_no_rows(embedder: Embedder) -> None:
    assert embedder.embed_files([]).shape == (0, 1280)


def test_a_bad_file_among_files_is_an_error(
    embedder: Embedder, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ImageError, match="not an image"):
        embedder.embed_files([photo, tmp_path / "text.jpg"])
    with pytest.raises(FileNotFoundError):
        embedder.embed_files([photo, tmp_path / "missing.jpg"])


def test_real_weights_see_what_is_alike(embedder: Embedder, photos: list[Path]) -> None:
    """Two photographs of each of four folders: more alike than those of different folders."""
    by_folder = sorted(photos, key=lambda path: path.parent.name)[:8]
    vectors = embedder.embed_files(by_folder)
    cosines = vectors @ vectors.T
    folders = np.array([path.parent.name for path in by_folder])
    alike = folders[:, None] == folders
    np.fill_diagonal(alike, val=False)
    other = folders[:, None] != folders
    assert cosines[alike].mean() > cosines[other].mean() + 0.1


def _hooks(network: nn.Module) -> int:
    return sum(len(layer._forward_hooks) for layer in network.modules())


@pytest.mark.parametrize("name", CUTS)
def test_use_leaves_one_hook_and_no_tensors(
    name: str, embedders: dict[str, Embedder], pixels: Pixels
) -> None:
    embedder = embedders[name]

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    embedder.embed(pixels[:1])
    before = tensors()
    for _ in range(3):
        embedder.embed(pixels[:1])
    assert tensors() == before
    assert embedder._tapped is None
    assert _hooks(embedder._network) == 1
    assert len(embedder._network.get_submodule(embedder.model.tap)._forward_hooks) == 1


def test_embedding_leaves_the_models_weights_alone(
    models: dict[str, Model], pixels: Pixels
) -> None:
    """Folding changes the network's weights, which must be copies: the id is of the model's."""
    model = models["efficientnet-lite0"]
    before = replace(model).id
    Embedder(model, device="cpu").embed(pixels[:1])
    assert replace(model).id == before


# Folding.


@pytest.mark.parametrize("name", CUTS)
def test_a_folded_network_computes_the_same(name: str, models: dict[str, Model]) -> None:
    network = _network(models[name])
    folded = copy.deepcopy(network)
    fold_batch_norms(folded, torch.zeros(1, 3, SIDE, SIDE))
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert _hooks(folded) == 0
    inputs = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = network(inputs), folded(inputs)
    assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))
    assert float(one.std()) > 1e-3


def _random_norm(width: int, **options: bool) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width, **options)
    for numbers in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        if numbers is not None:
            nn.init.uniform_(numbers, 0.5, 1.5)
    return norm


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        (lambda: [nn.Conv2d(3, 4, 3), _random_norm(4)], 0),
        (lambda: [nn.Conv2d(3, 4, 3, bias=False), _random_norm(4)], 0),
        (lambda: [nn.Conv2d(3, 6, 3, groups=3), _random_norm(6, affine=False)], 0),
        (lambda: [nn.Conv2d(3, 4, 3), _random_norm(4, track_running_stats=False)], 1),
        (lambda: [_random_norm(3), nn.Conv2d(3, 4, 3)], 1),
        (lambda: [nn.Conv2d(3, 4, 3), nn.ReLU(), _random_norm(4)], 1),
        (lambda: [nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), _random_norm(4)], 1),
        (lambda: [nn.Conv2d(3, 4, 3), nn.Sequential(_random_norm(4), nn.ReLU())], 0),
    ],
    ids=[
        "plain",
        "no bias",
        "grouped",
        "no statistics",
        "norm first",
        "norm later",
        "in place",
        "nested",
    ],
)
def test_only_a_norm_right_behind_a_convolution_is_folded(
    layers: Callable[[], list[nn.Module]], left: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(*layers()).eval()
        inputs = torch.randn(2, 3, 9, 9)
    with torch.inference_mode():
        before = network(inputs)
        fold_batch_norms(network, torch.zeros(1, 3, 9, 9))
        after = network(inputs)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == left
    assert torch.allclose(before, after, atol=1e-5)


def test_a_norm_is_not_folded_where_others_use_the_convolutions_output_too() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(3, 4, 3), _random_norm(4), nn.Identity()

        def forward(self, inputs: Tensor) -> Tensor:
            made = self.conv(inputs)
            both: Tensor = self.norm(made) + self.other(made)
            return both

    network, inputs = Forked().eval(), torch.randn(2, 3, 9, 9)
    with torch.inference_mode():
        before = network(inputs)
        fold_batch_norms(network, torch.zeros(1, 3, 9, 9))
        assert torch.allclose(before, network(inputs), atol=1e-5)


# Models that do not fit.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("a weight is missing", "the weights or the tap do not fit the backbone"),
        ("a weight has another shape", "the weights or the tap do not fit the backbone"),
        ("the weights are another backbone's", "the weights or the tap do not fit the backbone"),
        ("the tap is no layer", "the weights or the tap do not fit the backbone"),
        ("the tap is another layer", "puts out 36864 numbers an image, not 512"),
        ("the tap is the whole network", "puts out 1000 numbers an image, not 512"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    change: str, reason: str, models: dict[str, Model], pixels: Pixels
) -> None:
    model = models["resnet34"]
    weights = dict(model.weights)
    tap = model.tap
    match change:
        case "a weight is missing":
            del weights["conv1.weight"]
        case "a weight has another shape":
            weights["conv1.weight"] = torch.zeros(64, 3, 5, 5)
        case "the weights are another backbone's":
            weights = dict(models["efficientnet-lite0"].weights)
        case "the tap is no layer":
            tap = "no.layer"
        case "the tap is another layer":
            tap = "layer1"
        case "the tap is the whole network":
            tap = ""
    with pytest.raises(ModelError, match=reason):
        Embedder(replace(model, weights=weights, tap=tap), device="cpu").embed(pixels[:1])


def test_a_device_whose_memory_is_too_small_gets_fewer_images_at_a_time(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two sizes are refused as a full GPU refuses them; the rest is the real network."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, 224, 224, 3), np.uint8)
    expected = embedder.embed(pixels)
    forward, sizes = embedder._run, list[int]()

    def full(batch: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return forward(batch)

    monkeypatch.setattr(embedder, "_run", full)
    monkeypatch.setattr(embedder, "batch", 8)
    assert (embedder.embed(pixels) == expected).all()
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert embedder.batch == 2


def test_bytes_in_vectors_out(embedder: Embedder, photos: list[Path]) -> None:
    expected = embedder.embed(
        np.stack([embedder.model.preprocessing.pixels(path.read_bytes()) for path in photos[:3]])
    )
    images = (path.read_bytes() for path in photos[:3])
    assert (embedder.embed_images(images) == expected).all()
    assert (embedder.embed_files(photos[:3]) == expected).all()
    assert embedder.embed_images([]).shape == (0, embedder.model.dim)


def test_how_pixels_are_resized_belongs_to_the_model(
    embedder: Embedder, photo: Path, lite0: Model
) -> None:
    cropped = replace(lite0, preprocessing=replace(lite0.preprocessing, resize=Resize.crop))
    assert cropped.id != lite0.id
    [one], [other] = embedder.embed_files([photo]), Embedder(cropped).embed_files([photo])
    assert 0.5 < one @ other < 0.999


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_what_comes_with_the_installation_finds_pictures_of_the_same_kind(name: str) -> None:
    folders = sorted(path for path in PHOTOS.iterdir() if path.is_dir())
    files = [file for folder in folders for file in sorted(folder.glob("*.jpg"))[::4]]
    vectors = Embedder.load(name, device="cpu").embed_files(files)
    similar = vectors @ vectors.T - 2 * np.eye(len(files), dtype=np.float32)
    nearest = [
        files[at].parent == file.parent
        for file, at in zip(files, similar.argmax(axis=1), strict=True)
    ]
    assert np.mean(nearest) > 0.85


def test_what_was_staged_is_embedded_as_what_was_given(
    embedder: Embedder, photos: list[Path]
) -> None:
    pixels = np.stack([embedder.model.preprocessing.pixels(p.read_bytes()) for p in photos[:5]])
    first, second = embedder.stage(pixels), embedder.stage(pixels[::-1])
    assert np.array_equal(embedder.embed(second), embedder.embed(pixels[::-1]))
    assert np.array_equal(embedder.embed(first), embedder.embed(pixels))
    with pytest.raises(UsageError, match="pixels must be"):
        embedder.stage(pixels[:, 1:])


def test_a_gpu_that_cannot_multiply_bfloat16_gets_float16() -> None:
    able = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    assert fast_precision("cuda") == (torch.bfloat16 if able else torch.float16)
