"""A model bundle: a folder with `card.json` and `weights.safetensors`. Loading it runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from simdist.embedding.backbones import backbone
from simdist.embedding.preprocessing import Preprocessing
from simdist.embedding.weights import read_safetensors
from simdist.errors import ModelError, Remedy, UsageError
from simdist.images.resizing import Filter, Resize, Scaling

if TYPE_CHECKING:
    from torch import Tensor

CARD = "card.json"
WEIGHTS = "weights.safetensors"
VERSION = 1
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class Card:
    """What a bundle says of its weights.

    Attributes:
        classes: what it was trained to tell apart; empty for a backbone as it was published.
        model_id: the id of the model that the weights make; empty where the card does not say.
        about: for people: data, figures, versions.
        licence: of the weights that it was trained from; empty where nobody says.
    """

    backbone: str
    preprocessing: Preprocessing
    tap: str
    classes: tuple[str, ...] = ()
    model_id: str = ""
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)
    licence: str = ""


def check_out(out: Path) -> None:
    """Raise a ModelError if a bundle cannot be written there."""
    if os.path.lexists(out):
        raise ModelError(
            f"{out} exists already, and is not overwritten: choose another folder",
            remedy=Remedy.OUT,
        )
    if not out.absolute().parent.is_dir():
        raise ModelError(f"there is no folder {out.absolute().parent}: make it first")


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A folder to write a bundle into: it becomes `out` at the end, and is gone after an error.

    Raises:
        ModelError: a bundle cannot be written there.
    """
    check_out(out)
    # A name of its own: what has any other name is somebody's.
    with TemporaryDirectory(prefix=f"{out.name}.", dir=out.absolute().parent) as made:
        folder = Path(made) / out.name
        folder.mkdir()
        yield folder
        check_out(out)
        folder.rename(out)


def write(folder: Path, card: Card, weights: Mapping[str, Tensor]) -> None:
    """Write a bundle into a folder, which is made if it is not there.

    Raises:
        ModelError: the folder already holds a bundle.
    """
    from safetensors.torch import save_file

    if (folder / CARD).exists():
        raise ModelError(f"{folder} already holds a model bundle; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    content = {
        "version": VERSION,
        "id": card.model_id,
        "backbone": card.backbone,
        "tap": card.tap,
        "preprocessing": card.preprocessing.as_json(),
        "about": card.about,
        "classes": card.classes,
        "licence": card.licence,
    }
    (folder / CARD).write_text(json.dumps(content, indent=2) + "\n")


def read(folder: Path) -> tuple[Card, Mapping[str, Tensor]]:
    """Read a bundle.

    Raises:
        ModelError: a part is missing, damaged, or of a version this simdist does not know.
    """
    return _read_card(folder / CARD), read_safetensors(folder / WEIGHTS)


def _read_card(path: Path) -> Card:
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            raise ModelError(
                f"{path} has version {content['version']}, this simdist reads {VERSION}: "
                "update simdist"
            )
        values = content["preprocessing"]
        preprocessing = Preprocessing(
            int(values["size"]),
            _triple(values["mean"]),
            _triple(values["std"]),
            Resize(values.get("resize", Resize.squash)),
            _scaling(values.get("scaling")),
        )
        card = Card(
            str(content["backbone"]),
            preprocessing,
            str(content["tap"]),
            _classes(content.get("classes", [])),
            str(content.get("id", "")),
            dict(content.get("about", {})),
            str(content.get("licence", "")),
        )
    except OSError as error:
        raise ModelError(f"{path.parent} is not a model bundle: no readable {CARD}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path} is not the card of a model bundle") from error
    try:
        backbone(card.backbone)
    except UsageError as error:
        raise ModelError(
            f"{path} names the backbone {card.backbone!r}, which this simdist does not know: "
            "update simdist"
        ) from error
    return card


def _scaling(values: Any) -> Scaling | None:
    return None if values is None else Scaling(int(values["side"]), Filter(values["filter"]))


def _classes(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) > MAX_CLASSES:
        raise ValueError("classes must be a list")
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a class must be a string")
    return tuple(names)


def _triple(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
