"""`simdist ingest`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.status import Status

from simdist.cli import options
from simdist.cli.render import console, duration, short_uri
from simdist.settings import DEFAULT_COLLECTION, DEFAULT_MODEL, Settings

if TYPE_CHECKING:
    from cluster.ingest import Progress, Summary

# Seconds between two lines of progress where there is no terminal.
LINE_SECONDS = 5.0


def ingest(
    source: Annotated[
        str, typer.Argument(metavar="PATH_OR_URI", help="A folder of images, or one image.")
    ],
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    model: Annotated[
        str,
        typer.Option(metavar="NAME_OR_BUNDLE", help="A model's name, or the folder of a bundle."),
    ] = DEFAULT_MODEL,
    weights: options.Weights = None,
    redis: options.RedisUrl = None,
    ray_address: options.RayAddress = None,
) -> None:
    """Index the images of a folder and all folders below it.

    Images that are indexed already are skipped: to go on after an interruption, or to add what
    is new, run the same command again. The name of an image's folder becomes its label.
    """
    from cluster.ingest import ingest as run
    from simdist.collection import Collection
    from simdist.embedding import load_model
    from simdist.sources import source_folder
    from simdist.store import open_store

    settings = Settings.resolve(redis_url=redis, ray_address=ray_address)
    source_folder(source)
    with _Monitor() as monitor, open_store(settings) as store:
        monitor.say("loading the model")
        loaded = load_model(model, weights=weights)
        opened = Collection.ensure(store, collection, model=loaded)
        monitor.say("listing, and starting Ray if there is something to do")
        summary = run(
            source,
            collection=opened,
            model=loaded,
            on_progress=monitor.show,
            settings=settings,
        )
    _render(summary, collection)


class _Monitor:
    """Progress on stderr: one live line on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._status = Status("", console=console) if sys.stderr.isatty() else None
        self._line_at = 0.0

    def __enter__(self) -> _Monitor:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def say(self, text: str) -> None:
        if self._status:
            self._status.update(text)
        else:
            typer.echo(text, err=True)

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._status or now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            self.say(_progress_line(progress))


def _progress_line(progress: Progress) -> str:
    counts = (
        f"listed {progress.listed:,}{'' if progress.listing_done else '+'}  "
        f"done {progress.done:,}  skipped {progress.skipped:,}  failed {progress.failed:,}"
    )
    rate = f"  {progress.rate:.1f} images/s" if progress.rate else ""
    left = progress.seconds_left
    return counts + rate + (f"  {duration(left)} left" if left else "")


def _render(summary: Summary, collection: str) -> None:
    out = console()
    if summary.listed == 0:
        out.print("No images found: simdist looks for .jpg, .png, .webp, .gif, .tif and .bmp.")
        return
    out.print(
        f"{summary.listed:,} listed: {summary.added:,} added, {summary.replaced:,} replaced, "
        f"{summary.skipped + summary.unchanged:,} skipped, {summary.failed:,} failed "
        f"in {duration(summary.seconds)}"
    )
    for failure in summary.failures:
        out.print(f"  {failure.stage}: {short_uri(failure.uri)}: {failure.reason}", markup=False)
    if summary.failed > len(summary.failures):
        out.print(f"  ... and {summary.failed - len(summary.failures):,} more")
    out.print(f"Next: simdist search IMAGE --collection {collection} --out similar.png")
