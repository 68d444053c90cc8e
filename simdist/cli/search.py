"""`simdist search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simdist.cli import options
from simdist.cli.render import console, plain, short_uri, show, table
from simdist.settings import DEFAULT_COLLECTION, DEFAULT_RESULTS, MAX_RESULTS, Settings

if TYPE_CHECKING:
    from simdist.embedding import Embedder
    from simdist.query import Query
    from simdist.search import Hit


def search(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Files, http(s) addresses, or URIs of indexed images."
        ),
    ],
    *,
    n: Annotated[int, typer.Option("-n", min=1, max=MAX_RESULTS, help="Number of results.")] = (
        DEFAULT_RESULTS
    ),
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Find this share of the 10 most similar images, such as 0.95; "
            "'simdist tune' measures what that takes.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a contact sheet (.png or .jpg).")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Open the contact sheet.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the hits as JSON.")] = False,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_BUNDLE", help="The collection's own model, where it is a bundle."
        ),
    ] = None,
    weights: options.Weights = None,
    redis: options.RedisUrl = None,
) -> None:
    """Find the images most similar to one, or to each of several."""
    from simdist.collection import Collection
    from simdist.contact_sheet import check_target, contact_sheet, show_picture, write_picture
    from simdist.query import resolve_queries
    from simdist.search import Searcher
    from simdist.store import open_store
    from simdist.tuning import check_recall

    if recall is not None:
        check_recall(recall)
    if out is not None:
        check_target(out)
    with open_store(Settings.resolve(redis_url=redis)) as store:
        opened = Collection.open(store, collection)
        # Before a model is loaded: an empty collection says so at once.
        opened.require_images()
        queries = resolve_queries(
            images, opened, load_embedder=lambda: _load(model or opened.model, weights)
        )
        searcher = Searcher(opened)
        found = [(query, searcher.search(query.vector, n=n, recall=recall)) for query in queries]
    # The sheet first: whoever reads the output may stop reading (`... | head`).
    sheet = contact_sheet(found) if out is not None or show else None
    if sheet is not None and out is not None:
        write_picture(sheet, out)
    if as_json:
        rows = [(query.name, [hit._asdict() for hit in hits]) for query, hits in found]
        typer.echo(json.dumps([{"query": name, "hits": hits} for name, hits in rows], indent=2))
    else:
        _render(found)
    if out is not None:
        # On stderr beside JSON, which must stay JSON.
        typer.echo(f"Contact sheet: {out}", err=as_json)
    if sheet is not None and show:
        show_picture(sheet)


def _load(model: str, weights: Path | None) -> Embedder:
    from simdist.embedding import Embedder

    return Embedder.load(model, weights=weights)


def _render(found: list[tuple[Query, list[Hit]]]) -> None:
    out = console()
    for query, hits in found:
        if len(found) > 1:
            out.print(f"\n{query.name}", markup=False)
        rows = table("", "score", "label", "image", right=("", "score"))
        for rank, hit in enumerate(hits, start=1):
            label, image = plain(hit.label or ""), plain(short_uri(hit.uri))
            rows.add_row(str(rank), f"{hit.score:.3f}", label, image)
        show(out, rows)
