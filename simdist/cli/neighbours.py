"""`simdist neighbours`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.options import WHICH_NEIGHBOURS as WHICH
from simdist.cli.progress import Monitor
from simdist.cli.render import print_json
from simdist.settings import DEFAULT_COLLECTION, Settings

if TYPE_CHECKING:
    from cluster.joining.job import Outcome


def neighbours(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder for the Parquet files: uri, neighbour, score, rank.",
            rich_help_panel=options.OUTPUT,
        ),
    ],
    k: Annotated[
        int,
        typer.Option(
            "-k",
            metavar="K",
            min=1,
            max=1000,
            help="For each image.",
            rich_help_panel=WHICH,
        ),
    ] = 20,
    recall: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0.01,
            max=1,
            help="Share of the true neighbours to find at least.",
            rich_help_panel=WHICH,
        ),
    ] = 0.95,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            min=-1,
            max=1,
            help="Leave out what is less similar.",
            rich_help_panel=WHICH,
        ),
    ] = None,
    max_score: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            min=-1,
            max=1,
            help="Leave out what is as similar or more: 0.95 leaves out most duplicates.",
            rich_help_panel=WHICH,
        ),
    ] = None,
    same_label: Annotated[
        bool,
        typer.Option(
            "--same-label",
            help="Only images with the same label.",
            rich_help_panel=WHICH,
        ),
    ] = False,
    no_duplicates: Annotated[
        bool,
        typer.Option(
            "--no-duplicates",
            help="Leave out the same picture in another form, as 'simdist duplicates --same' "
            "finds it.",
            rich_help_panel=WHICH,
        ),
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of an earlier run: compare only what has changed since. The outcome is "
            "the same. It may be the folder to write to.",
        ),
    ] = None,
    as_json: options.AsJson = False,
    redis: options.RedisUrl = None,
    ray_address: options.RayAddress = None,
) -> None:
    """Find for every image those most similar to it, as a table.

    Run the same command again to go on after an interruption.
    """
    from cluster.joining.job import write_neighbours
    from simdist.index.collection import Collection
    from simdist.joining.plan import Wanted
    from simdist.store import open_store

    wanted = Wanted(
        k=k,
        recall=recall,
        min_score=-1.0 if min_score is None else min_score,
        max_score=2.0 if max_score is None else max_score,
        same_label=same_label,
        no_duplicates=no_duplicates,
    )
    settings = Settings.resolve(redis_url=redis, ray_address=ray_address)
    with open_store(settings) as store, Monitor() as monitor:
        outcome = write_neighbours(
            Collection.open(store, collection),
            wanted,
            out,
            since=since,
            settings=settings,
            on_progress=monitor.count,
        )
    if as_json:
        print_json(outcome.plan.as_json() | {"images": outcome.images, "found_anew": outcome.found})
    else:
        _show(outcome, collection, out)


def _show(outcome: Outcome, name: str, out: str) -> None:
    plan = outcome.plan
    epochs = " + ".join(f"{epoch:,}" for epoch in plan.epochs)
    how = "all compared" if not plan.near else f"recall {plan.recall:.3f} of a sample"
    typer.echo(
        f"{name}: the {plan.wanted.k} nearest of {outcome.images:,} images as of epoch {epochs}, "
        f"{how}"
    )
    if outcome.found < outcome.images:
        typer.echo(f"Found anew for {outcome.found:,} of them; the rest was there")
    typer.echo(f"Written: {out}")
