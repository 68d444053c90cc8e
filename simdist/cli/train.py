"""`simdist train`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.progress import Monitor
from simdist.cli.render import (
    console,
    duration,
    show,
    table,
)
from simdist.errors import UsageError
from simdist.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from simdist.training.job import Progress, Trained

# Images that could not be read are named one by one up to so many.
_NAMED = 10
_EPOCHS = re.compile(r"(\d{1,4})\+(\d{1,4})")


def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Images by category: a folder of folders, a bucket, an archive or a list.",
        ),
    ],
    *,
    arch: Annotated[
        str, typer.Option(metavar="NAME", help="Network to start from.")
    ] = DEFAULT_MODEL,
    out: Annotated[
        Path, typer.Option(metavar="BUNDLE", help="Folder to write the trained model into.")
    ] = Path("model"),
    epochs: Annotated[
        str,
        typer.Option(
            metavar="HEAD+ALL",
            help="Epochs that train only the new head, and epochs that train everything.",
        ),
    ] = "3+3",
    images: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Images of each category to train with, the rest being left for testing; "
            "by default all.",
            rich_help_panel=options.WHICH_IMAGES,
        ),
    ] = None,
    validation: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0.01,
            max=0.9,
            help="Share of those that is held back for validation.",
            rich_help_panel=options.WHICH_IMAGES,
        ),
    ] = 0.2,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CATEGORY",
            help="Category to leave out. Repeatable.",
            rich_help_panel=options.WHICH_IMAGES,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=2, help="Images in each batch.")] = 32,
    lr: Annotated[
        float, typer.Option(metavar="RATE", min=0.0, help="Highest learning rate of the head.")
    ] = 2e-3,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Find the learning rate first, instead of --lr.")
    ] = False,
    patience: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Stop after N epochs without a lower validation loss."
        ),
    ] = 5,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Random seed of the split, the head and the batches."
        ),
    ] = 0,
    weights: options.Weights = None,
    accept_licence: options.AcceptLicence = False,
    uri_column: options.UriColumn = None,
    label_column: options.LabelColumn = None,
    endpoint_url: options.EndpointUrl = None,
    region: options.Region = None,
    anonymous: options.Anonymous = False,
) -> None:
    """Train a network on your own categories.

    Searches then find what you call similar. The name of an image's folder is its category. After
    an interruption, the same command resumes after the last finished epoch. The bundle that it
    writes is a model: simdist ingest FOLDER --model BUNDLE.
    """
    from simdist.sources import (
        Access,
        Columns,
        Selection,
        open_source,
    )
    from simdist.training.job import TrainingOptions
    from simdist.training.train import train as run

    how = TrainingOptions(
        arch=arch,
        epochs=_epochs(epochs),
        images=images,
        validation=validation,
        exclude=tuple(sorted(exclude or ())),
        batch=batch,
        learning_rate=None if find_lr else _rate(lr),
        patience=patience,
        seed=seed,
    )
    access = Access.resolve(endpoint_url=endpoint_url, region=region, anonymous=anonymous)
    selection = Selection(columns=Columns(uri=uri_column, label=label_column))
    opened = open_source(source, selection=selection, access=access)
    with Monitor() as monitor:
        trained = run(
            opened,
            out,
            how,
            weights=weights,
            accept_licence=accept_licence,
            on_stage=monitor.count,
            on_progress=_progress_shower(monitor),
        )
    _show(trained)


def _epochs(text: str) -> tuple[int, int]:
    match = _EPOCHS.fullmatch(text)
    if match is None or match.groups() == ("0", "0"):
        raise UsageError(f"--epochs must be two numbers, such as 3+3, not {text!r}")
    return int(match[1]), int(match[2])


def _rate(rate: float) -> float:
    if not 0 < rate <= 10:
        raise UsageError(f"--lr must be above 0 and at most 10, not {rate:g}")
    return rate


def _progress_shower(monitor: Monitor) -> Callable[[Progress], None]:
    started: dict[int, float] = {}

    def show(progress: Progress) -> None:
        began = started.setdefault(progress.epoch, time.monotonic())
        monitor.show(lambda: _line(progress, time.monotonic() - began))

    return show


def _line(progress: Progress, seconds: float) -> str:
    what = "everything" if progress.phase else "the head"
    line = (
        f"epoch {progress.epoch} of {progress.epochs}, {what}: batch {progress.batch:,} of "
        f"{progress.batches:,}  loss {progress.loss:.3f}"
    )
    if progress.last:
        line += f"  accuracy before {progress.last.accuracy:.3f}"
    if progress.batch > 1:
        left = seconds / (progress.batch - 1) * (progress.batches - progress.batch)
        line += f"  {duration(left)} left"
    return line


def _show(trained: Trained) -> None:
    out = console()
    columns = ("epoch", "training loss", "validation loss", "accuracy", "time")
    rows = table("epoch", "trained", *columns[1:], right=columns)
    for number, epoch in enumerate(trained.epochs, 1):
        rows.add_row(
            str(number),
            "everything" if epoch.phase else "head",
            f"{epoch.training_loss:.3f}",
            f"{epoch.validation_loss:.3f}",
            f"{epoch.accuracy:.3f}",
            duration(epoch.seconds),
        )
    show(out, rows)
    parts = trained.split
    out.print(
        f"{trained.model_id}: {len(parts.classes):,} categories, {len(parts.training):,} images "
        f"to learn from, {len(parts.validation):,} to check with, {len(parts.test):,} left to test"
    )
    for uri, reason in list(trained.left_out.items())[:_NAMED]:
        out.print(f"  left out: {uri}: {reason}", markup=False)
    if len(trained.left_out) > _NAMED:
        out.print(f"  ... and {len(trained.left_out) - _NAMED:,} more, listed in the report")
    if trained.licence:
        out.print(f"The weights it began with are under the licence: {trained.licence}")
    out.print(f"Report: {trained.folder / 'report.md'}", markup=False)
    out.print(f"Next: simdist ingest FOLDER --model {trained.folder}", markup=False)
