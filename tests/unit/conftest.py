"""What the unit tests share: real photographs, and real models loaded once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from simdist.embedding import Embedder, Model, load_model

# On cores that are shared, threads that wait for each other make a network ten times slower.
torch.set_num_threads(1)

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="session")
def photo() -> Path:
    return EXAMPLES / "photos" / "monuments" / "petra.jpg"


@pytest.fixture(scope="session")
def photos() -> list[Path]:
    """Nine photographs, two of each folder and one more."""
    folders = sorted((EXAMPLES / "photos").iterdir())
    return [path for folder in folders for path in sorted(folder.glob("*.jpg"))[:2]][:9]


@pytest.fixture(scope="session")
def lite0() -> Model:
    return load_model("efficientnet-lite0")


@pytest.fixture(scope="session")
def embedder(lite0: Model) -> Embedder:
    return Embedder(lite0, device="cpu")


@pytest.fixture(scope="session")
def resnet34_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right names and shapes for resnet34, from a seed: a model of nothing."""
    from safetensors.torch import save_file
    from torchvision.models import resnet34

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = resnet34(weights=None).state_dict()
        for name, tensor in state.items():
            # As after training: batch norms that do something.
            if name.endswith(("running_var", "bn1.weight", "bn2.weight")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bn1.bias", "bn2.bias")):
                tensor.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("weights") / "resnet34.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="session")
def untrained(resnet34_weights: Path) -> Model:
    return load_model("resnet34", weights=resnet34_weights)


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and nobody to download from."""
    from torchvision.models import ResNet34_Weights

    entry = ResNet34_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(entry, "url", "http://127.0.0.1:9/resnet34-b627a593.pth")
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"
