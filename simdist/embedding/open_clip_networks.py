"""open_clip's networks: a tower for images and one for words, which agree on what is alike.

A collection has the image tower's embeddings; words that are searched by go through the other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from simdist.embedding.backbone import Backbone
from simdist.embedding.preprocessing import Preprocessing
from simdist.errors import ModelError, Remedy, UsageError
from simdist.images.resizing import Filter, Resize, Scaling

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "open_clip:"
LOCAL = "local-dir:"
# Of architectures that open_clip does not list: what follows is their configuration, in JSON.
CUSTOM = "custom"
# What a folder holds, as open_clip writes it for the Hugging Face Hub.
CONFIG = "open_clip_config.json"
_RESIZE = {"squash": Resize.squash, "shortest": Resize.crop}
_TAP = ""  # the image tower itself


@dataclass(frozen=True)
class TextTower:
    """What turns words into embeddings beside those of images, as data.

    Attributes:
        architecture: a name that `configuration` takes.
        tokenizer: what open_clip finds the tokenizer by.
        weights: the tower's state, by parameter name.
    """

    architecture: str
    tokenizer: str
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Towers:
    """A pair as it was loaded.

    Attributes:
        source: the name that it was loaded by.
        architecture: the name of its backbone.
        preprocessing: from pixels to the image tower's input.
        image: the image tower's state, by parameter name.
        text: the other tower.
    """

    source: str
    architecture: str
    preprocessing: Preprocessing
    image: Mapping[str, Tensor]
    text: TextTower


def is_name(name: str) -> bool:
    """Whether it is the name of a pair of open_clip's, by how it begins."""
    return name.startswith(PREFIX)


def licence_of(name: str) -> str:
    """The licence of published weights that forbids commercial use; empty where nobody says any.

    open_clip itself does not know licences; that of MobileCLIP is in its repository.
    """
    return "apple-amlr" if name.removeprefix(PREFIX).startswith("MobileCLIP") else ""


def reads_words(model_id: str) -> bool:
    """Whether what a model's collection holds can be searched by words."""
    return model_id.startswith(PREFIX)


def require_words(model_id: str) -> None:
    """Raise a UsageError if it cannot."""
    if not reads_words(model_id):
        raise UsageError(
            f"the collection's model, {model_id}, reads no words: ingest with one that does, such "
            "as open_clip:ViT-B-32/laion2b_s34b_b79k"
        )


def load(name: str, *, weights: Path | None = None) -> Towers:
    """Both towers, by `open_clip:ARCHITECTURE/WEIGHTS` or `open_clip:local-dir:FOLDER`.

    Args:
        weights: a .safetensors or .pth file of both, in place of the published ones.

    Raises:
        UsageError: no such name.
        ModelError: open_clip is not installed, or the weights cannot be had or do not fit.
    """
    named = name.removeprefix(PREFIX)
    if named.startswith(LOCAL):
        folder = Path(named.removeprefix(LOCAL)).expanduser().absolute()
        return _from_folder(folder)
    architecture, _, tag = named.partition("/")
    config = configuration(f"{PREFIX}{architecture}")
    if weights is None:
        known = _open_clip().list_pretrained_tags_by_model(architecture)
        if tag not in known:
            raise UsageError(
                f"say which weights of {architecture}: {PREFIX}{architecture}/ and one of "
                f"{', '.join(known)}; or give a file of them"
            )
        published = _open_clip().get_pretrained_cfg(architecture, tag)
        if published.get("quick_gelu", False) != config.get("quick_gelu", False):
            raise UsageError(f"these weights are for {architecture}-quickgelu: name that")
    model = _created(f"{PREFIX}{architecture}", config, weights=weights or tag, named=architecture)
    return _parted(model, name, f"{PREFIX}{architecture}", architecture)


def configuration(architecture: str) -> dict[str, Any]:
    """What open_clip builds a pair of towers from.

    Args:
        architecture: `open_clip:` and a name that open_clip lists, or `custom` and a configuration.

    Raises:
        UsageError: there is no such architecture.
        ModelError: open_clip is not installed.
    """
    named = architecture.removeprefix(PREFIX)
    if named.startswith(CUSTOM):
        try:
            custom: dict[str, Any] = json.loads(named.removeprefix(CUSTOM))
        except ValueError as error:
            raise UsageError(f"{architecture[:80]} is no architecture of open_clip") from error
        return custom
    config = _open_clip().get_model_config(named) if named in _open_clip().list_models() else None
    if config is None or "multimodal_cfg" in config:
        raise UsageError(
            f"there is no architecture {named!r} in open_clip: open_clip.list_pretrained() lists "
            f"them, such as {PREFIX}ViT-B-32/laion2b_s34b_b79k"
        )
    found: dict[str, Any] = config
    return found


def backbone(architecture: str) -> Backbone:
    """The image tower.

    Args:
        architecture: as `configuration` takes it.

    Raises:
        UsageError, ModelError: as `configuration`.
    """
    config = configuration(architecture)
    size = int(config["vision_cfg"].get("image_size", 224))
    return Backbone(
        architecture,
        _TAP,
        int(config["embed_dim"]),
        # A model brings its own.
        Preprocessing(size, (127.5,) * 3, (127.5,) * 3),
        build=lambda: _image_tower(architecture, config),
        published_weights=lambda: load(architecture).image,
        body=None,
    )


def text_network(tower: TextTower) -> nn.Module:
    """The tower of words with its weights: (n, tokens) -> (n, dim).

    Raises:
        ModelError: the weights do not fit.
    """
    network: nn.Module = _created(tower.architecture, configuration(tower.architecture)).text
    try:
        network.load_state_dict(dict(tower.weights))
    except RuntimeError as error:
        raise ModelError(f"the weights do not fit {tower.architecture}: {error}") from error
    return network.eval().requires_grad_(False)


def tokenizer(tower: TextTower) -> Any:
    """Texts -> (n, tokens) int64.

    Raises:
        ModelError: it cannot be had.
    """
    try:
        return _open_clip().get_tokenizer(tower.tokenizer)
    # Whatever its libraries raise.
    except Exception as error:
        if isinstance(error, ModuleNotFoundError):
            raise ModelError(
                f"the tokenizer of {tower.tokenizer} needs {error.name}: pip install {error.name}"
            ) from error
        raise ModelError(
            f"cannot load the tokenizer of {tower.tokenizer}: {_first_line(error)}"
        ) from error


def _from_folder(folder: Path) -> Towers:
    try:
        card = json.loads((folder / CONFIG).read_text())
        config = dict(card["model_cfg"])
        int(config["embed_dim"])
    except OSError as error:
        raise ModelError(f"cannot read {folder / CONFIG}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG} describes no model of open_clip") from error
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has no weights in a .safetensors file: others may run code and are not read"
        )
    architecture = PREFIX + CUSTOM + json.dumps(config, sort_keys=True, separators=(",", ":"))
    model = _created(architecture, config, folder=folder)
    return _parted(model, f"{PREFIX}{LOCAL}{folder}", architecture, f"{LOCAL}{folder}")


def _created(
    architecture: str,
    config: Mapping[str, Any],
    *,
    folder: Path | None = None,
    weights: Path | str | None = None,
    named: str = "",
) -> Any:
    """A pair of towers, with weights if a folder, file or tag of them is given."""
    try:
        with TemporaryDirectory() as temporary, _quiet():
            if folder is None and not named:
                folder = Path(temporary)
                (folder / CONFIG).write_text(json.dumps({"model_cfg": config}))
                weights = None
            return _open_clip().create_model(
                named or f"{LOCAL}{folder}",
                pretrained=None if weights is None else str(weights),
                load_weights=bool(named) or folder != Path(temporary),
                # The other form has the words' tower in pieces.
                force_custom_text=True,
                pretrained_text=False,
            )
    # open_clip, timm and the Hub's library raise nearly anything; all of it means the same here.
    except Exception as error:
        raise ModelError(
            f"cannot load {architecture[:80]}: {_first_line(error)}; without a network, give a "
            f"file of weights, or {PREFIX}{LOCAL}FOLDER",
            remedy=Remedy.WEIGHTS,
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what it says to the root logger: of weights to come, and of what it then raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _parted(model: Any, source: str, architecture: str, tokenizer_name: str) -> Towers:
    return Towers(
        source,
        architecture,
        _preprocessing(_open_clip().get_model_preprocess_cfg(model), source),
        model.visual.state_dict(),
        TextTower(architecture, tokenizer_name, model.text.state_dict()),
    )


def _preprocessing(config: Mapping[str, Any], source: str) -> Preprocessing:
    try:
        size = config["size"] if isinstance(config["size"], int) else config["size"][0]
        scaling = Scaling(size, Filter(config["interpolation"]))
        red, green, blue = (255 * float(value) for value in config["mean"])
        reds, greens, blues = (255 * float(value) for value in config["std"])
        resize = _RESIZE[config["resize_mode"]]
        return Preprocessing(size, (red, green, blue), (reds, greens, blues), resize, scaling)
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(f"{source} takes pictures that simdist does not make") from error


def _image_tower(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    network: nn.Module = _created(architecture, config).visual
    return network


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise ModelError(
            "models that read words need open_clip: pip install 'simdist[text]'"
        ) from error
    return open_clip


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
