"""`simdist rehash`."""

from __future__ import annotations

from typing import Annotated

import typer

from simdist.cli import options
from simdist.cli.progress import Monitor
from simdist.cli.render import console
from simdist.cli.tune import show_tuning
from simdist.settings import DEFAULT_COLLECTION, Settings


def rehash(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    family: Annotated[
        str, typer.Option(metavar="NAME", help="Hash family: kmeans, hyperplanes or gaussian.")
    ] = "kmeans",
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Centroids (kmeans) or bits (others); by default what suits the collection.",
        ),
    ] = None,
    tables: Annotated[
        int | None,
        typer.Option(metavar="L", min=1, help="Number of tables (hyperplanes and gaussian)."),
    ] = None,
    redis: options.RedisUrl = None,
) -> None:
    """Rebuild the hash tables from the stored embeddings.

    Searches and writes continue meanwhile: the new tables are filled beside the old ones, then
    replace them in one step, and are measured as by 'simdist tune'. After an interruption, run the
    same command again to resume.
    """
    from simdist.index.collection import Collection
    from simdist.index.rehash import rehash as run
    from simdist.store import open_store

    with open_store(Settings.resolve(redis_url=redis)) as store:
        opened = Collection.open(store, collection)
        with Monitor(unit="rows") as monitor:
            tuning = run(opened, kind=family, size=size, tables=tables, on_progress=monitor.count)
        made = opened.partitions[0].families.now().family
    console().print(f"New hash tables: {made.tables} x {made.size:,} {made.kind}", markup=False)
    show_tuning(tuning, collection)
