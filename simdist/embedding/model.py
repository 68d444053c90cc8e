"""A model: a backbone, its weights, its preprocessing and its tap; and where it is read from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from simdist.embedding import bundle
from simdist.embedding.backbones import BACKBONES, Preprocessing, backbone
from simdist.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Model:
    """What turns pixels into embeddings, as data: it can be hashed, saved and sent to actors.

    Attributes:
        backbone: its name in the table of backbones.
        weights: the network's state, by parameter name.
        preprocessing: from uint8 pixels to the network's input.
        tap: dotted name of the layer whose output is the embedding.
    """

    backbone: str
    weights: Mapping[str, Tensor]
    preprocessing: Preprocessing
    tap: str

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return backbone(self.backbone).dim

    @cached_property
    def id(self) -> str:
        """The backbone's name and the hash of all four: equal ids make equal embeddings."""
        import torch

        digest = hashlib.sha256()
        card = {"backbone": self.backbone, "tap": self.tap} | self.preprocessing.as_json()
        digest.update(json.dumps(card, sort_keys=True).encode())
        for name, tensor in sorted(self.weights.items()):
            values = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            # As bytes: NumPy does not know all of torch's types.
            digest.update(values.flatten().view(torch.uint8).numpy().data)
        return f"{self.backbone}-{digest.hexdigest()[:12]}"


def load_model(name: str, *, weights: Path | None = None) -> Model:
    """Load a model by its name or from a bundle.

    Args:
        name: a backbone of the table, or else the folder of a bundle.
        weights: a .safetensors or .pth file to use in place of the published weights.

    Raises:
        UsageError: no such name.
        ModelError: the weights cannot be downloaded, read, or do not fit the backbone.
    """
    try:
        folder = Path(name).expanduser()
        is_bundle = weights is None and name not in BACKBONES and folder.is_dir()
    except (OSError, RuntimeError) as error:  # no permission; no such user for `~user`
        raise ModelError(f"cannot read the model {name}: {error}") from error
    if is_bundle:
        card, state = bundle.read(folder)
        return Model(card.backbone, state, card.preprocessing, card.tap)
    known = backbone(name)
    state = known.published_weights() if weights is None else _read_weights(weights)
    return Model(known.name, state, known.preprocessing, known.tap)


def save_bundle(model: Model, folder: Path) -> None:
    """Write a model as a bundle (see `simdist.embedding.bundle`)."""
    card = bundle.Card(model.backbone, model.preprocessing, model.tap)
    bundle.write(folder, card, model.weights)


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    import torch

    if path.suffix == ".safetensors":
        return bundle.read_safetensors(path)
    try:
        # weights_only: unpickles tensors and nothing else, so a hostile file cannot run code.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read the weights {path}: {error.strerror}") from error
    # torch raises nearly anything on a damaged or hostile file; all of it means the same here.
    except Exception as error:
        raise ModelError(
            f"{path} is not a file of weights: give a .safetensors file or a state dict (.pth)"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise ModelError(f"{path} holds something other than a state dict of tensors")
    return state
