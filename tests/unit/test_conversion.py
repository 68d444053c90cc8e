"""What fastai exported -> a bundle."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from simdist.embedding import Embedder, load_model
from simdist.errors import ModelError, UsageError
from simdist.images.decoding import decode
from simdist.training.conversion import convert
from simdist.training.learner import quiet_fastai
from tests.conftest import PHOTOS

pytestmark = pytest.mark.slow

SIDE = 64


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 made and exported as fastai's tutorials do it, without weights of any worth."""
    folder = tmp_path_factory.mktemp("export")
    for category in ("fish", "tools"):
        (folder / "photos" / category).mkdir(parents=True)
        for photo in sorted((PHOTOS / category).glob("*.jpg"))[:3]:
            shutil.copy(photo, folder / "photos" / category)
    with quiet_fastai(), torch.random.fork_rng():
        from fastai.vision.augment import Resize, aug_transforms
        from fastai.vision.data import ImageDataLoaders
        from fastai.vision.learner import vision_learner
        from torchvision.models import resnet18

        torch.manual_seed(0)
        loaders = ImageDataLoaders.from_folder(
            *(folder / "photos",),
            valid_pct=0.4,
            seed=0,
            bs=2,
            num_workers=0,
            item_tfms=Resize(100),
            batch_tfms=aug_transforms(size=SIDE),
            device=torch.device("cpu"),
        )
        learner = vision_learner(loaders, resnet18, pretrained=False, normalize=False)
        learner.path = folder
        learner.export("export.pkl")
    return folder / "export.pkl"


def test_a_bundle_embeds_as_the_exported_learner_does(export: Path, tmp_path: Path) -> None:
    model = convert(export, tmp_path / "bundle", arch="resnet18", trust=True)
    assert model.classes == ("fish", "tools")
    # Without `Normalize` pixels are only brought to 0 to 1.
    assert model.preprocessing.size == SIDE
    assert model.preprocessing.mean == (0, 0, 0)
    assert load_model(str(tmp_path / "bundle")).id == model.id
    photos = sorted((PHOTOS / "fish").glob("*.jpg"))[:3]
    embedder = Embedder(load_model(str(tmp_path / "bundle")), device="cpu", full_precision=True)
    rows = embedder.embed_files(photos)
    with quiet_fastai():
        from fastai.learner import load_learner

        with pytest.warns(UserWarning, match="insecure pickle"):
            network = load_learner(export).model.eval()
    kept: list[torch.Tensor] = []
    network[1][5].register_forward_hook(lambda _layer, _inputs, output: kept.append(output.clone()))
    pixels = np.stack([decode(path.read_bytes(), size=SIDE) for path in photos])
    with torch.inference_mode():
        network(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)
    theirs = torch.nn.functional.normalize(kept[0], dim=1).numpy()
    assert np.allclose(rows, theirs, atol=1e-5)


def test_a_folder_with_a_name_like_its_own_is_left_alone(export: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.partial").mkdir()
    (tmp_path / "bundle.partial" / "diary.txt").write_text("dear")
    convert(export, tmp_path / "bundle", arch="resnet18", trust=True)
    assert (tmp_path / "bundle.partial" / "diary.txt").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "bundle.partial"]


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_without_trust_nothing_is_read(tmp_path: Path) -> None:
    torch.save(Hostile(tmp_path / "trap"), tmp_path / "export.pkl")
    with pytest.raises(
        UsageError,
        match=r"is a pickle: reading it runs whatever (?s:.*) only if you know who made it",
    ):
        convert(tmp_path / "export.pkl", tmp_path / "bundle", arch="resnet34", trust=False)
    assert not (tmp_path / "trap").exists()
    # With it, the trap does work: that is what is warned of.
    with pytest.raises(ModelError, match="cannot be read as an exported learner"):
        convert(tmp_path / "export.pkl", tmp_path / "bundle", arch="resnet34", trust=True)
    assert (tmp_path / "trap").is_dir()
    assert not (tmp_path / "bundle").exists()


def test_another_network_is_refused(export: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"is not a resnet34 with fastai's head: name the network that it is"
    ):
        convert(export, tmp_path / "bundle", arch="resnet34", trust=True)
    with pytest.raises(UsageError, match="vit_b_16 cannot be trained"):
        convert(export, tmp_path / "bundle", arch="vit_b_16", trust=True)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"model": 1})])
def test_a_file_that_is_not_an_export_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "export.pkl").write_bytes(content)
    with pytest.raises(ModelError, match=r"export\.pkl"):
        convert(tmp_path / "export.pkl", tmp_path / "bundle", arch="resnet18", trust=True)
    with pytest.raises(ModelError, match="there is no such file"):
        convert(tmp_path / "missing.pkl", tmp_path / "bundle", arch="resnet18", trust=True)


def test_nothing_is_overwritten(export: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ModelError, match="exists already"):
        convert(export, tmp_path / "bundle", arch="resnet18", trust=True)


def test_without_fastai_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastai", None)
    with pytest.raises(ModelError, match=r"pip install 'simdist\[train\]'"):
        convert(tmp_path / "export.pkl", tmp_path / "bundle", arch="resnet18", trust=True)
