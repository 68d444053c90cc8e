"""`simdist eval`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simdist.cli import options
from simdist.cli.progress import Monitor
from simdist.cli.render import (
    console,
    plain,
    print_json,
    show,
    table,
)
from simdist.errors import CollectionError
from simdist.settings import DEFAULT_COLLECTION, MAX_RESULTS, Settings

if TYPE_CHECKING:
    from simdist.evaluation import Evaluation

# Categories that are listed: those that do worst.
_LISTED = 10


def evaluate(
    *,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    queries: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Number of images to search with, chosen at random."),
    ] = 1000,
    k: Annotated[
        int,
        typer.Option(
            "-k", metavar="N", min=1, max=MAX_RESULTS - 1, help="Number of hits to judge."
        ),
    ] = 10,
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Recall to search with, as in 'simdist search --recall'."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Random seed for choosing the queries.")
    ] = 0,
    as_json: options.AsJson = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Plot precision by rank and by category (.png or .svg).",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the worst queries as a contact sheet (.png or .jpg).",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    redis: options.RedisUrl = None,
) -> None:
    """Measure how good the answers are.

    They are compared with those of an exact search, and with the labels. Each query is an image of
    the collection, searched for among all others. Its label is the name of its folder, or what a
    list gave.
    """
    from simdist.evaluation import evaluate as measure
    from simdist.index.collection import Collection
    from simdist.plots import check_plot, draw_evaluation
    from simdist.search.contact_sheet import check_target, contact_sheet, write_picture
    from simdist.search.question import check_recall
    from simdist.store import open_store

    if recall is not None:
        check_recall(recall)
    if plot is not None:
        check_plot(plot)
    if out is not None:
        check_target(out)
    with open_store(Settings.resolve(redis_url=redis)) as store, Monitor() as monitor:
        opened = Collection.open(store, collection)
        found = measure(
            opened, queries=queries, k=k, recall=recall, seed=seed, on_progress=monitor.count
        )
    if (plot is not None or out is not None) and found.overall is None:
        raise CollectionError(
            f"no two images of {collection!r} have a label in common: there is nothing to draw"
        )
    if plot is not None:
        draw_evaluation(found, plot, title=collection)
    if out is not None:
        sheet = contact_sheet([(answer.query, answer.hits[:5]) for answer in found.worst])
        write_picture(sheet, out)
    if as_json:
        print_json(_as_json(found))
    else:
        _show(found, collection)
    # On stderr beside JSON, which must stay JSON.
    if plot is not None:
        typer.echo(f"Plot: {plot}", err=as_json)
    if out is not None:
        typer.echo(f"Worst queries: {out}", err=as_json)


def _as_json(found: Evaluation) -> dict[str, Any]:
    worst = [
        {
            "uri": answer.query.uri,
            "label": answer.label,
            "average_precision": answer.average_precision,
            "hits": [hit._asdict() for hit in answer.hits],
        }
        for answer in found.worst
    ]
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    scores = {name: asdict(of) for name, of in found.categories.items()}
    means = {
        name: asdict(of) if of else None
        for name, of in (("overall", found.overall), ("mean_category", found.mean_category))
    }
    return fields | means | {"categories": scores, "worst": worst}


def _show(found: Evaluation, collection: str) -> None:
    out = console()
    out.print(
        f"{found.queries:,} of {found.images:,} images of {collection} searched for:", markup=False
    )
    rows = table("measured", "", right=("",))
    rows.add_row(f"recall@{found.k} against exact search", f"{found.recall:.3f}")
    rows.add_row("candidates a query", f"{found.candidates:,.0f}")
    rows.add_row("milliseconds a query, median", f"{found.median_ms:.2f}")
    rows.add_row("milliseconds a query, 99th percentile", f"{found.slow_ms:.2f}")
    for of, means in ((found.overall, ""), (found.mean_category, ", mean of categories")):
        if of:
            rows.add_row(f"nearest neighbour has the same label{means}", f"{of.agreement:.3f}")
            rows.add_row(f"precision@{found.k}{means}", f"{of.precision:.3f}")
            rows.add_row(f"mAP@{found.k}{means}", f"{of.average_precision:.3f}")
    show(out, rows)
    if found.overall is None:
        out.print("No two images share a label, so precision cannot be measured.")
        return
    worst = sorted(found.categories.items(), key=lambda item: item[1].precision)[:_LISTED]
    heads = ("queries", "nearest", f"precision@{found.k}", f"mAP@{found.k}")
    listed = table("worst categories", *heads, right=heads)
    for name, scores in worst:
        listed.add_row(
            plain(name),
            f"{scores.queries:,}",
            f"{scores.agreement:.3f}",
            f"{scores.precision:.3f}",
            f"{scores.average_precision:.3f}",
        )
    out.print()
    show(out, listed)
