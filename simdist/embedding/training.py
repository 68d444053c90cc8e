"""Transfer learning on one's own categories: a source of images -> a model bundle."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simdist.embedding import bundle, head
from simdist.embedding.backbones import backbone
from simdist.embedding.checkpoint import Checkpoint, Epoch
from simdist.embedding.learner import (
    Data,
    Progress,
    find_learning_rate,
    fit,
    make_learner,
)
from simdist.embedding.loss import add_proxies, without_proxies
from simdist.embedding.memory import keep_freed_memory
from simdist.embedding.model import Model, load_model, save_bundle
from simdist.embedding.pixels import decoded
from simdist.embedding.report import write_report
from simdist.embedding.split import VALIDATION, Split, split
from simdist.errors import ModelError, SourceError
from simdist.sources import ImageRef, Source

if TYPE_CHECKING:
    from torch import nn

EPOCHS = (3, 3)
BATCH = 32
LEARNING_RATE = 2e-3
PATIENCE = 5
_SETTINGS, _CHECKPOINT = "settings.json", "checkpoint.pt"


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        arch: the backbone's name.
        epochs: with only the head trained, then with everything.
        images: how many of a category are for training and validation; None: all.
        validation: the share of those that is for validation.
        exclude: categories to leave out.
        batch: images in a batch.
        learning_rate: the highest while the head is trained; everything is trained with half of it
            at the head, and a thirtieth of that at the first layers. None: fastai's finder says.
        patience: a phase ends after so many epochs without a lower validation loss.
        seed: for the split, the head's first weights, the order and augmentation of the images.
    """

    arch: str
    epochs: tuple[int, int] = EPOCHS
    images: int | None = None
    validation: float = VALIDATION
    exclude: tuple[str, ...] = ()
    batch: int = BATCH
    learning_rate: float | None = LEARNING_RATE
    patience: int = PATIENCE
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        epochs: what each came to.
        best: the index of the epoch whose weights the bundle has.
        left_out: images that could not be read, and why.
    """

    folder: Path
    model_id: str
    split: Split
    epochs: tuple[Epoch, ...]
    best: int
    left_out: Mapping[str, str]


def train(
    source: Source,
    out: Path,
    options: TrainingOptions,
    *,
    weights: Path | None = None,
    device: str | None = None,
    on_stage: Callable[[str, int, int], None] = lambda *_: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Trained:
    """Train a backbone on a source's categories and write a bundle.

    What was done is kept after each epoch in the folder `OUT.training`; a training that was
    stopped goes on from there when it is called in the same way, and on a CPU comes to the same
    weights, bit for bit.

    Args:
        out: the bundle's folder, which must not exist yet.
        weights: a file in place of the backbone's published weights.
        device: "cpu", "cuda", or by default a GPU where there is one.
        on_stage: called with what is being done, and how much of how much.

    Raises:
        SourceError: there are too few images to learn from.
        ModelError: the bundle exists, the weights cannot be had, or an unfinished training with
            other settings is in the way.
        UsageError: the backbone cannot be trained, or there is none of that name.
    """
    import torch

    out = out.expanduser()
    bundle.check_out(out)
    known = backbone(options.arch)
    head.check_trainable(known)
    on_stage("listing", 0, 0)
    refs = [entry for entry in source.entries if isinstance(entry, ImageRef)]
    parts = split(
        refs,
        exclude=options.exclude,
        images=options.images,
        validation=options.validation,
        seed=options.seed,
    )
    on_stage("loading the weights", 0, 0)
    start = load_model(options.arch, weights=weights)
    work = _work_folder(out, _settings(start, parts, options))
    used = [*parts.training, *parts.validation]
    images = decoded(
        used,
        work,
        size=start.preprocessing.size,
        access=source.access,
        on_progress=lambda done, total: on_stage("decoding", done, total),
    )
    _check_good(used, len(parts.training), images.bad)
    data = _data(parts, images.pixels, images.bad)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        keep_freed_memory()
    network = _network(start, len(parts.classes), options.seed)
    learner = make_learner(network, data, start.preprocessing, batch=options.batch, device=device)
    checkpoint = work / _CHECKPOINT
    if checkpoint.is_file():
        state = Checkpoint.read(checkpoint)
    else:
        on_stage("starting", 0, 0)
        rate = options.learning_rate or find_learning_rate(learner, seed=options.seed)
        state = Checkpoint(rate)
    fit(
        learner,
        state,
        epochs=options.epochs,
        seed=options.seed,
        patience=options.patience,
        after_epoch=lambda: state.write(checkpoint),
        on_progress=on_progress,
    )
    on_stage("writing the bundle and the report", 0, 0)
    best = int(np.argmin([epoch.validation_loss for epoch in state.epochs]))
    best_weights = without_proxies(state.best_weights)
    trained_weights = {name: tensor.cpu() for name, tensor in best_weights.items()}
    model = Model(
        options.arch, trained_weights, start.preprocessing, head.TAP, classes=parts.classes
    )
    left_out = {used[index].uri: reason for index, reason in images.bad.items()}
    trained = Trained(out, model.id, parts, tuple(state.epochs), best, left_out)
    finished = work / "bundle"
    shutil.rmtree(finished, ignore_errors=True)
    about = _about(
        source, start, trained, options, learning_rate=state.learning_rate, device=device
    )
    save_bundle(model, finished, about=about)
    for name in ("training", "validation", "test"):
        _write_list(finished / f"{name}.csv", getattr(parts, name))
    write_report(finished, model, data, used, trained=trained, losses=state.losses, device=device)
    bundle.check_out(out)
    finished.rename(out)
    shutil.rmtree(work)
    return trained


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
        elif any(path.suffix != ".partial" for path in work.iterdir()):
            raise ModelError(f"{work} is in the way, and is no unfinished training: move it")
        else:
            partial = notes.with_suffix(".partial")
            partial.write_text(json.dumps(settings, indent=2))
            partial.replace(notes)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"cannot work in {work}: {error}; delete it, and try again") from error
    return work


def _check_good(used: Sequence[ImageRef], border: int, bad: Mapping[int, str]) -> None:
    """Raise a SourceError if the images that can be read are too few."""
    for first, last in ((0, border), (border, len(used))):
        good = {used[index].label for index in range(first, last) if index not in bad}
        lost = next((index for index in bad if used[index].label not in good), None)
        if lost is not None and first <= lost < last:
            raise SourceError(
                f"{len(bad)} of the images cannot be read, such as {used[lost].uri} ({bad[lost]}); "
                f"the category {used[lost].label!r} has too few without them: mend the files, or "
                "leave the category out (--exclude NAME)"
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


def _network(start: Model, classes: int, seed: int) -> nn.Module:
    """The backbone's body with its weights, a new head, and proxies to train with."""
    import torch

    known = backbone(start.backbone)
    plain = start.network()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = head.with_head(known, classes)
        add_proxies(network, classes)
    body = head.body_of(known, plain)
    network.body.load_state_dict(body.state_dict())  # type: ignore[union-attr]
    # Several times faster where there are depthwise convolutions.
    return network.to(memory_format=torch.channels_last)


def _write_list(path: Path, refs: Sequence[ImageRef]) -> None:
    """A list that `simdist ingest` takes."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file)
        rows.writerow(["uri", "label"])
        rows.writerows((ref.uri, ref.label) for ref in refs)


def _about(
    source: Source,
    start: Model,
    trained: Trained,
    options: TrainingOptions,
    *,
    learning_rate: float,
    device: str,
) -> dict[str, Any]:
    parts = trained.split
    return {
        "data": {
            "source": source.name,
            "training": len(parts.training),
            "validation": len(parts.validation),
            "test": len(parts.test),
            "left_out": dict(trained.left_out),
        },
        "started_from": start.id,
        "options": asdict(options) | {"learning_rate": learning_rate},
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "best_epoch": trained.best + 1,
        "device": device,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("simdist", "torch", "torchvision", "fastai")},
        },
    }
