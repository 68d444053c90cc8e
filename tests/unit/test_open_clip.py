"""Pairs of towers as open_clip builds and stores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simdist.embedding import Embedder, load_model
from simdist.embedding.backbones import backbone
from simdist.embedding.open_clip_networks import TextTower, tokenizer
from simdist.errors import ModelError, UsageError
from tests.conftest import PHOTOS

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
TEXTS = ["a red bicycle", "Ein Fahrrad, rot", "word " * 50]


def written(folder: Path, config: dict[str, Any] = TINY, *, weights: bool = True) -> Any:
    """A pair with random weights, in the layout of the Hub; returns it."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    card = {"model_cfg": config, "preprocess_cfg": {"size": 64, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(card))
    torch.manual_seed(0)
    pair = open_clip.create_model(f"local-dir:{folder}", load_weights=False).eval()
    if weights:
        # In the older form, which has the words' tower in pieces.
        state = {name: value.contiguous() for name, value in pair.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
    return pair


def test_both_towers_are_those_of_open_clip(tmp_path: Path) -> None:
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    pair = written(tmp_path / "pair")
    name = f"open_clip:local-dir:{tmp_path / 'pair'}"
    embedder = Embedder(load_model(name), full_precision=True)
    assert embedder.model.dim == TINY["embed_dim"]
    tokens = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'pair'}")(TEXTS)
    with torch.inference_mode():
        words = pair.encode_text(tokens, normalize=True).numpy()
    assert np.abs(embedder.embed_texts(TEXTS) - words).max() < 1e-5

    config = PreprocessCfg(**pair.visual.preprocess_cfg)
    transform = image_transform_v2(config, is_train=False)
    photos = sorted(PHOTOS.glob("*/*"))[:3]
    for photo in photos:
        Image.open(photo).convert("RGB").resize((64, 64)).save(tmp_path / f"{photo.stem}.png")
    pictures = sorted(tmp_path.glob("*.png"))
    with torch.inference_mode():
        inputs = torch.stack([transform(Image.open(picture)) for picture in pictures])
        images = pair.encode_image(inputs, normalize=True).numpy()
    assert np.abs(embedder.embed_files(pictures) - images).max() < 1e-5


def test_an_architecture_is_known_without_its_folder(tmp_path: Path) -> None:
    """As Ray's workers, which have no such folder, build it."""
    written(tmp_path / "pair")
    model = load_model(f"open_clip:local-dir:{tmp_path / 'pair'}")
    (tmp_path / "pair" / "open_clip_config.json").unlink()
    assert backbone(model.backbone).dim == model.dim
    assert Embedder(model).embed(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, model.dim)
    assert model.id.startswith("open_clip:custom-")


def test_what_open_clip_lists_is_built_by_its_name() -> None:
    known = backbone("open_clip:ViT-B-32")
    assert known.dim == 512
    with pytest.raises(UsageError, match="there is no architecture 'ViT-Z' in open_clip"):
        backbone("open_clip:ViT-Z")
    with pytest.raises(UsageError, match="one of openai, laion400m_e31"):
        load_model("open_clip:ViT-B-32")
    with pytest.raises(UsageError, match="for ViT-B-32-quickgelu: name that"):
        load_model("open_clip:ViT-B-32/openai")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (None, "cannot read .*open_clip_config.json: No such file"),
        ("[]", "describes no model"),
        ("{", "describes no model"),
        ('{"model_cfg": {}}', "describes no model"),
        ('{"model_cfg": {"embed_dim": 8, "vision_cfg": 7, "text_cfg": {}}}', "no weights in a"),
    ],
)
def test_folders_that_are_none(tmp_path: Path, card: str | None, message: str) -> None:
    if card is not None:
        (tmp_path / "open_clip_config.json").write_text(card)
    with pytest.raises(ModelError, match=message):
        load_model(f"open_clip:local-dir:{tmp_path}")


def test_weights_that_could_run_code_are_not_read(tmp_path: Path) -> None:
    pair = written(tmp_path / "pair", weights=False)
    torch.save(pair.state_dict(), tmp_path / "pair" / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="others may run code"):
        load_model(f"open_clip:local-dir:{tmp_path / 'pair'}")


def test_weights_of_another_pair(tmp_path: Path) -> None:
    written(tmp_path / "pair")
    wider = TINY | {"embed_dim": 32}
    written(tmp_path / "other", wider, weights=False)
    (tmp_path / "pair" / "open_clip_model.safetensors").rename(
        tmp_path / "other" / "open_clip_model.safetensors"
    )
    with pytest.raises(ModelError, match="cannot load"):
        load_model(f"open_clip:local-dir:{tmp_path / 'other'}")


def test_a_model_that_reads_no_words(embedder: Embedder) -> None:
    with pytest.raises(UsageError, match="reads no words"):
        embedder.embed_texts(["a fish"])


def test_a_tokenizer_whose_package_is_missing_says_which() -> None:
    """SigLIP 2's, which wants transformers; the tests' environment has none."""
    with pytest.raises(ModelError, match="needs transformers: pip install transformers"):
        tokenizer(TextTower("open_clip:ViT-B-16-SigLIP2", "ViT-B-16-SigLIP2", {}))
