"""The head that is trained on a backbone's body: fastai's, built without fastai."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from simdist.embedding.backbone import Backbone
from simdist.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

# The layer whose output is the embedding, and its width.
TAP = "head.relu"
DIM = 512
_DROPOUT = 0.5


def with_head(backbone: Backbone, classes: int) -> nn.Module:
    """A backbone's body with a new head for so many classes, without weights.

    Layer by layer it is what fastai's `create_head` makes: maximum and mean of each channel side
    by side, batch norm, dropout, linear to 512, ReLU, batch norm, dropout, linear to the classes.

    Raises:
        UsageError: the backbone has no body to put a head on.
    """
    from torch import nn

    body = body_of(backbone, backbone.build())
    channels = _channels(body, backbone.preprocessing.size)
    head = nn.Sequential(
        OrderedDict[str, nn.Module](
            pool=_concat_pool(),
            flatten=nn.Flatten(),
            norm1=nn.BatchNorm1d(2 * channels),
            dropout1=nn.Dropout(_DROPOUT / 2),
            hidden=nn.Linear(2 * channels, DIM, bias=False),
            relu=nn.ReLU(),
            norm2=nn.BatchNorm1d(DIM),
            dropout2=nn.Dropout(_DROPOUT),
            classes=nn.Linear(DIM, classes, bias=False),
        )
    )
    return nn.Sequential(OrderedDict[str, nn.Module](body=body, head=head))


def body_of(backbone: Backbone, network: nn.Module) -> nn.Module:
    """The body of a network that the backbone built, to put a head on.

    Raises:
        UsageError: it has none.
    """
    check_trainable(backbone)
    assert backbone.body is not None  # noqa: S101 - for mypy
    return backbone.body(network)


def check_trainable(backbone: Backbone) -> None:
    """Raise a UsageError if a backbone cannot be given a new head."""
    if backbone.body is None:
        raise UsageError(
            f"{backbone.name} cannot be trained: it makes no map of features for the new head; "
            "use another, such as efficientnet-lite0 or resnet34"
        )


def _concat_pool() -> nn.Module:
    import torch
    from torch import nn

    class ConcatPool(nn.Module):
        """(n, c, h, w) -> (n, 2 c, 1, 1): the maximum of each channel, then the mean of each."""

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return torch.cat([maps.amax((2, 3), keepdim=True), maps.mean((2, 3), keepdim=True)], 1)

    return ConcatPool()


def _channels(body: nn.Module, size: int) -> int:
    import torch

    was_training = body.training
    with torch.inference_mode():
        channels: int = body.eval()(torch.zeros(1, 3, size, size)).shape[1]
    body.train(was_training)
    return channels
