"""`simdist reembed`."""

from __future__ import annotations

from typing import Annotated

import typer

from simdist.cli import options
from simdist.cli.indexing import INCOMPLETE, progress_shower
from simdist.cli.progress import Monitor
from simdist.cli.render import console, duration, short_uri
from simdist.settings import DEFAULT_COLLECTION, Settings


def reembed(
    *,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Model that is to take the old one's place.")
    ],
    collection: options.CollectionName = DEFAULT_COLLECTION,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Keep the old collection under this name; else it is dropped."
        ),
    ] = None,
    without_failed: Annotated[
        bool,
        typer.Option(
            "--without-failed",
            help="Switch over also if some images cannot be read: they are missing then.",
        ),
    ] = False,
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
    """Embed a collection anew with another model, while it is used.

    The new embeddings lie in COLLECTION.next until all are there; then one write switches over, and
    the old ones are dropped. URIs, labels and metadata stay. After an interruption, run the same
    command again. The exit code is 3, and nothing is switched, if some images cannot be embedded.
    """
    from cluster.ingest.reembed import BESIDE
    from cluster.ingest.reembed import reembed as run
    from cluster.ingest.stages import check_workers
    from simdist.embedding import load_model
    from simdist.index.collection import Collection
    from simdist.index.names import Names
    from simdist.sources import Access
    from simdist.store import open_store

    check_workers(gpus=gpus, actors=actors)
    access = Access.resolve(endpoint_url=endpoint_url, region=region, anonymous=anonymous)
    settings = Settings.resolve(redis_url=redis, ray_address=ray_address)
    as_json = progress is options.ProgressAs.json
    with Monitor(as_json=as_json) as monitor:
        monitor.say("loading the model")
        loaded = load_model(model, weights=weights, accept_licence=accept_licence)
        with open_store(settings) as store:
            summary = run(
                store,
                collection,
                model=loaded,
                access=access,
                settings=settings,
                keep=keep,
                without_failed=without_failed,
                gpus=gpus,
                actors=actors,
                on_progress=progress_shower(monitor, as_json=as_json),
            )
            name = Names.read(store).aliases.get(collection, collection)
            switched = Collection.open(store, name).model_id == loaded.id
    out = console()
    for failure in summary.failures:
        out.print(f"  {failure.stage}: {short_uri(failure.uri)}: {failure.reason}", markup=False)
    if not switched:
        out.print(
            f"Cannot be embedded: {summary.failed:,}. So {collection} stays as it was. "
            f"simdist failures --collection {name}{BESIDE} lists them: mend that and run the "
            "same command again, or add --without-failed",
            markup=False,
        )
        raise typer.Exit(INCOMPLETE)
    out.print(
        f"{collection} is of the model {loaded.id} now: {summary.added:,} images embedded in "
        f"{duration(summary.seconds)}",
        markup=False,
    )
