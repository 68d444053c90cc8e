"""What a training starts from: images in parts, decoded, in the folder that it works in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simdist.embedding.model import Model, load_model
from simdist.errors import ModelError, Remedy, SourceError
from simdist.sources import ImageRef, Source
from simdist.training.job import TrainingOptions
from simdist.training.learner import Data
from simdist.training.pixels import BAD, PIXELS, decoded
from simdist.training.split import Split, split

CHECKPOINT = "checkpoint.pt"
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Preparation:
    """All that is the same in each run of a training that is stopped and goes on.

    Attributes:
        source: its name.
        start: the model that the training starts from.
        used: the images for training, then those for validation.
        bad: why one of these could not be read, by its index.
        data: those that could.
        work: the folder that keeps what was done, until the bundle is there.
    """

    source: str
    start: Model
    parts: Split
    used: tuple[ImageRef, ...]
    bad: Mapping[int, str]
    data: Data
    work: Path

    @property
    def left_out(self) -> dict[str, str]:
        """Why images could not be read, by their URIs."""
        return {self.used[index].uri: reason for index, reason in self.bad.items()}


def prepare(
    source: Source,
    out: Path,
    options: TrainingOptions,
    *,
    weights: Path | None,
    accept_licence: bool,
    on_stage: Callable[[str, int, int], None],
) -> Preparation:
    """List, split and decode, or find what an earlier run has decoded.

    Raises:
        SourceError, ModelError: as `train`.
    """
    on_stage("listing", 0, 0)
    parts = split(
        [entry for entry in source.entries if isinstance(entry, ImageRef)],
        exclude=options.exclude,
        images=options.images,
        validation=options.validation,
        seed=options.seed,
    )
    on_stage("loading the weights", 0, 0)
    start = load_model(options.arch, weights=weights, accept_licence=accept_licence)
    work = _work_folder(out, _settings(start, parts, options))
    used = (*parts.training, *parts.validation)
    images = decoded(
        used,
        work,
        preprocessing=start.preprocessing,
        access=source.access,
        on_progress=lambda done, total: on_stage("decoding", done, total),
    )
    _check_good(used, len(parts.training), images.bad)
    data = _data(parts, images.pixels, images.bad)
    return Preparation(source.name, start, parts, used, images.bad, data, work)


def _settings(start: Model, parts: Split, options: TrainingOptions) -> dict[str, Any]:
    """All that the outcome depends on."""
    digest = hashlib.sha256()
    for ref in (*parts.training, (), *parts.validation):
        fields = (ref.uri, ref.fingerprint, ref.label) if isinstance(ref, ImageRef) else ref
        digest.update(json.dumps(fields).encode())
    about = asdict(options) | {"weights": start.id, "images_digest": digest.hexdigest()}
    return dict(json.loads(json.dumps(about)))


def _work_folder(out: Path, settings: dict[str, Any]) -> Path:
    """The folder of the unfinished training: a new one, or that of the same training."""
    work = out.with_name(out.name + ".training")
    notes = work / _SETTINGS
    try:
        work.mkdir(exist_ok=True)
        if notes.exists():
            found = json.loads(notes.read_text())
            names = set(found) | set(settings)
            other = sorted(name for name in names if found.get(name) != settings.get(name))
            if other:
                raise ModelError(
                    f"{work} holds an unfinished training with other settings "
                    f"({', '.join(other)}): run that command again to go on with it, or delete "
                    "the folder"
                )
        elif any(path != notes.with_suffix(".partial") for path in work.iterdir()):
            raise ModelError(f"{work} is in the way: it is not an unfinished training; move it")
        else:
            partial = notes.with_suffix(".partial")
            partial.write_text(json.dumps(settings, indent=2))
            partial.replace(notes)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"cannot work in {work}: {error}; delete it, and try again") from error
    return work


def remove_work(work: Path) -> None:
    """Remove what a training has written into its folder, and the folder if no more is in it."""
    (work / PIXELS).unlink(missing_ok=True)
    for path in (work / CHECKPOINT, work / BAD, work / _SETTINGS):
        path.unlink(missing_ok=True)
        path.with_suffix(".partial").unlink(missing_ok=True)
    with suppress(OSError):
        work.rmdir()


def _check_good(used: Sequence[ImageRef], border: int, bad: Mapping[int, str]) -> None:
    """Raise a SourceError if the images that can be read are too few."""
    for first, last in ((0, border), (border, len(used))):
        good = {used[index].label for index in range(first, last) if index not in bad}
        lost = next((index for index in bad if used[index].label not in good), None)
        if lost is not None and first <= lost < last:
            raise SourceError(
                f"{len(bad)} of the images cannot be read, such as {used[lost].uri} ({bad[lost]}); "
                f"without them the category {used[lost].label!r} has too few: repair the files, or "
                "leave the category out",
                remedy=Remedy.EXCLUDE,
            )


def _data(parts: Split, pixels: Any, bad: Mapping[int, str]) -> Data:
    numbers = {name: number for number, name in enumerate(parts.classes)}
    used = (*parts.training, *parts.validation)
    labels = np.array([numbers[str(ref.label)] for ref in used], np.int64)
    good = np.array([index not in bad for index in range(len(used))])
    border = len(parts.training)
    return Data(
        pixels,
        labels,
        np.flatnonzero(good[:border]),
        border + np.flatnonzero(good[border:]),
    )
