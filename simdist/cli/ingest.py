"""`simdist ingest`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.progress import Monitor
from simdist.cli.render import console, duration, short_uri
from simdist.errors import UsageError
from simdist.settings import (
    DEFAULT_COLLECTION,
    DEFAULT_EXPECT,
    DEFAULT_MODEL,
    MAX_PARTITIONS,
)

if TYPE_CHECKING:
    from simdist.ingest.progress import Progress, Summary


def ingest(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, image, archive or list: a path, or s3://, gs://, az://; or a pattern.",
        ),
    ],
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    model: Annotated[
        str,
        typer.Option(metavar="NAME_OR_BUNDLE", help="A model's name, or the folder of a bundle."),
    ] = DEFAULT_MODEL,
    expect: Annotated[
        int,
        typer.Option(
            metavar="IMAGES",
            min=1,
            help="How many images a new collection is to hold, such as 10_000_000.",
        ),
    ] = DEFAULT_EXPECT,
    partitions: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=MAX_PARTITIONS,
            help="Parts of a new collection that a Redis Cluster can keep on different nodes.",
        ),
    ] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Embed also what is indexed already, and replace it.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="At the end, delete images that are gone from SOURCE; asks."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them without asking.")] = False,
    save_embeddings: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Also write the embeddings, as Parquet files, to a folder, s3://, gs:// or az://; "
            "'simdist ingest PLACE' indexes them again without images.",
        ),
    ] = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    limit: options.Limit = None,
    label_from: options.LabelSource = None,
    uri_column: options.UriColumn = None,
    label_column: options.LabelColumn = None,
    endpoint_url: options.EndpointUrl = None,
    region: options.Region = None,
    anonymous: options.Anonymous = False,
    gpus: options.Gpus = None,
    actors: options.Actors = None,
    progress: options.ProgressForm = options.ProgressAs.text,
    weights: options.Weights = None,
    redis: options.RedisUrl = None,
    ray_address: options.RayAddress = None,
) -> None:
    """Index the images of a folder, a bucket, archives (.tar, .parquet) or lists of addresses.

    Images that are indexed already are skipped: to go on after an interruption, or to add what
    is new, run the same command again. The name of an image's folder becomes its label, or what
    an archive or a list gives as its label. Images that cannot be indexed are listed by
    'simdist failures'.
    """
    import simdist

    as_json = progress is options.ProgressAs.json
    check_workers(gpus, actors)
    if prune and not yes and not sys.stdin.isatty():
        raise UsageError("--prune asks before it deletes, and nobody is there: add --yes")
    with Monitor(as_json=as_json) as monitor:
        monitor.say(f"opening {source}")
        summary = simdist.ingest(
            source,
            collection=collection,
            model=model,
            expect=expect,
            partitions=partitions,
            force=force,
            prune=_asker(source, monitor, yes=yes) if prune else None,
            save_embeddings=save_embeddings,
            include=include or (),
            exclude=exclude or (),
            limit=limit,
            label_from=label_from,
            uri_column=uri_column,
            label_column=label_column,
            endpoint_url=endpoint_url,
            region=region,
            anonymous=anonymous,
            gpus=gpus,
            actors=actors,
            weights=weights,
            redis=redis,
            ray_address=ray_address,
            on_progress=progress_shower(monitor, as_json=as_json),
        )
    if as_json:
        monitor.show_object({"summary": asdict(summary)}, last=True)
    else:
        show_summary(summary, collection)


def check_workers(gpus: int | None, actors: int | None) -> None:
    """Refuse two numbers for one thing.

    Raises:
        UsageError: both numbers are given, and GPUs are to be used.
    """
    if gpus and actors:
        raise UsageError("each GPU has one actor: give --gpus or --actors, not both")


def progress_shower(monitor: Monitor, *, as_json: bool) -> Callable[[Progress], None]:
    """What shows the progress of an ingest."""
    if as_json:
        return lambda progress: monitor.show_object(
            asdict(progress) | {"seconds_left": progress.seconds_left}
        )
    return lambda progress: monitor.show(lambda: _progress_line(progress))


def _progress_line(progress: Progress) -> str:
    counts = (
        f"listed {progress.listed:,}{'' if progress.listing_done else '+'}  "
        f"done {progress.done:,}  skipped {progress.skipped:,}  failed {progress.failed:,}"
    )
    rate = f"  {progress.rate:.1f} images/s" if progress.rate else ""
    left = progress.seconds_left
    return counts + rate + (f"  {duration(left)} left" if left else "")


def _asker(source: str, monitor: Monitor, *, yes: bool) -> Callable[[int], bool]:
    def ask(count: int) -> bool:
        monitor.pause()
        return yes or typer.confirm(
            f"Delete {count:,} images that are gone from {source}?", err=True
        )

    return ask


def show_summary(summary: Summary, collection: str) -> None:
    """Print what an ingest did."""
    out = console()
    if summary.listed == 0:
        out.print("No images found: simdist looks for .jpg, .png, .webp, .gif, .tif and .bmp.")
        out.print("Archives and lists must be named: 'SOURCE/*.tar', .parquet, .csv or .txt.")
        return
    pruned = f", {summary.pruned:,} pruned" if summary.pruned else ""
    out.print(
        f"{summary.listed:,} listed: {summary.added:,} added, {summary.replaced:,} replaced, "
        f"{summary.skipped + summary.unchanged:,} skipped, {summary.failed:,} failed{pruned} "
        f"in {duration(summary.seconds)}"
    )
    if summary.slowest:
        share = summary.stages[summary.slowest]
        out.print(f"Slowest stage: {summary.slowest}, busy {share:.0%} of the time")
    for failure in summary.failures:
        out.print(f"  {failure.stage}: {short_uri(failure.uri)}: {failure.reason}", markup=False)
    if summary.failed > len(summary.failures):
        out.print(
            f"  ... and {summary.failed - len(summary.failures):,} more: "
            f"simdist failures --collection {collection}"
        )
    if not (summary.added or summary.replaced or summary.unchanged or summary.skipped):
        out.print("Nothing of it is indexed: mend what is named, then run the same command again.")
        return
    out.print(f"Next: simdist search IMAGE --collection {collection} --out similar.png")
