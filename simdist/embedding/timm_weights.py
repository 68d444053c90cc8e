"""Weights of timm's networks: safetensors from the Hugging Face Hub or a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from simdist.embedding.weights import read_safetensors
from simdist.errors import ModelError, Remedy

if TYPE_CHECKING:
    from torch import Tensor, nn

_FILE = "model.safetensors"
_WAYS_OUT = "give a file of weights, or a folder that timm has saved"


class _Create(Protocol):
    def __call__(self, classes: int, **options: Any) -> nn.Module: ...


def of_folder(folder: Path) -> Mapping[str, Tensor]:
    """The weights in a folder that timm has saved.

    Raises:
        ModelError: there are none that are safe to read.
    """
    if not (folder / _FILE).exists():
        raise ModelError(
            f"{folder} holds no {_FILE}, and pickles (.bin, .pth) are not read from folders: save "
            "it with timm's save_for_hf(safe_serialization=True)"
        )
    return read_safetensors(folder / _FILE)


def downloaded(label: str, config: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The published weights, from the cache of the Hugging Face Hub's client or downloaded.

    Raises:
        ModelError: they cannot be had; the message names the ways out.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    repository = config.get("hf_hub_id")
    if "." not in label or not repository:
        raise ModelError(
            f"there are no published weights of {label} that are safe to read: {_WAYS_OUT}, or "
            "name the weights, as in resnet18.a1_in1k",
            remedy=Remedy.TIMM_WEIGHTS,
        )
    # Without a home directory they would be kept in the working folder, and taken from there.
    if not Path(constants.HF_HUB_CACHE).is_absolute():
        raise ModelError(
            f"there is no home directory for the weights of {label}: set HF_HOME to a folder for "
            f"them, or {_WAYS_OUT}",
            remedy=Remedy.TIMM_WEIGHTS,
        )
    # Asked first: without a network the client tries for half a minute before it looks.
    path = try_to_load_from_cache(repository, _FILE)
    try:
        if not isinstance(path, str):
            path = hf_hub_download(repository, _FILE)
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"the weights of {label} cannot be downloaded (no network?): {_WAYS_OUT}",
            remedy=Remedy.TIMM_WEIGHTS,
        ) from error
    except (EntryNotFoundError, HfHubHTTPError) as error:
        raise ModelError(
            f"{repository} on the Hugging Face Hub gives no {_FILE} to you: {_WAYS_OUT}",
            remedy=Remedy.TIMM_WEIGHTS,
        ) from error
    except OSError as error:
        raise ModelError(
            f"the weights of {label} cannot be kept in the cache ({error}): free some space, or "
            f"{_WAYS_OUT}",
            remedy=Remedy.TIMM_WEIGHTS,
        ) from error
    return read_safetensors(Path(path))


def adapted(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], name: str, create: _Create
) -> Mapping[str, Tensor]:
    """Weights as a file has them -> as the network without classes has them.

    timm itself loads them, into a network with all the classes that they have: with fewer it would
    not say what is missing. On the way it renames what others than timm have published.

    Raises:
        ModelError: they are not this network's.
    """
    reason: Exception | None = None
    for classes in dict.fromkeys(_classes(weights, config)):
        overlay = {
            **dict.fromkeys(("url", "file", "hf_hub_id")),
            "state_dict": dict(weights),
            "input_size": tuple(config["input_size"]),
            "num_classes": classes,
            "label_offset": 0,
        }
        try:
            network = create(classes, pretrained=True, pretrained_cfg_overlay=overlay)
        # timm's own ways of renaming raise nearly anything on weights of another network.
        except Exception as error:
            reason = reason or error
        else:
            network.reset_classifier(0)  # type: ignore[operator]
            return dict(network.state_dict())
    said = (str(reason).splitlines() or [""])[-1].strip()
    raise ModelError(f"the weights do not fit the backbone {name}: {said}") from reason


def _classes(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> Iterator[int]:
    """How many classes weights may have: as their last layer says, the usual number, or none."""
    layers = config.get("classifier") or ()
    for layer in (layers,) if isinstance(layers, str) else layers:
        if (tensor := weights.get(f"{layer}.weight")) is not None and tensor.ndim:
            yield tensor.shape[0]
    yield int(config.get("num_classes") or 0)
    yield 0
