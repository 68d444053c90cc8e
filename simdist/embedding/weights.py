"""Files of weights: read without running anything that is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simdist.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Read a .safetensors file, or a state dict that torch saved. It runs no code.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    import torch

    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        # weights_only: unpickles tensors and nothing else, so a hostile file cannot run code.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read the weights {path}: {error.strerror}") from error
    # torch raises nearly anything on a damaged or hostile file; all of it means the same here.
    except Exception as error:
        raise ModelError(
            f"{path} is not a file of weights: give a .safetensors file or a state dict (.pth)"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and _is_plain(value) for key, value in state.items()
    ):
        raise ModelError(f"{path} holds something other than a state dict of tensors")
    return state


def read_safetensors(path: Path) -> Mapping[str, Tensor]:
    """Read a .safetensors file.

    Raises:
        ModelError: it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"cannot read the weights {path}: there is no such file")
    try:
        weights: Mapping[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the weights {path}: {error}") from error
    return weights


def _is_plain(value: object) -> bool:
    """Whether it is a tensor that has its numbers with it, one after the other."""
    import torch

    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )
