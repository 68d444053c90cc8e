"""A small pair of towers that was trained here, in the layout in which open_clip publishes its own.

The tower of images is timm's EfficientNet-Lite0 with the weights that come with the installation;
that of words is a small transformer, trained to put the names of categories beside photographs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.embedding import load_model

DIM = 1280
CONFIG = {
    "embed_dim": DIM,
    "vision_cfg": {
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "none",
        "image_size": 224,
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    "custom_text": True,
}
PREPROCESSING = {
    "size": 224,
    "mode": "RGB",
    "mean": [127 / 255] * 3,
    "std": [128 / 255] * 3,
    "interpolation": "bilinear",
    "resize_mode": "squash",
}
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of the {}")


def write_towers(
    folder: Path, shown: Mapping[str, NDArray[np.float32]], *, steps: int = 60
) -> None:
    """Train the tower of words, and write both.

    Args:
        shown: for each name, (n, DIM) float32 embeddings of photographs that show it.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    # On a busy machine two threads wait for each other longer than one takes.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    card = {"model_cfg": CONFIG, "preprocess_cfg": PREPROCESSING}
    (folder / "open_clip_config.json").write_text(json.dumps(card))
    towers = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    towers.visual.trunk.load_state_dict(trunk())
    train(towers.text, open_clip.get_tokenizer(f"local-dir:{folder}"), shown, steps=steps)
    torch.set_num_threads(threads)
    save_file(towers.state_dict(), folder / "open_clip_model.safetensors")


def trunk() -> dict[str, Any]:
    """The installed weights under timm's names: the same network, its layers in the same order."""
    import timm

    own = load_model("efficientnet-lite0").weights
    names = timm.create_model("tf_efficientnet_lite0", num_classes=0).state_dict()
    return dict(zip(names, list(own.values())[: len(names)], strict=True))


def train(
    text: Any, tokenize: Any, shown: Mapping[str, NDArray[np.float32]], *, steps: int
) -> None:
    """By the cross-entropy of each name among all, given a photograph."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    names = list(shown)
    # What all photographs have in common tells nothing; words are to say the rest.
    centres = np.stack([vectors.mean(axis=0) for vectors in shown.values()])
    centres -= centres.mean(axis=0)
    images = normalize(torch.from_numpy(centres), dim=1)
    optimiser = torch.optim.AdamW(text.parameters(), lr=5e-3)
    for step in range(steps):
        template = TEMPLATES[step % len(TEMPLATES)]
        words = text(tokenize([template.format(name.replace("_", " ")) for name in names]))
        loss: Any = cross_entropy(20 * normalize(words, dim=1) @ images.T, torch.arange(len(names)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    text.eval()
