"""SSCD, a network for finding copies (Pizzi et al., 2022), from its file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simdist.embedding import torchvision_networks
from simdist.errors import ModelError, Remedy

if TYPE_CHECKING:
    from torch import Tensor, nn

DIM = 512
_POWER = 3.0


def build() -> nn.Module:
    """torchvision's ResNet-50 with generalised-mean pooling and a linear layer, without weights.

    Its parameters are called as in Meta's files `sscd_*.torchvision.pt`.
    """
    from torch import nn
    from torchvision.models import resnet50

    class SSCD(nn.Module):
        """Pictures -> (n, DIM)."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = resnet50(weights=None, num_classes=DIM)
            self.backbone.avgpool = _generalised_mean()

        def forward(self, inputs: Tensor) -> Tensor:
            rows: Tensor = self.backbone(inputs)
            return rows

    return SSCD()


def _generalised_mean() -> nn.Module:
    from torch import nn

    class GeneralisedMean(nn.Module):
        """(n, c, h, w) -> (n, c, 1, 1): the mean of each channel's cubes, and its cube root."""

        def forward(self, maps: Tensor) -> Tensor:
            # In float32: float16 has no room for cubes.
            cubes = maps.float().clamp(min=1e-6) ** _POWER
            means: Tensor = cubes.mean((2, 3), keepdim=True) ** (1 / _POWER)
            return means.to(maps.dtype)

    return GeneralisedMean()


def body(network: nn.Module) -> nn.Module:
    """The ResNet up to its map of features."""
    return torchvision_networks.before(network.get_submodule("backbone"), "avgpool")


def published_weights() -> Mapping[str, Tensor]:
    """There are none that simdist can fetch.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        "the weights of sscd are not downloaded: fetch sscd_disc_mixup.torchvision.pt as SSCD's "
        "README says, and give that file",
        remedy=Remedy.WEIGHTS,
    )
