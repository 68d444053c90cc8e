"""`simdist ingest`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from simdist.cli import options
from simdist.cli.indexing import end_with_code, progress_shower, show_summary
from simdist.cli.progress import Monitor
from simdist.errors import UsageError
from simdist.ingest.duplicates import OnDuplicate
from simdist.settings import (
    DEFAULT_COLLECTION,
    DEFAULT_EXPECT,
    DEFAULT_MODEL,
    MAX_PARTITIONS,
)

_SLOWER = ", which is packed as a whole: a plain tar would be read faster"


def ingest(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, an image, an archive (.tar, .zip, .parquet), a list of addresses "
            "(.txt, .csv, .tsv, .parquet), or a pattern for several: a path, or s3://, gs://, az://.",
        ),
    ],
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME_OR_BUNDLE", help="Name of a model, timm:NAME, or folder of a bundle."
        ),
    ] = DEFAULT_MODEL,
    expect: Annotated[
        int,
        typer.Option(
            metavar="IMAGES",
            min=1,
            help="Number of images that a new collection should hold, such as 10_000_000.",
        ),
    ] = DEFAULT_EXPECT,
    partitions: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=MAX_PARTITIONS,
            help="Parts of a new collection, which a Redis Cluster can spread over its nodes.",
        ),
    ] = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Embed and replace images that are indexed already.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="At the end, delete images that are gone from SOURCE or excluded, after asking.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Prune without asking.")] = False,
    save_embeddings: Annotated[
        str | None,
        typer.Option(
            metavar="LOCATION",
            help="Also write the embeddings as Parquet files to a folder, s3://, gs:// or az://; "
            "'simdist ingest LOCATION' indexes them again without images.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    limit: options.Limit = None,
    hidden: options.Hidden = False,
    label_from: options.LabelSource = None,
    uri_column: options.UriColumn = None,
    label_column: options.LabelColumn = None,
    index: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD:TYPE",
            help="Read a field of the metadata as float, int, bool or text, now and in later "
            "ingests, such as price:float; what is none is a failure. Repeatable.",
            rich_help_panel=options.WHICH_IMAGES,
        ),
    ] = None,
    gps: Annotated[
        bool,
        typer.Option(
            "--gps",
            help="Keep also where photographs were taken, as latitude and longitude.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = False,
    on_duplicate: Annotated[
        OnDuplicate | None,
        typer.Option(
            help="Look whether new images are the same pictures as others, which came before, in "
            "other sizes or forms: only report it, skip them, or link them in their metadata.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    endpoint_url: options.EndpointUrl = None,
    region: options.Region = None,
    anonymous: options.Anonymous = False,
    gpus: options.Gpus = None,
    actors: options.Actors = None,
    progress: options.ProgressForm = options.ProgressAs.text,
    weights: options.Weights = None,
    accept_licence: options.AcceptLicence = False,
    redis: options.RedisUrl = None,
    ray_address: options.RayAddress = None,
) -> None:
    """Index the images of a folder, a bucket, archives or lists.

    Run the same command again to resume after an interruption or to add new images: those that
    are indexed already are skipped. The name of an image's folder becomes its label, unless an
    archive or a list gives one. 'simdist failures' lists the images that could not be indexed.

    The exit code is 3 if some images could not be indexed, and 1 if none could.
    """
    import simdist
    from simdist.sources.reference import PACKED

    as_json = progress is options.ProgressAs.json
    if prune and not yes and not sys.stdin.isatty():
        raise UsageError("--prune asks before it deletes, and nobody can answer here: add --yes")
    with Monitor(as_json=as_json) as monitor:
        slower = source.lower().endswith(PACKED)
        monitor.say(f"opening {source}{_SLOWER if slower else ''}")
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
            hidden=hidden,
            label_from=label_from,
            uri_column=uri_column,
            label_column=label_column,
            index=index or (),
            gps=gps,
            on_duplicate=on_duplicate,
            endpoint_url=endpoint_url,
            region=region,
            anonymous=anonymous,
            gpus=gpus,
            actors=actors,
            weights=weights,
            accept_licence=accept_licence,
            redis=redis,
            ray_address=ray_address,
            on_progress=progress_shower(monitor, as_json=as_json),
        )
    if as_json:
        failures = [failure.as_object() for failure in summary.failures]
        monitor.show_object({"summary": asdict(summary) | {"failures": failures}}, last=True)
    else:
        show_summary(summary, collection, on_duplicate)
    end_with_code([summary])


def _asker(source: str, monitor: Monitor, *, yes: bool) -> Callable[[int], bool]:
    def ask(count: int) -> bool:
        monitor.pause()
        return yes or typer.confirm(
            f"Delete {count:,} images that are gone from {source}, or left out of it now?",
            err=True,
        )

    return ask
