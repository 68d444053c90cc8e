"""`simdist export` and `simdist import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simdist.cli import options
from simdist.cli.progress import Monitor
from simdist.settings import DEFAULT_COLLECTION, DEFAULT_EXPECT, Settings


def export(
    out: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="An empty folder, or s3://, gs:// or az:// prefix."),
    ],
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    endpoint_url: options.EndpointUrl = None,
    region: options.Region = None,
    redis: options.RedisUrl = None,
) -> None:
    """Write a collection into Parquet files.

    Vectors are written as they are stored, with all that is kept of the images, as it was at one
    moment, while the collection is used. After an interruption, run the same command again to go
    on.
    """
    from simdist.index.collection import Collection
    from simdist.sources import Access
    from simdist.store import open_store
    from simdist.transfer.exporting import export as run

    access = Access.resolve(endpoint_url=endpoint_url, region=region)
    with open_store(Settings.resolve(redis_url=redis)) as store, Monitor() as monitor:
        opened = Collection.open(store, collection)
        made = run(opened, out, access=access, on_progress=monitor.count)
    epochs = ", ".join(f"{partition.epoch:,}" for partition in made.partitions)
    typer.echo(f"{made.images:,} images of {collection} as of change {epochs}: {out}")


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="An export (a folder or a prefix); a .npy file; a flat index of FAISS (.faiss, "
            ".index); clip-retrieval's folder; lshash3's Redis (its URL) or tables (.json).",
        ),
    ],
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What made the embeddings; an export and lshash3 say it."
        ),
    ] = None,
    uris: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="URIs of the images, one a line, for .npy and FAISS."),
    ] = None,
    expect: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Images that a new collection is to hold, roughly."),
    ] = DEFAULT_EXPECT,
    partitions: Annotated[
        int, typer.Option(metavar="N", min=1, help="Partitions of a new collection.")
    ] = 1,
    endpoint_url: options.EndpointUrl = None,
    region: options.Region = None,
    anonymous: options.Anonymous = False,
    redis: options.RedisUrl = None,
) -> None:
    """Index embeddings that are made already, without their images.

    What an export holds is stored again bit by bit. After an interruption, run the same command
    again to go on. Embeddings in Parquet files, as ingest saves them, are ingested.
    """
    from simdist.sources import Access
    from simdist.store import open_store
    from simdist.transfer.embeddings import import_embeddings

    access = Access.resolve(endpoint_url=endpoint_url, region=region, anonymous=anonymous)
    with open_store(Settings.resolve(redis_url=redis)) as store, Monitor() as monitor:
        made = import_embeddings(
            source,
            store=store,
            name=collection,
            model=model,
            uris=uris,
            expect=expect,
            partitions=partitions,
            access=access,
            on_progress=monitor.count,
        )
    added = made.added
    unusable = f", {made.unusable:,} unusable" if made.unusable else ""
    typer.echo(
        f"{added.added:,} added, {added.replaced:,} replaced, {added.unchanged:,} unchanged"
        f"{unusable}: {collection}"
    )
