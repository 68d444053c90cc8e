"""What a training minimises: errors of the classifier, and of the embedding itself.

The classifier alone tells classes apart behind one more layer; what is compared in a search is the
angle between embeddings. So each class has a proxy, a vector that is learned with the rest, and
the cosines of an embedding with all of them are to tell its class too: A. Zhai, H.-Y. Wu,
'Classification is a strong baseline for deep metric learning', BMVC 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simdist.embedding import head

if TYPE_CHECKING:
    from torch import Tensor, nn

_PROXIES = "proxies"
# Cosines times so much are what the cross-entropy is taken of.
_SCALE = 16.0
# The embedding's part of the loss.
_SHARE = 2 / 3


def add_proxies(network: nn.Module, classes: int, *, dim: int = head.DIM) -> None:
    """Give a network a proxy, of so many features, for each of so many classes."""
    import torch
    from torch import nn

    network.register_parameter(_PROXIES, nn.Parameter(torch.randn(classes, dim)))


def proxies_of(network: nn.Module) -> nn.Parameter:
    """(classes, dim), the proxies that were added."""
    proxies: nn.Parameter = network.get_parameter(_PROXIES)
    return proxies


def without_proxies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network as they were before: the proxies have done their work."""
    return {name: tensor for name, tensor in weights.items() if name != _PROXIES}


class EmbeddingLoss:
    """A mean of two cross-entropies: of the logits, and of the embeddings' scaled cosines.

    It takes the embeddings of the batch from the tap of the network with proxies, by a hook that
    stays as long as the network.
    """

    def __init__(self, network: nn.Module) -> None:
        from fastai.callback.hook import hook_output

        self._proxies = proxies_of(network)
        self._tap = hook_output(network.get_submodule(head.TAP), detach=False)

    def __call__(self, logits: Tensor, labels: Tensor) -> Any:
        """(n, classes) and (n,) -> a scalar."""
        from torch.nn.functional import cross_entropy, normalize

        cosines = normalize(self._tap.stored.float()) @ normalize(self._proxies).T
        angles = cross_entropy(_SCALE * cosines, labels)
        return (1 - _SHARE) * cross_entropy(logits, labels) + _SHARE * angles
