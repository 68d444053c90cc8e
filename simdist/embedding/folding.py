"""Batch norms folded into the convolutions before them: the same function with fewer passes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


def fold_batch_norms(network: nn.Module, example: torch.Tensor) -> None:
    """Fold, in place, every batch norm whose input is a convolution's output, and nobody else's.

    Which convolution that is shows when the network runs once on `example`; torch's own
    `fx` fusion knows only plain `Conv2d`, not the subclasses that pad as TensorFlow does.
    The network must be in evaluation mode. Names of layers stay as they are.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    if not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()):
        return

    folded: dict[nn.Module, nn.Identity] = {}
    for convolution, norm in _pairs(network, example):
        if norm.running_mean is None or norm.running_var is None:
            continue
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        folded[norm] = nn.Identity()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in folded:
                setattr(parent, name, folded[child])


def _pairs(network: nn.Module, example: torch.Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution whose output goes into a batch norm and nowhere else, with that norm."""
    import torch
    from torch import nn

    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d, int]] = []
    # Each convolution's output and its version: while a tensor lives, no other can have its id,
    # and a layer that works in place gives it a new version.
    made_by: dict[int, tuple[torch.Tensor, int, nn.Conv2d]] = {}
    users: Counter[int] = Counter()

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        users.update(id(one) for one in inputs)
        if isinstance(layer, nn.Conv2d):
            made_by[id(output)] = output, output._version, layer
            # Another tensor, gone by now, may have had its id.
            users[id(output)] = 0
        elif isinstance(layer, nn.BatchNorm2d) and id(inputs[0]) in made_by:
            _, version, convolution = made_by[id(inputs[0])]
            if inputs[0]._version == version:
                pairs.append((convolution, layer, id(inputs[0])))

    # Some convolutions have a layer of their own inside, which pads.
    layers = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) or not any(layer.children())
    ]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with torch.inference_mode(False), torch.no_grad():  # inference mode keeps no versions
        network(example)
    for hook in hooks:
        hook.remove()
    return [(convolution, norm) for convolution, norm, made in pairs if users[made] <= 1]
