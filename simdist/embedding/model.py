"""A model: a backbone, its weights, its preprocessing and its tap; and where it is read from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simdist.embedding import bundle, head, licences, open_clip_networks
from simdist.embedding.backbones import backbone, is_backbone
from simdist.embedding.open_clip_networks import TextTower
from simdist.embedding.preprocessing import Preprocessing
from simdist.embedding.weights import read_weights
from simdist.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Model:
    """What turns pixels into embeddings, as data: it can be hashed, saved and sent to actors.

    Attributes:
        backbone: its name in the table of backbones.
        weights: the network's state, by parameter name.
        preprocessing: from uint8 pixels to the network's input.
        tap: dotted name of the layer whose output is the embedding; with `:input` behind it, the
            embedding is what that layer is given.
        classes: what it has learned to tell apart; empty for a backbone as it was published.
        text: what words are embedded by, where it reads them; no part of what the id stands for.
        source: what `load_model` takes, where that is not the backbone's name; nor is this.
        licence: of the weights, or of those that they were trained from; empty where nobody says.
            No part of the id.
    """

    backbone: str
    weights: Mapping[str, Tensor]
    preprocessing: Preprocessing
    tap: str
    classes: tuple[str, ...] = ()
    licence: str = ""
    text: TextTower | None = None
    source: str = ""

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return head.DIM if self.classes else backbone(self.backbone).dim

    def network(self) -> nn.Module:
        """The network with copies of the weights, in evaluation mode.

        Raises:
            ModelError: the weights do not fit the backbone.
        """
        known = backbone(self.backbone)
        try:
            classes = len(self.classes)
            network = head.with_head(known, classes) if classes else known.build()
            network.load_state_dict(dict(self.weights))
        except (RuntimeError, UsageError) as error:
            raise misfit(self, error) from error
        return network.eval().requires_grad_(False)

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
        # Without the configuration that may be part of the name.
        return f"{self.backbone.partition('{')[0]}-{digest.hexdigest()[:12]}"


def misfit(model: Model, error: Exception) -> ModelError:
    """The error of a model whose parts do not belong together."""
    reason = str(error).splitlines()[-1].strip()
    return ModelError(f"the weights or the tap do not fit the backbone {model.backbone}: {reason}")


def load_model(name: str, *, weights: Path | None = None, accept_licence: bool = False) -> Model:
    """Load a model by its name or from a bundle.

    Args:
        name: a backbone (see `backbones.backbone`), or else the folder of a bundle.
        weights: a .safetensors or .pth file to use in place of the published weights.
        accept_licence: load it also if its licence forbids commercial use.

    Raises:
        UsageError: no such name; or a licence that must be accepted, and is not.
        ModelError: the weights cannot be downloaded, read, or do not fit the backbone.
    """
    try:
        folder = Path(name).expanduser()
        is_bundle = weights is None and not is_backbone(name) and folder.is_dir()
    except (OSError, RuntimeError) as error:  # no permission; no such user for `~user`
        raise ModelError(f"cannot read the model {name}: {error}") from error
    if is_bundle:
        card, state = bundle.read(folder)
        licences.require(card.licence, name, accepted=accept_licence)
        model = Model(
            card.backbone,
            state,
            card.preprocessing,
            card.tap,
            card.classes,
            card.licence,
            source=str(folder.absolute()),
        )
        if card.model_id and card.model_id != model.id:
            raise ModelError(
                f"{folder / bundle.WEIGHTS} does not hold the weights that its card describes "
                f"({card.model_id}): the bundle was changed or mixed up; copy it anew"
            )
        return model
    if open_clip_networks.is_name(name):
        licence = open_clip_networks.licence_of(name)
        licences.require(licence, name, accepted=accept_licence)
        towers = open_clip_networks.load(name, weights=weights)
        known = backbone(towers.architecture)
        return Model(
            known.name,
            towers.image,
            towers.preprocessing,
            known.tap,
            licence=licence,
            text=towers.text,
            source=towers.source,
        )
    known = backbone(name)
    licences.require(known.licence, known.name, accepted=accept_licence)
    state = known.published_weights() if weights is None else known.adapt(read_weights(weights))
    return Model(
        known.name,
        state,
        known.preprocessing,
        known.tap,
        licence=known.licence,
        source=name if weights is None else "",
    )


def save_bundle(model: Model, folder: Path, *, about: Mapping[str, Any] | None = None) -> None:
    """Write a model as a bundle (see `simdist.embedding.bundle`).

    Args:
        about: a JSON object for people: where the model comes from, how good it is.
    """
    card = bundle.Card(
        model.backbone,
        model.preprocessing,
        model.tap,
        model.classes,
        model.id,
        about or {},
        model.licence,
    )
    bundle.write(folder, card, model.weights)
