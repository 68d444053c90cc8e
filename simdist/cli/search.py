"""`simdist search`."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from unicodedata import normalize

import typer

from simdist.cli import options
from simdist.cli.render import (
    console,
    plain,
    print_json,
    short_uri,
    show,
    table,
)
from simdist.settings import (
    DEFAULT_COLLECTION,
    DEFAULT_RESULTS,
    MAX_RESULTS,
    RAY_ADDRESS_VARIABLE,
    Settings,
)

if TYPE_CHECKING:
    from simdist.embedding import Embedder
    from simdist.search.query import QueryImage, Service
    from simdist.search.question import Hit, Question


def search(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Files, http(s) addresses, or URIs of indexed images."
        ),
    ],
    *,
    n: Annotated[
        int, typer.Option("-n", metavar="N", min=1, max=MAX_RESULTS, help="Number of hits.")
    ] = DEFAULT_RESULTS,
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the 10 most similar images to find, such as 0.95; "
            "'simdist tune' measures what that takes.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Find only images with this label."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="FILTER",
            help="Find only images that pass, such as 'price < 20 and label != \"shoes\"': "
            "docs/filters.md.",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Leave out hits that are less similar, -1 to 1."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a contact sheet (.png or .jpg).",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Open a contact sheet.", rich_help_panel=options.OUTPUT),
    ] = False,
    as_json: options.AsJson = False,
    collection: options.CollectionName = DEFAULT_COLLECTION,
    model: options.OwnModel = None,
    weights: options.Weights = None,
    redis: options.RedisUrl = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="HOST:PORT",
            help=f"Ray cluster whose query workers to ask, if 'simdist serve' runs there "
            f"[env var: {RAY_ADDRESS_VARIABLE}].",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="SIMDIST_SERVER",
            help="Service to ask; its token is read from SIMDIST_TOKEN.",
            rich_help_panel=options.WHERE,
        ),
    ] = None,
) -> None:
    """Find the images most similar to one, or to each of several."""
    from simdist.search.contact_sheet import (
        check_target,
        contact_sheet,
        show_picture,
        write_picture,
    )
    from simdist.search.query import ask_by
    from simdist.search.question import Question

    # As labels are stored: a name that is copied from macOS is written otherwise.
    label = label and normalize("NFC", label)
    question = Question(
        n=n,
        recall=recall,
        min_score=min_score,
        label=label,
        where=where,
        collection=collection,
    )
    if out is not None:
        check_target(out)
    settings = Settings.resolve(redis_url=redis, ray_address=ray_address)
    with ExitStack() as stack:
        service = _service(stack, server, settings)
        if service is not None:
            found = [ask_by(image, service, question) for image in images]
        else:
            found = _search_here(images, question, settings, model, weights)
    # The sheet first: whoever reads the output may stop reading (`... | head`).
    sheet = contact_sheet(found) if out is not None or show else None
    if sheet is not None and out is not None:
        write_picture(sheet, out)
    if as_json:
        rows = [(query.name, [hit._asdict() for hit in hits]) for query, hits in found]
        print_json([{"query": name, "hits": hits} for name, hits in rows])
    else:
        _render(found)
    if out is not None:
        # On stderr beside JSON, which must stay JSON.
        typer.echo(f"Contact sheet: {out}", err=as_json)
    if sheet is not None and show:
        show_picture(sheet)


def _service(stack: ExitStack, server: str | None, settings: Settings) -> Service | None:
    """What to ask in place of searching here."""
    if server is not None:
        from simdist.search.client import Client

        return stack.enter_context(Client(server, token=os.environ.get("SIMDIST_TOKEN")))
    if settings.ray_address is None:
        return None
    from cluster.runtime import ray_session
    from cluster.service.pool import Pool

    stack.enter_context(ray_session(settings))
    return Pool.find()


def _search_here(
    images: list[str],
    question: Question,
    settings: Settings,
    model: str | None,
    weights: Path | None,
) -> list[tuple[QueryImage, list[Hit]]]:
    from simdist.index.collection import Collection
    from simdist.index.partition import require_fitted
    from simdist.search.query import resolve_queries
    from simdist.search.searcher import Searcher
    from simdist.store import open_store

    with open_store(settings) as store:
        opened = Collection.open(store, question.collection or DEFAULT_COLLECTION)
        # Before a model is loaded: an empty collection says so at once.
        require_fitted(opened.partitions)
        queries = resolve_queries(
            images, opened, load_embedder=lambda: _load(model or opened.model, weights)
        )
        searcher = Searcher(opened)
        return [(query, searcher.ask(question.by_vector(vector))) for query, vector in queries]


def _load(model: str, weights: Path | None) -> Embedder:
    from simdist.embedding import Embedder

    return Embedder.load(model, weights=weights)


def _render(found: list[tuple[QueryImage, list[Hit]]]) -> None:
    out = console()
    for query, hits in found:
        if len(found) > 1:
            out.print(f"\n{query.name}", markup=False)
        rows = table("", "score", "label", "image", right=("", "score"))
        for rank, hit in enumerate(hits, start=1):
            label, image = plain(hit.label or ""), plain(short_uri(hit.uri))
            rows.add_row(str(rank), f"{hit.score:.3f}", label, image)
        show(out, rows)
