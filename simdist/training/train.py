"""Transfer learning on one's own categories: a source of images -> a model bundle."""

from __future__ import annotations

import csv
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simdist.embedding import bundle, head
from simdist.embedding.backbones import backbone
from simdist.embedding.memory import keep_freed_memory
from simdist.embedding.model import Model, save_bundle
from simdist.sources import ImageRef, Source, local_path
from simdist.training.checkpoint import Checkpoint
from simdist.training.job import Progress, Trained, TrainingOptions
from simdist.training.learner import (
    check_fastai,
    find_learning_rate,
    fit,
    make_learner,
)
from simdist.training.loss import add_proxies, without_proxies
from simdist.training.preparation import CHECKPOINT, Preparation, prepare, remove_work
from simdist.training.report import write_report

if TYPE_CHECKING:
    from torch import nn


def train(
    source: Source,
    out: Path,
    options: TrainingOptions,
    *,
    weights: Path | None = None,
    accept_licence: bool = False,
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
        accept_licence: begin also with weights whose licence forbids commercial use.
        device: "cpu", "cuda", or by default a GPU where there is one.
        on_stage: called with what is being done, and how much of how much.

    Raises:
        SourceError: there are too few images to learn from.
        ModelError: the bundle exists, fastai is missing, the weights cannot be had, or an
            unfinished training with other settings is in the way.
        UsageError: the backbone cannot be trained, or there is none of that name; or a licence
            that must be accepted, and is not.
    """
    import torch

    out = local_path(str(out))
    bundle.check_out(out)
    head.check_trainable(backbone(options.arch))
    check_fastai()
    prepared = prepare(
        source, out, options, weights=weights, accept_licence=accept_licence, on_stage=on_stage
    )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        keep_freed_memory()
    state = _learn(prepared, options, device, on_stage, on_progress)
    on_stage("writing the bundle and the report", 0, 0)
    return _write(prepared, state, out, options, device)


def _learn(
    prepared: Preparation,
    options: TrainingOptions,
    device: str,
    on_stage: Callable[[str, int, int], None],
    on_progress: Callable[[Progress], None],
) -> Checkpoint:
    """Train, from the last checkpoint on if there is one."""
    network = _network(prepared.start, len(prepared.parts.classes), options.seed)
    learner = make_learner(
        network,
        prepared.data,
        prepared.start.preprocessing,
        batch=options.batch,
        device=device,
    )
    checkpoint = prepared.work / CHECKPOINT
    if checkpoint.is_file():
        state = Checkpoint.read(checkpoint)
    else:
        on_stage("starting", 0, 0)
        rate = options.learning_rate or find_learning_rate(learner, seed=options.seed)
        state = Checkpoint(rate)
    fit(
        learner,
        state,
        options,
        after_epoch=lambda: state.write(checkpoint),
        on_progress=on_progress,
    )
    return state


def _write(
    prepared: Preparation, state: Checkpoint, out: Path, options: TrainingOptions, device: str
) -> Trained:
    """Write the bundle of the best epoch, whole or not at all."""
    parts = prepared.parts
    best = int(np.argmin([epoch.validation_loss for epoch in state.epochs]))
    best_weights = without_proxies(state.best_weights)
    model = Model(
        prepared.start.backbone,
        {name: tensor.cpu() for name, tensor in best_weights.items()},
        prepared.start.preprocessing,
        head.TAP,
        classes=parts.classes,
        licence=prepared.start.licence,
    )
    epochs, left_out = tuple(state.epochs), prepared.left_out
    trained = Trained(out, model.id, parts, epochs, best, left_out, model.licence)
    about = _about(prepared, trained, options, learning_rate=state.learning_rate, device=device)
    with bundle.whole(out) as folder:
        save_bundle(model, folder, about=about)
        for name in ("training", "validation", "test"):
            _write_list(folder / f"{name}.csv", getattr(parts, name))
        write_report(
            folder,
            model,
            prepared.data,
            prepared.used,
            trained=trained,
            losses=state.losses,
            device=device,
        )
    remove_work(prepared.work)
    return trained


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
    prepared: Preparation,
    trained: Trained,
    options: TrainingOptions,
    *,
    learning_rate: float,
    device: str,
) -> dict[str, Any]:
    parts = trained.split
    return {
        "data": {
            "source": prepared.source,
            "training": len(parts.training),
            "validation": len(parts.validation),
            "test": len(parts.test),
            "left_out": dict(trained.left_out),
        },
        "started_from": prepared.start.id,
        "options": asdict(options) | {"learning_rate": learning_rate},
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "best_epoch": trained.best + 1,
        "device": device,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("simdist", "torch", "torchvision", "fastai")},
        },
    }
