"""A backbone: what a model is built of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simdist.embedding.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn


def _as_they_are(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return weights


@dataclass(frozen=True)
class Backbone:
    """A network, where its published weights are, and the layer whose output is the embedding.

    Attributes:
        tap: dotted name of the layer that the forward hook taps; with `:input` behind it, what is
            tapped is what the layer is given.
        dim: length of what is tapped, flattened.
        build: makes the network without weights.
        published_weights: gets the weights it is used with by default; may download them.
        body: cuts the network that `build` made: its output is (n, channels, height, width), what
            a new head is trained on. None where there is no such layer.
        licence: of the published weights, as those name it who publish them; empty where nobody
            says.
        adapt: turns a file's weights into the network's, where they may come under other names.
    """

    name: str
    tap: str
    dim: int
    preprocessing: Preprocessing
    build: Callable[[], nn.Module]
    published_weights: Callable[[], Mapping[str, Tensor]]
    body: Callable[[nn.Module], nn.Module] | None
    licence: str = ""
    adapt: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = _as_they_are
