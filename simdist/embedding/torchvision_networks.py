"""Classifiers of torchvision: built, loaded with their published weights, and cut."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING
from urllib.error import URLError

from simdist.errors import ModelError, Remedy

if TYPE_CHECKING:
    from torch import Tensor, nn

# Their builders warn unless they are told that they need not prepare weights.
_PREPARES = ("googlenet", "inception_v3")
# As torchvision's DenseNets named their layers when their weights were published.
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def build(name: str) -> nn.Module:
    """A network without weights."""
    from torchvision.models import get_model

    options = {"init_weights": False} if name in _PREPARES else {}
    network: nn.Module = get_model(name, weights=None, **options)
    return network


def before(network: nn.Module, cut: str) -> nn.Module:
    """The network's children before the one named `cut`, one after the other.

    Auxiliary classifiers, which only training from scratch needs, are left out.
    """
    from torch import nn

    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in network.named_children():
        if name == cut:
            break
        if not name.lower().startswith("aux"):
            kept[name] = child
    return nn.Sequential(kept)


def published_weights(name: str) -> Mapping[str, Tensor]:
    """The weights that torchvision publishes, from its cache or downloaded.

    Raises:
        ModelError: they cannot be had; the message names the ways out.
    """
    import torch.hub
    from torchvision.models import get_model_weights

    # Without a home directory they would be kept in the working folder, and taken from there.
    if not Path(torch.hub.get_dir()).is_absolute():
        raise ModelError(
            f"there is no home directory for the weights of {name}: set TORCH_HOME to a folder for "
            "them, or give a file of weights",
            remedy=Remedy.WEIGHTS,
        )
    try:
        weights: Mapping[str, Tensor] = get_model_weights(name).DEFAULT.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise ModelError(
            f"the weights of {name} cannot be downloaded (no network?): give a file of weights, "
            "or use efficientnet-lite0, whose weights are installed with simdist",
            remedy=Remedy.BUNDLED_MODEL,
        ) from error
    except OSError as error:
        raise ModelError(
            f"the weights of {name} cannot be kept in the cache ({error}): free some space or "
            "give a file of weights",
            remedy=Remedy.WEIGHTS,
        ) from error
    except (RuntimeError, EOFError, UnpicklingError, ValueError, KeyError) as error:
        raise ModelError(
            f"the weights of {name} below {torch.hub.get_dir()} are damaged: delete that file "
            "and try again, or give a file of weights",
            remedy=Remedy.WEIGHTS,
        ) from error
    return {_OLD_NAME.sub(r"\1\2.", key): tensor for key, tensor in weights.items()}
