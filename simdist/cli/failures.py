"""`simdist failures`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.indexing import end_with_code, progress_shower, show_summary
from simdist.cli.progress import Monitor
from simdist.cli.render import (
    console,
    plain,
    print_json,
    short_uri,
    show,
    table,
)
from simdist.errors import UsageError
from simdist.settings import DEFAULT_COLLECTION, Settings

if TYPE_CHECKING:
    from simdist.ingest.failures import KeptFailure
    from simdist.sources import Access, Source


def failures(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    retry: Annotated[bool, typer.Option("--retry", help="Try to index them again.")] = False,
    as_json: options.AsJson = False,
    model: options.OwnModel = None,
    weights: options.Weights = None,
    endpoint_url: options.EndpointUrl = None,
    region: options.Region = None,
    anonymous: options.Anonymous = False,
    gpus: options.Gpus = None,
    actors: options.Actors = None,
    redis: options.RedisUrl = None,
    ray_address: options.RayAddress = None,
) -> None:
    """List the images that could not be indexed, or try them again.

    Each is listed with the reason. With --retry the exit code is 3 if some fail again, 1 if all do.
    """
    from cluster.ingest.driver import ingest_images
    from cluster.ingest.stages import check_workers
    from cluster.runtime import ray_session
    from simdist.embedding import load_model
    from simdist.index.collection import Collection
    from simdist.ingest.failures import kept
    from simdist.sources import Access
    from simdist.store import open_store

    if retry and as_json:
        raise UsageError(
            "--retry prints a summary, not JSON: list what is left with --json afterwards"
        )
    check_workers(gpus=gpus, actors=actors)
    settings = Settings.resolve(redis_url=redis, ray_address=ray_address)
    with open_store(settings) as store:
        opened = Collection.open(store, collection)
        found = kept(opened)
        flags = partial(
            Access.resolve, endpoint_url=endpoint_url, region=region, anonymous=anonymous
        )
        sources = list(_sources(found, lambda before: flags(before=before)))
        if not retry or not sources:
            _render(found, as_json=as_json)
            return
        with Monitor() as monitor:
            monitor.say("loading the model")
            # Its licence was accepted when the collection was made.
            loaded = load_model(model or opened.model, weights=weights, accept_licence=True)
            opened.require_model(loaded.id)
            monitor.say("starting Ray")
            with ray_session(settings):
                summaries = [
                    ingest_images(
                        source,
                        collection=opened,
                        model=loaded,
                        on_progress=progress_shower(monitor, as_json=False),
                        gpus=gpus,
                        actors=actors,
                    )
                    for source in sources
                ]
        for summary in summaries:
            show_summary(summary, collection)
        end_with_code(summaries)


def _sources(found: Sequence[KeptFailure], access: Callable[[Access], Access]) -> Iterator[Source]:
    """The images that may be tried again, by the sources that led to them.

    Args:
        access: how to reach now what was reached so before.
    """
    from simdist.sources import Source

    def way(kept: KeptFailure) -> tuple[str, Access]:
        return kept.source, kept.access

    def settings(kept: KeptFailure) -> tuple[str, tuple[tuple[str, str, str], ...]]:
        return kept.source, kept.access.settings

    for (name, before), group in groupby(sorted(found, key=settings), key=way):
        refs = [kept.failure.ref for kept in group if kept.failure.ref]
        if refs:
            yield Source(iter(refs), access(before), name)


def _render(found: Sequence[KeptFailure], *, as_json: bool) -> None:
    if as_json:
        more = [{"source": kept.source, "at": kept.at} for kept in found]
        failures = [kept.failure.as_object() for kept in found]
        print_json([one | other for one, other in zip(failures, more, strict=True)])
        return
    out = console()
    if not found:
        out.print("No failures.")
        return
    rows = table("stage", "image", "reason")
    for kept in found:
        failure = kept.failure
        # As text: what is in brackets is no markup.
        rows.add_row(failure.stage, plain(short_uri(failure.uri)), plain(failure.reason))
    show(out, rows)
    counts = Counter(kept.failure.stage for kept in found)
    parts = ", ".join(f"{count:,} {stage}" for stage, count in sorted(counts.items()))
    out.print(f"{len(found):,} failure{'s' if len(found) > 1 else ''}: {parts}")
    unlisted = sorted({kept.source for kept in found if kept.failure.ref is None})
    if unlisted:
        out.print("Those at 'list' are tried again by an ingest of their source:", markup=False)
        for source in unlisted:
            out.print(f"  {short_uri(source)}", markup=False)
