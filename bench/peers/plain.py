"""The embedder as a user of PyTorch writes it: eager, float32, the weights from a file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from simdist.embedding.backbones import backbone
from simdist.embedding.preprocessing import Preprocessing


class Plain:
    """A backbone whose embeddings are the output of one of its layers."""

    def __init__(self, name: str, weights: Path) -> None:
        known = backbone(name)
        self._network = known.build().eval()
        self._network.load_state_dict(torch.load(weights, weights_only=True))
        self._network.get_submodule(known.tap).register_forward_hook(self._keep)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """(n, 3, size, size) float32 -> (n, dim) embeddings of length 1."""
        self._network(images)
        return torch.nn.functional.normalize(self._tapped.flatten(1))

    def _keep(self, _layer: object, _inputs: object, output: Tensor) -> None:
        self._tapped = output


def prepare(data: bytes, preprocessing: Preprocessing) -> Tensor:
    """A file's bytes -> (3, size, size) float32: decoded, resized and normalised."""
    side = (preprocessing.size, preprocessing.size)
    picture = Image.open(io.BytesIO(data)).convert("RGB").resize(side, Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.float32)
    mean, std = np.array([preprocessing.mean, preprocessing.std], dtype=np.float32)
    normal = (pixels - mean) / std
    return torch.from_numpy(normal).permute(2, 0, 1)
