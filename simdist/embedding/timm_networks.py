"""Networks of timm: found by name or in a folder, built, and given their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from simdist.embedding.backbone import Backbone
from simdist.embedding.preprocessing import MAX_SIZE, Preprocessing
from simdist.embedding.timm_weights import adapted, downloaded, of_folder
from simdist.errors import ModelError, UsageError
from simdist.images.resizing import Filter, Resize, Scaling

if TYPE_CHECKING:
    from torch import Tensor, nn

_PREFIX = "timm:"
_FOLDER = "local-dir:"
# What a folder may say of how its network is made, and changes nothing here.
_PASSED_OVER = ("drop_path_rate", "drop_rate", "in_chans", "num_classes")
_RESIZES = {"center": Resize.crop, "squash": Resize.squash}


@dataclass(frozen=True)
class _Network:
    """A network of timm.

    Attributes:
        label: timm's name of the architecture, with the weights' tag behind a dot if they have one.
        arguments: how it is made, where that differs from what is usual for the label.
        config: of its weights, timm's `pretrained_cfg`.
        folder: where its weights are, if not at the Hugging Face Hub.
    """

    label: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def name(self) -> str:
        """What `backbone` finds it by, wherever that is called: without its folder."""
        query = urlencode({key: json.dumps(value) for key, value in self.arguments.items()})
        return f"{_PREFIX}{self.label}" + (f"?{query}" if query else "")

    def create(self, classes: int, **options: Any) -> nn.Module:
        """Make it, with so many classes."""
        import timm

        arguments = {**self.arguments, **_pooling(self.label), **options}
        network: nn.Module = timm.create_model(self.label, num_classes=classes, **arguments)
        return network

    def weights(self) -> Mapping[str, Tensor]:
        """Those of its folder, or those that are published.

        Raises:
            ModelError: they cannot be had.
        """
        if self.folder:
            return self.adapt(of_folder(self.folder))
        return self.adapt(downloaded(self.label, self.config))

    def adapt(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights as a file has them, as the network without its classes has them.

        Raises:
            ModelError: they are not this network's.
        """
        return adapted(weights, self.config, self.name, self.create)


def is_name(name: str) -> bool:
    """Whether it is the name of a network of timm, by how it begins."""
    return name.startswith(_PREFIX)


def backbone(name: str) -> Backbone:
    """A network by its name: `timm:NAME`, or `timm:local-dir:FOLDER`.

    The embedding is the network's output without classes: what timm calls pooled features.

    Raises:
        UsageError: timm has none of that name, or it takes pictures that simdist does not make.
        ModelError: the folder holds no configuration of timm's.
    """
    text = name.removeprefix(_PREFIX)
    network = (
        _in_folder(Path(text.removeprefix(_FOLDER)).expanduser())
        if text.startswith(_FOLDER)
        else _named(text)
    )
    preprocessing = _preprocessing(network)
    dim, has_maps = _output(network.name, preprocessing.size)
    return Backbone(
        network.name,
        "",  # the network itself
        dim,
        preprocessing,
        build=lambda: network.create(0),
        published_weights=network.weights,
        body=_body if has_maps else None,
        licence=str(network.config.get("license") or ""),
        adapt=network.adapt,
    )


def _named(text: str) -> _Network:
    """A network by timm's name of it, with arguments as in a web address behind it."""
    from timm.models import PretrainedCfg, get_pretrained_cfg, is_model, is_model_pretrained

    label, _, query = text.partition("?")
    try:
        arguments = {key: json.loads(value) for key, value in parse_qsl(query, strict_parsing=True)}
    except ValueError as error:
        if query:
            raise UsageError(f"{text!r} does not say how the network is made") from error
        arguments = {}
    known = is_model_pretrained(label) if "." in label else is_model(label)
    if not known or not _are_arguments(arguments):
        raise UsageError(
            f"timm has no model {text!r}: timm.list_pretrained() lists those that there are, such "
            "as vit_small_patch14_dinov2.lvd142m"
        )
    found = get_pretrained_cfg(label) or PretrainedCfg()
    config = found.to_dict()  # type: ignore[no-untyped-call]
    if side := arguments.get("img_size"):
        config["input_size"] = (3, *(side if isinstance(side, list) else (side, side)))
    return _Network(label, arguments, config)


def _in_folder(folder: Path) -> _Network:
    """A network by a folder in the layout of the Hugging Face Hub, as timm writes it."""
    from timm.models import PretrainedCfg, is_model, is_model_pretrained
    from timm.models._hub import load_model_config_from_path

    try:
        config, architecture, arguments = load_model_config_from_path(folder)
        label = f"{architecture}.{config.get('tag')}"
        known, arguments = is_model(architecture), dict(arguments)
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} holds no config.json: give a folder that timm has saved, or a copy of one "
            "of its models on the Hugging Face Hub"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{folder / 'config.json'} is not the config of a timm model") from error
    if not known:
        raise ModelError(
            f"{folder} holds a {architecture!r}, which this timm does not know: update timm"
        )
    for key in _PASSED_OVER:
        arguments.pop(key, None)
    if not _are_arguments(arguments):
        raise ModelError(
            f"the network in {folder} was made with arguments that simdist does not know "
            f"({', '.join(sorted(arguments))}): use one that was made without them"
        )
    usual = _named(label if is_model_pretrained(label) else architecture)
    config = {"input_size": PretrainedCfg.input_size, **config}
    return _Network(usual.label, _unusual(usual, arguments, config), config, folder)


def _unusual(
    usual: _Network, arguments: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Which arguments make another network than the name does alone; timm saves all of them."""
    from timm.models._input import get_model_args

    ordinary = get_model_args(_sketch(usual.name))
    if "img_size" in ordinary:
        # Otherwise it would be made for the size of the usual weights.
        arguments = {"img_size": list(config["input_size"])[1:], **arguments}
        ordinary["img_size"] = list(ordinary["img_size"])
    if isinstance(side := arguments.get("img_size"), int):
        arguments = {**arguments, "img_size": [side, side]}
    odd = {key for key, value in arguments.items() if value != ordinary.get(key)}
    return {key: arguments[key] for key in sorted(odd - set(_pooling(usual.label)))}


def _are_arguments(arguments: Mapping[str, Any]) -> bool:
    """Whether simdist makes networks with such arguments."""

    def is_size(value: Any) -> bool:
        return isinstance(value, int) and 0 < value <= MAX_SIZE

    for key, value in arguments.items():
        match key:
            case "img_size":
                sides = value if isinstance(value, list) and len(value) == 2 else [value]
                if not all(map(is_size, sides)):
                    return False
            case "global_pool" | "dynamic_img_size":
                if not isinstance(value, (str, bool)):
                    return False
            case _:
                return False
    return True


def _pooling(label: str) -> dict[str, str]:
    """What is to be pooled otherwise than timm does by default.

    DINOv3 was trained on its class token; timm takes the mean of all others unless it is told
    (timm/models/eva.py, `_dinov3_cfg`).
    """
    return {"global_pool": "token"} if label.startswith("vit_") and "_dinov3" in label else {}


def _preprocessing(network: _Network) -> Preprocessing:
    """timm's own for evaluation, as its configuration has it."""
    from timm.data.config import resolve_data_config

    try:
        config = dict(network.config)
        data = resolve_data_config(pretrained_cfg=config)  # type: ignore[no-untyped-call]
        channels, height, width = (int(value) for value in data["input_size"])
        side = floor(height / data["crop_pct"])
        resize, filter_ = _RESIZES.get(data["crop_mode"]), Filter(data["interpolation"])
        red, green, blue = (round(255 * float(value), 6) for value in data["mean"])
        reds, greens, blues = (round(255 * float(value), 6) for value in data["std"])
        if channels == 3 and height == width and side >= height and resize is not None:
            mean, std = (red, green, blue), (reds, greens, blues)
            return Preprocessing(height, mean, std, resize, Scaling(side, filter_))
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ModelError(
            f"the configuration of {network.name} does not say what pictures it takes"
        ) from error
    raise UsageError(
        f"{network.name} takes pictures that are not square, have a border or are not in "
        "colour, which simdist does not make: choose another model"
    )


@cache
def _sketch(name: str) -> nn.Module:
    """A network without memory for weights, to be asked what it is like."""
    import torch

    with torch.device("meta"):
        return _named(name.removeprefix(_PREFIX)).create(0).eval()


@cache
def _output(name: str, size: int) -> tuple[int, bool]:
    """How long an embedding is, and whether there is a map of features before it is pooled."""
    import torch

    try:
        network = _sketch(name)
        with torch.device("meta"), torch.inference_mode():
            inputs = torch.zeros(1, 3, size, size)
            features = network.forward_features(inputs)  # type: ignore[operator]
            rows = network(inputs)
    # They raise nearly anything on arguments that are not for them.
    except Exception as error:
        raise UsageError(f"{name} does not work: {str(error).splitlines()[0]}") from error
    # Some keep channels last, as tokens are.
    has_maps = isinstance(features, torch.Tensor) and features.ndim == 4
    return rows.shape[1], has_maps and features.shape[1] == network.num_features


def _body(network: nn.Module) -> nn.Module:
    from torch import nn

    class Body(nn.Module):
        """The network up to its map of features."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, inputs: Tensor) -> Tensor:
            maps: Tensor = self.network.forward_features(inputs)  # type: ignore[operator]
            return maps

    return Body()
